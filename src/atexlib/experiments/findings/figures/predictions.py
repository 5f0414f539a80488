"""Chapters 8 and 9: maps and adversarial training after 0, 1, 2, ... iterations of a defence."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from .... import show
from ....maps.intervals import Interval
from ...kinds.efficacy import DIRECTIONS, RECIPES
from ...kinds.smoothness import CHANCE, MAPS
from ...kinds.tables import EXPLAINER_SAMPLES
from ...subjects.nets import ITERATED
from .. import report, verdicts, words
from ..claims import PAPER_DATA
from ..claims_predictions import MOST, SHARES, efficacy, maps, scatter
from .tables import Table, legend, noted, origins

SCALES = {"max": "largest is 1", "raw": "as they are", "l1": "sum is 1"}
TITLES = {
    "blur 1": "gradient, blur of 1 pixel",
    "blur 2": "gradient, blur of 2 pixels",
    "smoothgrad": f"SmoothGrad, {EXPLAINER_SAMPLES} copies",
    CHANCE: "random numbers",
}
MEASURES = {
    "SSIM to SmoothGrad": "ssim max",
    "total variation": "variation",
    "mass": "mass",
    "deletion": "deletion",
    "insertion": "insertion",
    "Spearman after attack": "spearman",
}
ATTACKS = {"before": "FGSM, before", "fgsm": "new FGSM, after", "pgd": "PGD, after"}
MADE = dict(zip(RECIPES, ("once", "anew"), strict=True))  # how the images of the training were made


def _path(ax: Axes, metric: str, after: Callable[[int], dict[str, Any]], *, label: str) -> None:
    """Draw a measure against the number of iterations, with its 95 % band; nothing where no card is."""
    cells = {count: verdicts.mean(metric, **after(count)) for count in range(MOST + 1)}
    known = {count: cell for count, cell in cells.items() if cell is not None}
    if known:
        mean, low, high = zip(*known.values(), strict=True)
        (line,) = ax.plot(list(known), mean, marker="o", label=label)
        ax.fill_between(list(known), low, high, alpha=0.2, color=line.get_color())
    ax.set(xlabel="ATEX iterations", xticks=range(MOST + 1))


def nearness_curves(*, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex") -> Figure:
    """Similarity to the SmoothGrad map against the iterations, in a panel for each way to scale the maps."""
    figure, axes = plt.subplots(1, len(SCALES), figsize=(9, 3))
    for ax, (scale, title) in zip(axes, SCALES.items(), strict=True):
        for dataset in datasets:
            _path(ax, f"ssim {scale}", functools.partial(maps, dataset, defense), label=dataset)
        ax.set(title=title)
    axes[0].set_ylabel("SSIM to SmoothGrad")
    legend(axes[0], fontsize=8)
    show.foot(figure, origins(maps(name, defense, MOST) for name in datasets))
    return figure


def nearness_in_words(*, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex") -> words.Said:
    """Similarity to the SmoothGrad map after all iterations against before, for each data set of the figure."""
    first, last = (f"after {MOST} iterations of {report.label(defense)}", "before")
    said = []
    for dataset in datasets:
        gaps = [
            verdicts.difference(f"ssim {scale}", maps(dataset, defense, MOST), maps(dataset, defense, 0))
            for scale in SCALES
        ]
        said.append(words.counted(f"{dataset}, SSIM to SmoothGrad", f"the net {first}", f"the net {last}", gaps))
    return words.Said(*said)


def smoothness_table(*, datasets: Sequence[str] = PAPER_DATA) -> Table:
    """What the maps of the undefended net, and the gradients of the other nets, are like on each data set."""
    parts, said = {}, []
    for dataset in datasets:
        specs = {TITLES.get(of, of): maps(dataset, "plain", 0, of=of) for of in MAPS}
        specs |= {report.label(net): maps(dataset, net, MOST) for net in ITERATED}
        specs = {name: spec for name, spec in specs.items() if verdicts.found(**spec)}
        cells = {
            name: {title: _measured(metric, spec) for title, metric in MEASURES.items()} for name, spec in specs.items()
        }
        rows = {
            name + report.seeds([spec]): {
                title: "–" if cell is None else str(cell) for title, cell in cells[name].items()
            }
            for name, spec in specs.items()
        }
        parts[dataset] = pd.DataFrame(rows).T
        columns = {title: {name: row[title] for name, row in cells.items()} for title in MEASURES}
        said += [words.ends(f"{dataset}: {title}", column) for title, column in columns.items()]
        said += _off_the_object(dataset, cells)
    note = "\n".join(report.origin(**maps(name, "plain", 0)) for name in datasets)
    return noted(pd.concat(parts), note, said)


def _off_the_object(dataset: str, cells: dict[str, dict[str, Interval | None]]) -> list[str]:
    """How many maps have less mass on the object than random numbers have, by the means; nothing without these."""
    masses = {name: row["mass"].mean for name, row in cells.items() if row["mass"] is not None}
    level = masses.pop(TITLES[CHANCE], None)
    if level is None:
        return []
    below = sum(mass < level for mass in masses.values())
    return [f"{dataset}: {below} of {len(masses)} maps have less mass on the object than random numbers, {level:.3f}."]


def _measured(metric: str, spec: dict[str, Any]) -> Interval | None:
    """The mean of a measure; None where the map has none: random numbers have no slope to attack."""
    is_there = metric in verdicts.found(**spec)[0]["metrics"]
    return verdicts.mean(metric, **spec) if is_there else None


def efficacy_curves(*, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex") -> Figure:
    """Accuracy under attack against the iterations before adversarial training, with the control as a cross."""
    figure, axes = plt.subplots(1, len(datasets), figsize=(9, 3.4), sharey=True, squeeze=False)
    for ax, dataset in zip(axes[0], datasets, strict=True):
        for metric, label in ATTACKS.items():
            _path(ax, metric, functools.partial(efficacy, dataset, defense), label=label)
        control = verdicts.mean("fgsm", **efficacy(dataset, "plain", MOST))
        if control:
            ax.plot(MOST, control.mean, "kX", markersize=9, label="control, new FGSM")
        ax.set(title=dataset)
    axes[0, 0].set(ylabel="accuracy")
    legend(axes[0, 0], fontsize=8, loc="upper right")
    show.foot(figure, origins(efficacy(name, defense, MOST) for name in datasets))
    return figure


def efficacy_in_words(*, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex") -> words.Said:
    """Each accuracy of the figure after all iterations against none, and against the control."""
    net, said = f"{MOST} iterations of {report.label(defense)}", []
    for dataset in datasets:
        after = efficacy(dataset, defense, MOST)
        for metric, title in ATTACKS.items():
            gap = verdicts.difference(metric, after, efficacy(dataset, defense, 0))
            said.append(words.compared(f"{dataset}, accuracy under {title}", net, "no iteration", gap))
        gap = verdicts.difference("fgsm", after, efficacy(dataset, "plain", MOST))
        said.append(words.compared(f"{dataset}, accuracy under {ATTACKS['fgsm']}", net, "the control", gap))
    return words.Said(*said)


def share_table(
    *, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex", shares: Sequence[float] = (*SHARES, 1.0)
) -> Table:
    """Accuracy under a new round of FGSM, by the share of the training images of which an FGSM image was added."""
    rows = {}
    for dataset in datasets:
        for title, count in {"no ATEX": 0, f"{MOST} iterations of {report.label(defense)}": MOST}.items():
            cells = {share: verdicts.mean("fgsm", **efficacy(dataset, defense, count, share=share)) for share in shares}
            name = f"{dataset}, {title}{report.seeds([efficacy(dataset, defense, count)])}"
            rows[name] = {f"{share:.0%}": report.text(cell) for share, cell in cells.items()}
    source = origins(efficacy(name, defense, MOST) for name in datasets)
    said = []
    for dataset in datasets:
        gaps = [
            verdicts.difference("fgsm", *(efficacy(dataset, defense, n, share=share) for n in (MOST, 0)))
            for share in shares
        ]
        name = f"{MOST} iterations of {report.label(defense)}"
        said.append(words.counted(f"{dataset}, all shares", name, "no ATEX", gaps))
    return noted(pd.DataFrame(rows).T, f"accuracy under a new round of FGSM; {source}", said)


def direction_table(
    *, datasets: Sequence[str] = PAPER_DATA, directions: Sequence[str] = ("clean", "fgsm", *DIRECTIONS)
) -> Table:
    """Accuracy of the adversarially trained nets in several directions, by what was done before and how."""
    after = {"no ATEX": ("plain", 0)} | {report.label(net): (net, MOST) for net in ITERATED}
    rows, said = {}, []
    for dataset in datasets:
        columns: dict[str, dict[str, Any]] = {name: {} for name in directions}
        for recipe, made in MADE.items():
            for title, net in after.items():
                spec = efficacy(dataset, *net, recipe=recipe)
                if verdicts.found(**spec):
                    cells = {name: verdicts.mean(name, **spec) for name in directions}
                    for name, cell in cells.items():
                        columns[name][f"{title}, {made}"] = cell
                    row = {name: report.text(cell) for name, cell in cells.items()}
                    rows[f"{dataset}, {title}, {made}{report.seeds([spec])}"] = row
        said.append(f"{dataset}. {words.leads(columns)}")
    return noted(pd.DataFrame(rows).T, f"accuracy; {origins(efficacy(name, 'plain', 0) for name in datasets)}", said)


def efficacy_scatter(
    *, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex", metric: str = "spearman"
) -> Figure:
    """Stability before against accuracy after adversarial training, one point a net."""
    figure, ax = plt.subplots(figsize=(6, 3.4))
    for number, dataset in enumerate(datasets):
        points = scatter(dataset, defense, metric)
        if points is not None:
            path = MOST + 1  # the defence after 0, 1, 2, ... iterations; then the other nets
            look: dict[str, Any] = {"color": f"C{number}", "alpha": 0.7}
            ax.plot(*points[:, :path].flatten(0, 1).T, "o", label=f"{dataset}, {report.label(defense)}", **look)
            ax.plot(*points[:, path:].flatten(0, 1).T, "^", label=f"{dataset}, others", **look)
    ax.set(xlabel=f"{report.label(metric)} after a manipulation", ylabel="accuracy, new FGSM")
    legend(ax, fontsize=8)
    show.foot(figure, origins(efficacy(name, defense, MOST) for name in datasets))
    return figure


def scatter_in_words(
    *, datasets: Sequence[str] = PAPER_DATA, defense: str = "atex", metric: str = "spearman"
) -> words.Said:
    """How the two axes of the scatter go together, over all nets of a data set."""
    said = []
    for dataset in datasets:
        points = scatter(dataset, defense, metric)
        if points is not None:
            stable, right = points.flatten(0, 1).T.double()
            rho = spearmanr(stable, right).statistic
            said.append(f"{dataset}: the rank correlation of the two over {len(stable)} nets is {rho:.2f}.")
    return words.Said(*said)
