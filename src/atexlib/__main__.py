"""`python -m atexlib`: run experiments without a notebook, list them, say which results are stale."""

import argparse
import sys

from . import checks, data, experiments
from .experiments import cards, nets


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run it."""
    options = _parser().parse_args(arguments)
    options.action(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atexlib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make the nets or cards of a grid that are missing")
    kinds = run.add_subparsers(dest="experiment", required=True)
    keys = {"dataset": data.DATASETS, "defense": nets.DEFENSES, "seed": int, "preset": tuple(experiments.PRESETS)}
    for name, axes in {"nets": keys, **{name: made.keys for name, made in experiments.EXPERIMENTS.items()}}.items():
        kind = kinds.add_parser(name, help="one or more values of each key; every combination is run")
        for key, allowed in axes.items():
            options = {"type": allowed} if allowed in (int, float) else {"choices": allowed}
            kind.add_argument(f"--{key}", nargs="+", required=True, **options)
        kind.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
        kind.add_argument("--recompute", action="store_true", help="even if the result is there")
        kind.set_defaults(action=_run, axes=list(axes))
    commands.add_parser("list", help="the experiments and their keys").set_defaults(action=_list)
    commands.add_parser("status", help="every net and card, fresh or stale").set_defaults(action=_status)
    return parser


def _run(options: argparse.Namespace) -> None:
    grid = experiments.grid(**{key: getattr(options, key) for key in options.axes})
    device = cards.devices(options.device)
    if options.experiment != "nets":
        specs = [{"experiment": options.experiment, **spec} for spec in grid]
        experiments.run_all(specs, recompute=options.recompute, device=device)
        return
    for spec in grid:
        checks.count("--seed", spec["seed"], low=0)
    for spec in grid:
        print(nets.ensure(**spec, device=device, recompute=options.recompute, progress=True))


def _list(_options: argparse.Namespace) -> None:
    for name, experiment in experiments.EXPERIMENTS.items():
        made = sum(path.startswith(f"cards/{name}/") for path in experiments.store.names("cards", ".json"))
        print(f"{name}: {made} cards")
        for key, allowed in experiment.keys.items():
            words = {int: "a whole number", float: "a number above 0"}.get(allowed) or " | ".join(map(str, allowed))
            print(f"  --{key}: {words}")


def _status(_options: argparse.Namespace) -> None:
    entries = list(experiments.status())
    for entry in entries:
        state = f"stale since a change of {', '.join(entry.stale_since)}" if entry.stale_since else "fresh"
        print(f"{entry.name}  {entry.date:%Y-%m-%d}  {entry.seconds:.0f} s on {entry.device}  {state}")
    print(f"{len(entries)} results, {sum(bool(entry.stale_since) for entry in entries)} of them stale")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept, and the same command goes on from there.")
