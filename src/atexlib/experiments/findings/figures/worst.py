"""Chapter 7: every defence under the worst of seven attacks, beside its cheapest rivals and what noise alone does."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from .... import show
from ....maps.intervals import Interval, two_level
from ...kinds import variants
from ...subjects.nets import TREATED
from .. import report, verdicts, words
from ..claims import METRICS, PAPER_DATA
from ..claims_ours import EPS, cell
from .tables import Table, noted

DATA = PAPER_DATA[0]
PAIRS = (
    ("atex_0.1", "none"),
    ("atex", "none"),
    ("atex", "atex_free"),
    ("atex", "beta"),
    ("atex", "naive_light"),
    ("pooling", "none"),
    ("own", "naive"),
    ("own", "pooling"),
)
PRICES = (0.005, 0.01)


def _rows(dataset: str, eps: float, defenses: Sequence[str] | None) -> list[str]:
    """These defences, or `none` and all of the register that were judged so."""
    if defenses is not None:
        return list(defenses)
    judged = [name for name in TREATED if name != "none" and verdicts.found(**cell(name, eps, dataset))]
    return ["none", *judged]


def _origin(dataset: str, metric: str = "spearman") -> str:
    return report.origin(metric=metric, **cell("none", EPS[-1], dataset))


def worst_table(*, dataset: str = DATA, eps: float = EPS[0], defenses: Sequence[str] | None = None) -> Table:
    """What noise and the worst of seven attacks leave of the maps, beside the accuracy that was lost."""
    rows = {}
    columns: dict[str, dict[str, Interval | None]] = {metric: {} for metric in METRICS}
    for defense in _rows(dataset, eps, defenses):
        here = cell(defense, eps, dataset)
        lost = verdicts.difference("accuracy", cell("none", eps, dataset), here) if defense != "none" else None
        row = {
            "seeds": str(len(verdicts.found(**here))),
            "accuracy lost": "" if defense == "none" else report.text(lost),
        }
        for metric in METRICS:
            row[f"{report.label(metric)}, noise"] = report.text(verdicts.mean(f"noise {metric}", **here))
            columns[metric][report.label(defense)] = found = verdicts.mean(metric, **here)
            row[report.label(metric)] = report.text(found)
        row["Spearman, no ties"] = report.text(verdicts.mean("dithered", **here))
        rows[report.label(defense)] = row
    note = f"eps {eps}, the worst of seven attacks for each image; {_origin(dataset)}"
    said = [words.ends(f"{report.label(metric)} after the worst attack", columns[metric]) for metric in METRICS]
    return noted(pd.DataFrame(rows).T, note, said)


def excess_over_noise(*, dataset: str = DATA, eps: float = EPS[0], defenses: Sequence[str] | None = None) -> Figure:
    """How much of each fall is there under noise that nobody aimed, and how much the attacker adds."""
    figure, axes = plt.subplots(1, len(METRICS), figsize=(8.5, 3.6), sharey=True)
    for ax, metric in zip(axes, METRICS, strict=True):
        names = _rows(dataset, eps, defenses)
        for place, name in enumerate(reversed(names)):
            here = cell(name, eps, dataset)
            worst, noise = (_mean(key, here) for key in (metric, f"noise {metric}"))
            ax.barh(place, 1 - noise, left=noise, color="C7", label="lost to noise" if place == 0 else None)
            ax.barh(place, noise - worst, left=worst, color="C3", label="lost to the attacker" if place == 0 else None)
            ax.barh(place, worst, color="C0", label="left" if place == 0 else None)
        ax.set(xlim=(min(0, ax.get_xlim()[0]), 1), xlabel=report.label(metric))
        ax.set_yticks(range(len(names)), [report.label(name) for name in reversed(names)])
    if handles := axes[0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles[::-1], loc="outside upper center", ncols=3, fontsize=8)
    show.foot(figure, f"eps {eps}; {_origin(dataset)}")
    return figure


def noise_in_words(
    *, dataset: str = DATA, eps: float = EPS[0], defenses: Sequence[str] | None = None, metric: str = "spearman"
) -> words.Said:
    """What noise takes from each net, and what the attacker adds."""
    noise, added = {}, {}
    for name in _rows(dataset, eps, defenses):
        here, title = cell(name, eps, dataset), report.label(name)
        worst, left = _mean(metric, here), _mean(f"noise {metric}", here)
        if worst == worst:
            noise[title], added[title] = 1 - left, left - worst
    measure = f"{report.label(metric)} at eps {eps:g}"
    return words.Said(
        words.ends(f"What noise takes from {measure}", noise), words.ends("What the attacker adds to that", added)
    )


def _mean(metric: str, spec: dict[str, Any]) -> float:
    found = verdicts.mean(metric, **spec)
    return float("nan") if found is None else found.mean


def _differences(first: str, second: str, dataset: str) -> dict[str, Interval | None]:
    """The first defence minus the second, under the worst of seven, where both have cards."""
    return {
        f"{report.label(metric)}, eps {eps}": verdicts.difference(
            metric, cell(first, eps, dataset), cell(second, eps, dataset)
        )
        for metric in METRICS
        for eps in EPS
    }


def rivals_table(*, dataset: str = DATA, pairs: Sequence[tuple[str, str]] = PAIRS) -> Table:
    """Each defence against a cheaper rival or its own ablation: differences on the same images and seeds."""
    rows = {}
    for first, second in pairs:
        found = _differences(first, second, dataset)
        row = {name: report.text(cell) for name, cell in found.items()}
        rows[f"{report.label(first)} minus {report.label(second)}"] = row
    return noted(pd.DataFrame(rows).T, f"worst of seven attacks, image by image; {_origin(dataset)}")


def in_words(*, dataset: str = DATA, pairs: Sequence[tuple[str, str]] = PAIRS) -> Table:
    """The table of rivals as sentences, made from the cards."""
    said = {
        f"{report.label(first)} against {report.label(second)}": report.sentence(_differences(first, second, dataset))
        for first, second in pairs
    }
    return noted(pd.Series(said, name="what the cards say").to_frame(), "above 0: the first is more stable")


def worst_gap_table(*, dataset: str = DATA, defenses: Sequence[str] | None = None) -> Table:
    """The share of the gap from the undefended net to a perfect score that is closed under two and seven attacks."""
    rows = {}
    columns: dict[str, dict[str, Interval | None]] = defaultdict(dict)
    for defense in _rows(dataset, EPS[0], defenses)[1:]:
        row = {}
        for reading, prefix in (("two", "two "), ("seven", "")):
            for metric in METRICS:
                for eps in EPS:
                    pair = [cell(name, eps, dataset) for name in ("none", defense)]
                    values = verdicts.together(f"{prefix}{metric}", pair)
                    closed = None if values is None else two_level(values, statistic=_closed)
                    title = f"{report.label(metric)}, {eps}, worst of {reading}"
                    columns[title][report.label(defense)] = closed
                    row[title] = report.text(closed)
        rows[report.label(defense)] = row
    said = words.leads(columns).replace("columns", "rows")
    return noted(pd.DataFrame(rows), f"share of the gap closed; {_origin(dataset)}", [said])


def _closed(means: Any) -> Any:
    return (means[..., 1] - means[..., 0]) / (1 - means[..., 0])


def centred_table(
    *, dataset: str = DATA, eps: Sequence[float] = EPS, defenses: Sequence[str] = ("none", "naive", "atex", "own")
) -> Table:
    """What two attacks leave of the map of a logit, and of that of the centred logit, each attacked by itself."""
    rows, gaps = {}, defaultdict(list)
    for defense, size in itertools.product(defenses, eps):
        spec: dict[str, Any] = {"kind": "centred", "dataset": dataset, "defense": defense, "eps": size}
        if not verdicts.found(**spec):
            continue
        row = {"seeds": str(len(verdicts.found(**spec))), "unseen": report.text(verdicts.mean("unseen", **spec))}
        for metric in METRICS:
            names = [f"{title}, {metric}" for title in ("centred logit", "logit")]
            centred, whole = (torch.stack(list(verdicts.per_image(name, **spec).values())) for name in names)
            gap = two_level(centred - whole)
            gaps[metric].append(gap)
            row |= {f"{report.label(metric)}, logit": str(two_level(whole)), "centred": str(two_level(centred))}
            row[f"{report.label(metric)}, more"] = str(gap)
            row = {f"{report.label(metric)}, centred" if key == "centred" else key: value for key, value in row.items()}
        rows[report.label(defense), size] = row
    found = pd.DataFrame(rows).T.rename_axis(index=["defence", "eps"]) if rows else {}
    said = [words.counted(report.label(metric), "the centred logit", "the logit", gaps[metric]) for metric in METRICS]
    source = report.origin(kind="centred", dataset=dataset, defense="none", eps=EPS[-1])
    return noted(found, f"worst of two attacks; unseen: its share of the map's length; {source}", said)


def best_at_a_price(*, dataset: str = DATA, seed: int = 0, prices: Sequence[float] = PRICES) -> Table:
    """Of eight trials of each family the most stable that loses at most so much accuracy, on validation images."""

    def card(name: str) -> dict[str, Any] | None:
        cards = verdicts.found(kind="variants", dataset=dataset, variant=name, seed=seed)
        return cards[0]["metrics"] if cards else None

    base, rows, said = card("no training"), {}, []
    if base is None:
        return noted({}, report.MISSING)
    for price in prices:
        sums = {}
        for family, (_, trials) in variants.TRIALS.items():
            known = {name: found for name in trials if (found := card(name)) is not None}
            paid = {name: base["accuracy"] - found["accuracy"] for name, found in known.items()}
            allowed = [name for name in known if paid[name] <= price]
            where = f"at most {100 * price:g} points", family
            if not allowed:
                rows[where] = {"best of 8": "none of them"}
                continue
            worth = {name: sum(known[name][f"{m} {e}"]["mean"] for m in METRICS for e in EPS) for name in allowed}
            best = max(worth, key=worth.__getitem__)
            sums[best] = worth[best]
            rows[where] = {"best of 8": best, "points lost": f"{100 * paid[best]:.2f}"} | {
                f"{report.label(metric)}, eps {eps}": f"{known[best][f'{metric} {eps}']['mean']:.3f}"
                for metric in METRICS
                for eps in EPS
            }
        said.append(words.ends(f"For at most {100 * price:g} points, the sum of the four", sums))
    source = report.origin(kind="variants", dataset=dataset, variant="no training", seed=seed)
    return noted(pd.DataFrame(rows).T.fillna(""), f"worst of two attacks, validation images; {source}", said)
