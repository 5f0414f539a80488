"""The leaderboard: every defence before the judge, what it costs, what speaks against its number."""

import itertools
import math
import statistics
from collections import defaultdict
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from .... import show
from ....defend import DEFENSES
from ....maps.intervals import Interval, two_level
from ...kinds.judged import SUITE
from ...kinds.trial import TRIED
from .. import report, verdicts, words
from ..claims import PAPER_DATA
from .tables import Table, noted

DATA = PAPER_DATA[0]
EPS = 0.05
READ = {"kept": "stands", "spearman": "Spearman", "topk": "top-50"}
PRICES = (0.005, 0.01)
FIRST = "distance"  # the attacker whom every net meets
MARKS = "o^sDvP*"  # seven marks and ten colours: no two defences look alike
LEADER = {"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
CONTROL = {"best of noise": "noise alone"}  # how the table calls what is no attacker


def _cells(dataset: str, eps: float) -> dict[str, dict[str, Any]]:
    """The specs of all nets that were judged, those first of whose maps most stands beyond no defence."""
    cells = {name: {"kind": "judged", "dataset": dataset, "defense": name, "eps": eps} for name in ("none", *DEFENSES)}
    judged = {name: spec for name, spec in cells.items() if verdicts.found(**spec)}
    beyond = {name: statistics.mean(_beyond("kept", spec, cells["none"])) for name, spec in judged.items()}
    return {name: judged[name] for name in sorted(judged, key=lambda name: -beyond[name])}


def _beyond(metric: str, spec: dict[str, Any], none: dict[str, Any]) -> list[float]:
    """A net's mean minus that of the undefended one, for each seed that both have: seeds differ, so compare alike."""
    own, other = (verdicts.per_image(metric, **which) for which in (spec, none))
    return [(own[seed].nanmean() - other[seed].nanmean()).item() for seed in own if seed in other] or [float("nan")]


def _mean(metric: str, spec: dict[str, Any]) -> float:
    found = verdicts.mean(metric, **spec)
    return float("nan") if found is None else found.mean


def _flags(spec: dict[str, Any]) -> list[str]:
    """Every flag of a net's cards, the seed before it."""
    cards = verdicts.found(**spec)
    return [f"seed {card['spec']['seed']}: {flag}" for card in cards for flag in card["metrics"]["flags"]]


def _origin(dataset: str, eps: float) -> str:
    return report.origin(metric="kept", kind="judged", dataset=dataset, defense="none", eps=eps)


def leaderboard(*, dataset: str = DATA, eps: float = EPS) -> Table:
    """Every judged net, the most stable first: what stands of its maps, what noise leaves, accuracy, flags."""
    cells = _cells(dataset, eps)
    rows = {}
    for name, spec in cells.items():
        pair = (cells["none"], spec) if name != "none" and "none" in cells else None
        lost = pair and verdicts.difference("accuracy", *pair)
        rows[report.label(name)] = {
            "seeds": str(len(verdicts.found(**spec))),
            "stands beyond none": report.text(verdicts.difference("kept", *pair[::-1])) if pair else "",
            **{title: report.text(verdicts.mean(metric, **spec)) for metric, title in READ.items()},
            "Spearman, noise": report.text(verdicts.mean("noise spearman", **spec)),
            "accuracy": f"{_mean('accuracy', spec):.3f}",
            "accuracy lost": report.text(lost) if pair else "",
            "accuracy, PGD": f"{_mean('pgd accuracy', spec):.3f}",
            "flags": str(len(_flags(spec))),
            "suite": SUITE,
        }
    note = (
        f"eps {eps}; stands: 0 is chance, 1 a map that nothing moved; beyond none: on the same seeds and images; "
        f"judged by us; {_origin(dataset, eps)}"
    )
    said = [
        words.ends(f"{title} beyond no defence, at each image's worst attack,", _column(metric, cells))
        for metric, title in READ.items()
        if "none" in cells
    ]
    return noted(pd.DataFrame(rows).T, note, said, sortable=True)


def _column(metric: str, cells: dict[str, dict[str, Any]]) -> dict[str, Interval | None]:
    return {report.label(n): verdicts.difference(metric, s, cells["none"]) for n, s in cells.items() if n != "none"}


def against_none(*, dataset: str = DATA, eps: float = EPS) -> words.Said:
    """For each defence whether more of its maps stands than of the undefended net's, and at what price."""
    cells = _cells(dataset, eps)
    said = []
    for name, spec in cells.items():
        if name != "none":
            gain, lost = (
                verdicts.difference(metric, *pair)
                for metric, pair in (("kept", (spec, cells["none"])), ("accuracy", (cells["none"], spec)))
            )
            said.append(words.compared("what stands", report.label(name), "no defence", gain, lost=lost))
    return words.Said(*said)


def pareto(*, dataset: str = DATA, eps: float = EPS) -> Figure:
    """What stands beyond no defence against the accuracy lost: a mark for each defence, a dot for each seed."""
    figure, ax = plt.subplots(figsize=(8.5, 6.5))
    places = _places(dataset, eps)
    points = {name: (statistics.mean(x), statistics.mean(y)) for name, (x, y) in places.items()}
    for number, (name, seeds) in enumerate(places.items()):
        color = f"C{number % 10}"
        ax.scatter(*seeds, 8, color=color)
        ax.scatter(*points[name], 40, color=color, marker=MARKS[number % len(MARKS)])
    if front := sorted(points[name] for name in _front(points)):
        ax.plot(*zip(*front, strict=True), color="grey", linewidth=1, zorder=0)
    ax.set(xlabel="accuracy, minus that of no defence", ylabel="what stands, minus that of no defence")
    show.foot(figure, f"eps {eps}; {_origin(dataset, eps)}")
    figure.draw_without_rendering()  # a label's place needs the size of the axes
    _name(ax, {report.label(name): point for name, point in points.items()})
    return figure


def _name(ax: Axes, points: dict[str, tuple[float, float]]) -> None:
    """A name beside each mark, as near as it can stand without covering another name or a mark; a line leads to it."""
    marks = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in ax.transData.transform([*points.values()])]
    taken = list(marks)
    for (name, point), mark in zip(points.items(), marks, strict=True):
        text = ax.annotate(name, point, (0, 0), fontsize=8, textcoords="offset points", arrowprops=LEADER)
        tries = sorted(itertools.product((6, 18, 34, 52, 72, 96), range(0, 360, 30)), key=lambda try_: try_[0])
        for far, angle in tries:
            x, y = far * math.cos(math.radians(angle)), 0.8 * far * math.sin(math.radians(angle))
            text.set(position=(x, y), ha="left" if x > 1 else "right" if x < -1 else "center", va="center")
            text.get_window_extent()  # of words and line together; it puts the words in their place
            box = Text.get_window_extent(text).padded(1)
            free = not any(box.overlaps(other) for other in taken if other is not mark)
            if free and ax.bbox.contains(*box.min) and ax.bbox.contains(*box.max):
                break
        taken.append(box)


def _places(dataset: str, eps: float) -> dict[str, tuple[list[float], list[float]]]:
    """Accuracy and what stands of each net beyond the undefended one, seed by seed."""
    cells = _cells(dataset, eps)
    return {
        name: (_beyond("accuracy", spec, cells["none"]), _beyond("kept", spec, cells["none"]))
        for name, spec in cells.items()
        if "none" in cells
    }


def _front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Those that no other one beats in both, by accuracy."""
    names = [name for name, point in points.items() if not any(_beats(other, point) for other in points.values())]
    return sorted(names, key=lambda name: points[name])


def _beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first != second and first[0] >= second[0] and first[1] >= second[1]


def front_in_words(*, dataset: str = DATA, eps: float = EPS) -> words.Said:
    """Which nets no other one beats in both accuracy and stability."""
    places = _places(dataset, eps)
    front = _front({name: (statistics.mean(x), statistics.mean(y)) for name, (x, y) in places.items()})
    if not front:
        return words.Said()
    names = ", ".join(report.label(name) for name in front)
    return words.Said(f"No other net is better both in accuracy and in what stands, by the means, than: {names}.")


def by_attacker(*, dataset: str = DATA, eps: float = EPS, metric: str = "spearman") -> Table:
    """What each attacker of the suite leaves by itself, on the images that were not at chance when its turn came."""
    rows, first = {}, {}
    for name, spec in _cells(dataset, eps).items():
        found = [card["metrics"]["attackers"] for card in verdicts.found(**spec)]
        left: dict[str, list[float]] = defaultdict(list)
        for attacker, values in itertools.chain.from_iterable(attackers.items() for attackers in found):
            left[attacker].append(values[metric])
        rows[report.label(name)] = {
            CONTROL.get(attacker, attacker): f"{statistics.mean(values):.3f}" for attacker, values in left.items()
        }
        first[report.label(name)] = statistics.mean(left[FIRST])
    note = f"{report.label(metric)}, means over the seeds; eps {eps}; {_origin(dataset, eps)}"
    said = [words.ends(f"{report.label(metric)} after {FIRST} alone", first)] if first else []
    return noted(pd.DataFrame(rows).T.fillna(""), note, said)


def flags_table(*, dataset: str = DATA, eps: float = EPS) -> Table:
    """What speaks against each number."""
    found = {report.label(name): _flags(spec) for name, spec in _cells(dataset, eps).items()}
    rows = [{"net": name, "flag": flag} for name, flags in found.items() for flag in flags]
    nets = sum(bool(flags) for flags in found.values())
    said = [f"{len(rows)} flags speak against {nets} of {len(found)} rows, some of them against several seeds."]
    return noted(pd.DataFrame(rows), f"eps {eps}; {_origin(dataset, eps)}", said, labelled=False)


def chosen_strengths(*, dataset: str = DATA, seed: int = 0) -> Table:
    """The trials of each later defence, what they cost on validation images, and the strongest for a point at most."""
    rows, found = {}, dict.fromkeys(PRICES, 0)
    for name, chosen in TRIED.items():
        wanted = {"dataset": dataset, "defense": name, "seed": seed}
        cards = [card for card in verdicts.every("trial") if wanted.items() <= card["spec"].items()]
        if not cards:
            continue
        lost = {c["spec"]["strength"]: c["metrics"]["undefended"] - c["metrics"]["accuracy"] for c in cards}
        row = {"setting": str(chosen.strength), "trials": str(len(lost))}
        for price in PRICES:
            allowed = [strength for strength, paid in lost.items() if paid <= price]
            found[price] += bool(allowed)
            row[f"for {100 * price:g} points"] = f"{max(allowed):g}" if allowed else "none of them"
        row["points lost"] = ", ".join(f"{strength:g}: {100 * paid:.2f}" for strength, paid in sorted(lost.items()))
        rows[report.label(name)] = row
    said = [
        f"For at most {100 * price:g} points a strength was found for {count} of {len(rows)}."
        for price, count in found.items()
    ]
    return noted(pd.DataFrame(rows).T, f"validation images; {dataset}; seed {seed}", said)


def suite_strength(*, dataset: str = DATA, eps: float = EPS) -> Table:
    """The suite against six times its budget, and against the seven attacks of chapter 7, on the same images."""
    rivals = {"six times the budget": "judged_long", "the seven of Chapter 7": "worst"}
    rows, said = {}, []
    for name, spec in _cells(dataset, eps).items():
        for rival, kind in rivals.items():
            gaps = {metric: _less(metric, spec, {**spec, "kind": kind}) for metric in ("spearman", "topk")}
            if None in gaps.values():
                continue
            rows[report.label(name), rival] = {report.label(metric): str(gap) for metric, gap in gaps.items()}
            said += [
                words.compared(f"{report.label(metric)}, {report.label(name)}", "what the suite leaves", rival, gap)
                for metric, gap in gaps.items()
            ]
    found = pd.DataFrame(rows).T.rename_axis(index=["net", "the suite minus"]) if rows else {}
    return noted(found, f"above 0: the suite is the weaker; eps {eps}; {_origin(dataset, eps)}", said)


def _less(metric: str, first: dict[str, Any], second: dict[str, Any]) -> Interval | None:
    """The mean of `first` minus `second` over the seeds and the first images that both have; None if there are none."""
    one, other = (verdicts.per_image(metric, **spec) for spec in (first, second))
    pairs = [(one[seed], other[seed]) for seed in one if seed in other]
    return two_level(torch.stack([a - b[: len(a)] for a, b in pairs])) if pairs else None
