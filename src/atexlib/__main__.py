"""`python -m atexlib`: make results without a notebook, list their kinds, say which are stale, walk the canaries."""

import argparse
import sys
from typing import Any

from tqdm import tqdm

from . import checks, experiments
from .experiments import KINDS
from .experiments.engine import canary, results, store
from .experiments.engine.kinds import Recompute

NUMBERS = {int: "a whole number", float: "a number above 0"}
RECOMPUTE: dict[str | None, Recompute] = {None: False, "all": True, "stale": "stale"}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run it."""
    options = _parser().parse_args(arguments)
    options.action(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atexlib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make the results of a grid that are missing")
    kinds = run.add_subparsers(dest="kind", required=True)
    for name, kind in KINDS.items():
        one = kinds.add_parser(name, help="one or more values of each key; every combination is run")
        for key, allowed in kind.keys.items():
            options: dict[str, Any] = {"type": allowed} if isinstance(allowed, type) else {"choices": list(allowed)}
            one.add_argument(f"--{key}", nargs="+", required=True, **options)
        one.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
        words = "even if the result is there; `stale`: only if it is out of date or cannot be read"
        one.add_argument("--recompute", nargs="?", const="all", choices=("all", "stale"), help=words)
        one.set_defaults(action=_run)
    commands.add_parser("list", help="the kinds of result and their keys").set_defaults(action=_list)
    commands.add_parser("status", help="every result, fresh or stale").set_defaults(action=_status)
    watch = commands.add_parser("canary", help="a tiny run of every kind of result against the numbers recorded")
    watch.add_argument("kinds", nargs="*", metavar="KIND", help="all kinds if none is named")
    watch.add_argument("--write", action="store_true", help="record the numbers of today, after a line of history")
    watch.set_defaults(action=_canary)
    return parser


def _run(options: argparse.Namespace) -> None:
    specs = experiments.grid(kind=options.kind, **{key: getattr(options, key) for key in KINDS[options.kind].keys})
    for spec in specs:
        checks.count("--seed", spec["seed"], low=0)
    device = results.devices(options.device)
    print(*experiments.run_all(specs, recompute=RECOMPUTE[options.recompute], device=device), sep="\n")


def _list(_options: argparse.Namespace) -> None:
    for name, kind in KINDS.items():
        print(f"{name}, version {kind.version}: {len(store.names(name, kind.suffix))} results")
        for key, allowed in kind.keys.items():
            print(f"  --{key}: {NUMBERS[allowed] if isinstance(allowed, type) else ' | '.join(allowed)}")


def _status(_options: argparse.Namespace) -> None:
    entries = list(experiments.status())
    for entry in entries:
        made = f"{entry.date:%Y-%m-%d}  {entry.seconds:.0f} s on {entry.device}  " if entry.date else ""
        print(f"{entry.name}  {made}{entry.state}")
    print(f"{len(entries)} results, {sum(bool(entry.stale_since) for entry in entries)} of them stale")


def _canary(options: argparse.Namespace) -> None:
    for name in options.kinds:
        checks.one_of("kind", name, KINDS)
    names = options.kinds or list(KINDS)
    if options.write:
        canary.write(names)
        return
    faults = [fault for name in tqdm(names, desc="canaries") for fault in canary.faults(name)]
    if faults:
        raise ValueError("\n".join(faults))
    print(f"{len(names)} canaries sing as recorded")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept, and the same command goes on from there.")
