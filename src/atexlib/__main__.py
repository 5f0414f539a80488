"""The command `atexlib`: results and their canaries; nets judged, entries checked, an exam for auditors."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

# What needs torch is imported where it is used: a question for help waits for nothing.


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(with_kinds=arguments[:1] == ["run"]).parse_args(arguments)
    options.action(options)


def command() -> None:
    """Run the command line; what is wrong with the input or the disk is told in a line, without a trace."""
    try:
        main()
    except BrokenPipeError:  # whoever read the output has enough, as in `atexlib status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was finished is kept, and the same command goes on from there.")


def _parser(*, with_kinds: bool) -> argparse.ArgumentParser:
    called = "atexlib" if Path(sys.argv[0]).stem == "atexlib" else "python -m atexlib"
    parser = argparse.ArgumentParser(prog=called, description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="make the results of a grid that are missing, or whatever is worth most")
    if with_kinds:
        _add_kinds(run)
    commands.add_parser("list", help="the kinds of result and their keys").set_defaults(action=_list)
    commands.add_parser("status", help="every result, fresh or stale").set_defaults(action=_status)
    watch = commands.add_parser("canary", help="a tiny run of every kind of result against the numbers recorded")
    watch.add_argument("kinds", nargs="*", metavar="KIND", help="all kinds if none is named")
    watch.add_argument("--write", action="store_true", help="record the numbers of today, after a line of history")
    watch.set_defaults(action=_canary)
    judge = commands.add_parser("judge", help="a net of your own before the judge: a card, and what it says")
    judge.add_argument("net", metavar="FILE.py:function", help="a file and the function in it that returns the net")
    judge.add_argument("--name", required=True, help="what the net is called")
    judge.add_argument("--dataset", default="fashion-mnist", help="whose test images are taken (fashion-mnist)")
    judge.add_argument("--images", type=int, default=128, help="how many of them, the first ones (128)")
    judge.add_argument("--eps", type=float, default=0.05, help="most that a pixel may change (0.05)")
    judge.add_argument("--explainer", nargs="+", default=["gradient"], help="whose maps (gradient)")
    judge.add_argument("--suite", default="v1", help="the version of the suite (v1); smoke shows that all runs")
    judge.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
    judge.add_argument("--card", help="where the card goes (NAME.json)")
    judge.set_defaults(action=_judge)
    entry = commands.add_parser("entry", help="the folder of an entry for the leaderboard: whole, and judged again")
    entry.add_argument("folder", help="with net.py, weights.safetensors, entry.toml and card.json")
    entry.add_argument("--images", type=int, default=16, help="how many are judged again (16)")
    entry.set_defaults(action=_entry)
    exam = commands.add_parser("exam", help="nets without names: which were manipulated? Write them, or grade a sheet")
    exam.add_argument("folder", nargs="?", default="exam", help="where the nets, images and sheet go (exam)")
    exam.add_argument("--grade", metavar="SHEET", help="in place of writing: the grade of a sheet that is filled in")
    exam.add_argument("--sit", action="store_true", help="in place of writing: this library's auditor fills the sheet")
    exam.add_argument("--dataset", default="fashion-mnist", help="whose images the nets know (fashion-mnist)")
    exam.add_argument("--preset", default="reduced", help="how long the liars were trained (reduced)")
    exam.add_argument("--seed", type=int, default=0, help="which exam (0)")
    exam.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
    exam.set_defaults(action=_exam)
    return parser


def _add_kinds(run: argparse.ArgumentParser) -> None:
    from .data import DATASETS
    from .experiments import KINDS, PRESETS

    run.set_defaults(action=_run_all)
    run.add_argument("--all", action="store_true", help="in place of a kind: what is worth most, by several processes")
    run.add_argument("--minutes", type=float, help="with --all: how long")
    run.add_argument("--preset", choices=list(PRESETS), default="paper", help="with --all (paper)")
    run.add_argument("--dataset", nargs="+", choices=list(DATASETS), help="with --all: those of the tables if none")
    run.add_argument("--seed", nargs="+", type=int, help="with --all: 0 to 4 if none")
    run.add_argument("--workers", type=int, help="with --all: processes; as many as cores if not said, at most 12")
    run.add_argument("--tar", help="with --all: a file for all that was made")
    run.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
    kinds = run.add_subparsers(dest="kind", metavar="KIND")
    for name, kind in KINDS.items():
        one = kinds.add_parser(name, help="one or more values of each key; every combination is run")
        for key, allowed in kind.keys.items():
            options: dict[str, Any] = {"type": allowed} if isinstance(allowed, type) else {"choices": list(allowed)}
            one.add_argument(f"--{key}", nargs="+", required=True, **options)
        one.add_argument("--device", default="auto", help="cpu, cuda, or auto (the default)")
        words = "even if the result is there; `stale`: only if it is out of date or cannot be read"
        one.add_argument("--recompute", nargs="?", const="all", choices=("all", "stale"), help=words)
        one.set_defaults(action=_run)


def _run(options: argparse.Namespace) -> None:
    from . import checks, experiments
    from .experiments.engine.results import devices

    keys = experiments.KINDS[options.kind].keys
    specs = experiments.grid(kind=options.kind, **{key: getattr(options, key) for key in keys})
    for spec in specs:
        checks.count("--seed", spec["seed"], low=0)
    recompute: Any = {None: False, "all": True, "stale": "stale"}[options.recompute]
    print(*experiments.run_all(specs, recompute=recompute, device=devices(options.device)), sep="\n")


def _run_all(options: argparse.Namespace) -> None:
    from . import checks
    from .experiments.engine import queue
    from .experiments.engine.results import devices
    from .experiments.findings import plan

    if not options.all:
        raise ValueError("run is called without a kind; name one (see `list`), or pass --all --minutes M.")
    if options.minutes is None:
        raise ValueError("--all is passed without --minutes; say how long it may take.")
    checks.number("--minutes", options.minutes, open_low=True)
    for seed in options.seed or ():
        checks.count("--seed", seed, low=0)
    chosen = {"datasets": options.dataset, "seeds": options.seed}
    specs = plan.by_worth(options.preset, **{key: value for key, value in chosen.items() if value})
    seconds = 60 * options.minutes
    device = devices(options.device)
    found = queue.run(specs, seconds=seconds, device=device, workers=options.workers, progress=True)
    if options.tar:
        queue.pack(found.made, Path(options.tar))
    for name, reason in found.failed.items():
        print(f"failed: {name}: {reason}")
    print(f"{len(found.made)} results made, {len(found.failed)} failed, {len(found.left)} left for the next run")


def _judge(options: argparse.Namespace) -> None:
    from . import checks, judge
    from .data import DATASETS, load
    from .experiments.engine.results import devices

    checks.one_of("--dataset", options.dataset, DATASETS)
    checks.count("--images", options.images, low=2)
    if not options.card and Path(options.name).name != (options.name or "."):
        raise ValueError(f"--name is {options.name!r}, after which no file can be called; say --card, where it goes.")
    net = judge.made_by(options.net).to(devices(options.device))
    images = load(options.dataset, "test")
    some = slice(0, options.images)
    labels = images.labels[some]
    keys = {"eps": options.eps, "explainers": options.explainer, "suite": options.suite, "name": options.name}
    found = judge.judge(net, images.images[some], labels, **keys)
    path = found.save(options.card or f"{options.name}.json")
    print(found.table.to_string(), found, sep="\n")
    for explainer, flags in found.flags.items():
        print(*(f"flag, {explainer}: {flag}" for flag in flags), sep="\n")
    print(path)


def _entry(options: argparse.Namespace) -> None:
    from . import judge

    print(judge.check_entry(options.folder, images=options.images), "The card agrees.", sep="\n")


def _exam(options: argparse.Namespace) -> None:
    from . import chapters
    from .experiments.engine.results import devices

    if options.grade:
        found = chapters.grade(options.grade)
        print(found, *(f"net {number}: {what}" for number, what in found.key.items()), sep="\n")
    elif options.sit:
        print(chapters.sit(options.folder, progress=True))
    else:
        keys = {"dataset": options.dataset, "preset": options.preset, "seed": options.seed}
        print(chapters.exam(options.folder, **keys, device=devices(options.device), progress=True))


def _list(_options: argparse.Namespace) -> None:
    from .experiments import KINDS
    from .experiments.engine import store

    numbers: dict[Any, str] = {int: "a whole number", float: "a number above 0"}
    for name, kind in KINDS.items():
        print(f"{name}, version {kind.version}: {len(store.names(name, kind.suffix))} results")
        for key, allowed in kind.keys.items():
            print(f"  --{key}: {numbers[allowed] if isinstance(allowed, type) else ' | '.join(allowed)}")


def _status(_options: argparse.Namespace) -> None:
    from .experiments import status

    entries = list(status())
    for entry in entries:
        made = f"{entry.date:%Y-%m-%d}  {entry.seconds:.0f} s on {entry.device}  " if entry.date else ""
        print(f"{entry.name}  {made}{entry.state}")
    print(f"{len(entries)} results, {sum(bool(entry.stale_since) for entry in entries)} of them stale")


def _canary(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from . import checks
    from .experiments import KINDS
    from .experiments.engine import canary

    for name in options.kinds:
        checks.one_of("kind", name, KINDS)
    names = options.kinds or [name for name, kind in KINDS.items() if kind.canary]
    if options.write:
        canary.write(names)
        return
    faults = [fault for name in tqdm(names, desc="canaries") for fault in canary.faults(name)]
    if faults:
        raise ValueError("\n".join(faults))
    print(f"{len(names)} canaries sing as recorded")


if __name__ == "__main__":
    command()
