"""`python -m atexlib`: run experiments without a notebook, list them, say which results are stale."""

import argparse
import sys

from . import checks, data, experiments, vision
from .experiments import cards, families, nets, pictures

RECOMPUTE = {None: False, "all": True, "stale": "stale"}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run it."""
    options = _parser().parse_args(arguments)
    options.action(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atexlib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make the nets or cards of a grid that are missing")
    kinds = run.add_subparsers(dest="experiment", required=True)
    keys = {"dataset": data.DATASETS, "seed": int, "preset": tuple(experiments.PRESETS)}
    makers = {
        "nets": (_nets, {"defense": nets.DEFENSES, **keys}),
        "families": (
            _families,
            {"model": tuple(vision.MODELS), "wide": ("no", "yes"), **keys, "dataset": pictures.DATASETS},
        ),
        **{name: (_cards, experiment.keys) for name, experiment in experiments.EXPERIMENTS.items()},
    }
    for name, (make, axes) in makers.items():
        kind = kinds.add_parser(name, help="one or more values of each key; every combination is run")
        for key, allowed in axes.items():
            options = {"type": allowed} if allowed in (int, float) else {"choices": allowed}
            kind.add_argument(f"--{key}", nargs="+", required=True, **options)
        kind.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
        kind.set_defaults(action=_run, make=make, axes=list(axes))
        words = "even if the result is there; `stale`: only if it is out of date or cannot be read"
        kind.add_argument("--recompute", nargs="?", const="all", choices=("all", "stale"), help=words)
    commands.add_parser("list", help="the experiments and their keys").set_defaults(action=_list)
    commands.add_parser("status", help="every net and card, fresh or stale").set_defaults(action=_status)
    return parser


def _run(options: argparse.Namespace) -> None:
    grid = experiments.grid(**{key: getattr(options, key) for key in options.axes})
    for spec in grid:
        checks.count("--seed", spec["seed"], low=0)
    options.make(grid, cards.devices(options.device), options)


def _nets(grid: list[dict], device: str, options: argparse.Namespace) -> None:
    for spec in grid:
        print(nets.ensure(**spec, device=device, recompute=RECOMPUTE[options.recompute], progress=True))


def _families(grid: list[dict], device: str, options: argparse.Namespace) -> None:
    for spec in grid:
        chosen = {**spec, "wide": spec["wide"] == "yes", "recompute": RECOMPUTE[options.recompute]}
        print(families.ensure(**chosen, device=device))


def _cards(grid: list[dict], device: str, options: argparse.Namespace) -> None:
    specs = [{"experiment": options.experiment, **spec} for spec in grid]
    experiments.run_all(specs, recompute=RECOMPUTE[options.recompute], device=device)


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
        made = f"{entry.date:%Y-%m-%d}  {entry.seconds:.0f} s on {entry.device}  " if entry.date else ""
        print(f"{entry.name}  {made}{entry.state}")
    print(f"{len(entries)} results, {sum(bool(entry.stale_since) for entry in entries)} of them stale")


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept, and the same command goes on from there.")
