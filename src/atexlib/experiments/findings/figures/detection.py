"""Chapter 15: can a manipulated input be told from a clean one, and what does it cost who knows how it is told?"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .... import show
from ....detect import DETECTORS
from ....maps.ranking import roc
from .. import report, verdicts, words
from ..claims import PAPER_DATA
from ..claims_detection import ATTACKS, EPS, NETS, UNUSUAL, apart, cell, evaded, listed
from .tables import Table, noted

DATA = PAPER_DATA[0]
GROUPS = {"distance": "Distance", "untargeted": "Untargeted", "target_map": "TargetMap"}  # as Chapter 2 calls them
RATES = np.linspace(0, 1, 101)  # of false alarms, where the seeds' ROC curves are read and their mean is drawn
# What an attacker knows: the name in a legend, the metric's first word, how it is drawn.
KNOWING = {
    "no detector": ("blind unseen", "o", "C7"),
    "attacker does not know it": ("blind", "s", "C0"),
    "attacker knows it": ("knowing", "D", "C3"),
}


def auc_table(
    *, dataset: str = DATA, eps: float = EPS, defense: str = "none", groups: Sequence[str] = (*ATTACKS, *UNUSUAL)
) -> Table:
    """The area under each detector's ROC curve, for attacks on maps and for what is merely unusual."""
    return _table("", "area under the ROC curve", dataset, eps, defense, groups)


def alarm_table(
    *, dataset: str = DATA, eps: float = EPS, defense: str = "none", groups: Sequence[str] = (*ATTACKS, *UNUSUAL)
) -> Table:
    """The share of images at which each detector alarms, its threshold set on clean validation images."""
    return _table(", flagged", "share that is flagged", dataset, eps, defense, ["clean", *groups])


def _table(metric: str, measure: str, dataset: str, eps: float, defense: str, groups: Sequence[str]) -> Table:
    here = cell(defense, eps, dataset)
    cells = {
        name: {group: verdicts.mean(f"{name}, {group}{metric}", **here) for group in groups} for name in listed(here)
    }
    rows = {
        DETECTORS[name].label: {GROUPS.get(g, g): report.text(v) for g, v in row.items()} for name, row in cells.items()
    }
    said = [
        words.ends(
            f"{GROUPS.get(group, group)}: the {measure}",
            {DETECTORS[name].label: row[group] for name, row in cells.items()},
        )
        for group in groups
        if group != "clean"
    ]
    note = f"{report.label(defense)}, eps {eps:g}; intervals over changed images and seeds; {report.origin(**here)}"
    return noted(pd.DataFrame(rows).T, note, said)


def roc_curves(
    *, dataset: str = DATA, eps: float = EPS, defenses: Sequence[str] = NETS, group: str = ATTACKS[0]
) -> Figure:
    """The share of attacked images that is caught against the share of clean ones that alarms, for each detector."""
    figure, axes = plt.subplots(1, len(defenses), figsize=(8.5, 4.8), sharey=True, squeeze=False)
    for ax, defense in zip(axes[0], defenses, strict=True):
        here = cell(defense, eps, dataset)
        for number, name in enumerate(listed(here)):
            attacked, clean = (verdicts.per_image(f"{name}, {these}", **here) for these in (group, "clean"))
            curves = [np.interp(RATES, *roc(ranks, clean[seed])) for seed, ranks in attacked.items()]
            look: dict[str, Any] = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
            ax.plot(RATES, np.mean(curves, axis=0), label=DETECTORS[name].label, **look)
        ax.plot([0, 1], [0, 1], ":", color="C7")
        ax.set(xlabel="clean images that alarm", title=report.label(defense), xlim=(0, 1), ylim=(0, 1))
        ax.set_xticks([0, 0.25, 0.5, 0.75])
    axes[0, 0].set_ylabel("attacked images that are caught")
    if handles := axes[0, 0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8)
    show.foot(
        figure, f"attack {GROUPS.get(group, group)}, eps {eps:g}; {report.origin(**cell(defenses[0], eps, dataset))}"
    )
    return figure


def roc_in_words(
    *, dataset: str = DATA, eps: float = EPS, defenses: Sequence[str] = NETS, group: str = ATTACKS[0]
) -> words.Said:
    """Which detector has the largest area on each net, and which the smallest."""
    said = []
    for defense in defenses:
        here = cell(defense, eps, dataset)
        areas = {DETECTORS[name].label: verdicts.mean(f"{name}, {group}", **here) for name in listed(here)}
        said.append(words.ends(f"{report.label(defense)}, {GROUPS.get(group, group)}: the area under the curve", areas))
    return words.Said(*said)


def price_of_detectors(
    metric: str = "spearman", *, dataset: str = DATA, eps: float = EPS, defenses: Sequence[str] = NETS
) -> Figure:
    """What is left of the maps when a flagged image wins nothing: by who does not know the detector, and who does."""
    figure, axes = plt.subplots(1, len(defenses), figsize=(8.5, 4.4), sharey=True, squeeze=False)
    every = [name for name in DETECTORS if any(name in evaded(d, eps, dataset) for d in defenses)]
    for ax, defense in zip(axes[0], defenses, strict=True):
        cells = evaded(defense, eps, dataset)
        for title, (known, mark, colour) in KNOWING.items():
            for place, name in enumerate(reversed(every)):
                found = verdicts.mean(f"{known} {metric}", **cells[name]) if name in cells else None
                if found is not None:
                    ax.plot([found.low, found.high], [place, place], color=colour, linewidth=1)
                    ax.plot(found.mean, place, mark, color=colour, markersize=5)
            ax.plot([], [], mark, color=colour, label=title)
        ax.set(xlim=(-0.2, 1.05), xlabel=report.label(metric), title=report.label(defense))
        ax.set_yticks(range(len(every)), [DETECTORS[name].label for name in reversed(every)])
    handles = axes[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)
    first = next(iter(evaded(defenses[0], eps, dataset).values()), None)
    source = report.MISSING if first is None else report.origin(**first)
    show.foot(figure, f"attack {GROUPS['distance']}, eps {eps:g}; a flagged image counts as 1; {source}")
    return figure


def price_in_words(
    metric: str = "spearman", *, dataset: str = DATA, eps: float = EPS, defenses: Sequence[str] = NETS
) -> words.Said:
    """Which detector costs who knows it most, and how often the images of both attackers are flagged."""
    said = []
    for defense in defenses:
        title, left, flags = report.label(defense), {}, {}
        for name, spec in evaded(defense, eps, dataset).items():
            label = DETECTORS[name].label
            left[label] = verdicts.mean(f"knowing {metric}", **spec)
            flags[label] = verdicts.mean("knowing flagged", **spec)
        said.append(words.ends(f"{title}: {report.label(metric)} that is left by who knows the detector", left))
        said.append(words.ends(f"{title}: the share of that attacker's images that is flagged", flags, decimals=2))
    return words.Said(*said)


def cost_table(metric: str = "spearman", *, dataset: str = DATA, eps: float = EPS, defense: str = "none") -> Table:
    """For each detector what both attackers leave, how often they are flagged, and what knowing it takes."""
    rows, gaps = {}, {}
    for name, spec in evaded(defense, eps, dataset).items():
        label = DETECTORS[name].label
        row = {"seeds": str(len(verdicts.found(**spec)))}
        for title in ("clean", "blind", "knowing"):
            row[f"{title}: flagged"] = report.text(verdicts.mean(f"{title} flagged", **spec))
        for title in ("blind", "knowing"):
            row[f"{title}: {report.label(metric)} left"] = report.text(verdicts.mean(f"{title} {metric}", **spec))
        gaps[label] = apart(spec, f"blind {metric}", f"knowing {metric}")
        rows[label] = row | {"what knowing takes": report.text(gaps[label])}
    said = [words.ends(f"What knowing the detector takes in {report.label(metric)}", gaps)]
    source = report.origin(**next(iter(evaded(defense, eps, dataset).values()))) if rows else report.MISSING
    return noted(pd.DataFrame(rows).T if rows else {}, f"{report.label(defense)}, eps {eps:g}; {source}", said)


def carried_over(*, dataset: str = DATA, eps: float = EPS, defense: str = "none") -> Table:
    """The share of the images made under the eyes of one detector (rows) at which another one (columns) alarms."""
    cells = evaded(defense, eps, dataset)
    rows, means = {}, {}
    for name, spec in cells.items():
        others = [other for other in DETECTORS if f"flagged by {other}" in verdicts.found(**spec)[0]["metrics"]]
        found = {DETECTORS[other].label: verdicts.mean(f"flagged by {other}", **spec) for other in others}
        rows[DETECTORS[name].label] = {label: "" if v is None else f"{v.mean:.2f}" for label, v in found.items()}
        alone = [v.mean for label, v in found.items() if v is not None and label != DETECTORS[name].label]
        means[DETECTORS[name].label] = sum(alone) / len(alone)
    said = [words.ends("The mean share at which the other detectors alarm, for images that escape one,", means)]
    source = report.origin(**next(iter(cells.values()))) if cells else report.MISSING
    return noted(pd.DataFrame(rows).T if rows else {}, f"{report.label(defense)}, eps {eps:g}; {source}", said)
