"""What the chapters on defences show of the results: costs and trials of the settings."""

from itertools import cycle

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from ...maps.intervals import Interval
from ...show import plotting
from ..kinds import costs as cost_kind
from ..kinds import variants
from . import report, verdicts, words

DATASET = "fashion-mnist"

# Words for several variants at once: every defence that was tried, ablations, rivals.
GROUPS = {name: trials for name, (_, trials) in variants.TRIALS.items()} | {
    "ablations": variants.ABLATIONS,
    "rivals": variants.RIVALS,
}

# What the figure of all variants calls a group: the label of a net would speak of one of its members.
TITLES = {"beta": "beta", "pooling": "smooth pooling", "passes": "other numbers of passes", "naive": "naive defence"}
TITLES |= {"atex": "ATEX", "atex_ascent": "ATEX with ascent", "rivals": "other training"}
TITLES |= {"atex without the projection": "ATEX without the projection"}


def origin(kind: str, *, dataset: str = DATASET) -> str:
    """Where the numbers of `cost` or `variants` come from, for the line above a table.

    >>> from atexlib.experiments.findings import pages
    >>> pages.origin("variants").endswith("validation images")
    True
    """
    if kind == "cost":
        return report.origin(kind=kind, side=_sides()[0])
    return f"{report.origin(kind=kind, dataset=dataset, variant='no training')}; validation images"


def costs() -> pd.DataFrame:
    """Seconds a training batch, the fastest of several repeats, and megabytes kept, for each method and image size.

    >>> from atexlib.experiments.findings import pages
    >>> "plain" in pages.costs().index
    True
    """
    found = {side: verdicts.found(kind="cost", side=side)[0]["metrics"] for side in _sides()}
    seconds = {f"{side} pixels: s a batch": pd.Series(m["seconds"]).map(min) for side, m in found.items()}
    memory = {f"{side} pixels: MB kept": pd.Series(m["bytes"]) / 1e6 for side, m in found.items()}
    table = pd.DataFrame(seconds | memory)
    return table.reindex(sorted(table.index, key=_by_samples))


def cost_figure() -> Figure:
    """Time of a training batch over that of plain training, against the side of the image, a line for each method."""
    table = costs().filter(like="s a batch")
    ratios = table.drop(index="plain") / table.loc["plain"]
    figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    for method, line in ratios.iterrows():
        ax.plot(_sides(), line, marker="o", label=method)
    ax.set(xlabel="side of the image in pixels", ylabel="times plain training", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.minorticks_off()
    figure.legend(fontsize=8, loc="outside right upper")
    plotting.foot(figure, origin("cost"))
    return figure


def cost_in_words() -> words.Said:
    """How many times a batch of plain training each method takes, at the largest images."""
    table = costs().filter(like="s a batch")
    ratios = (table.drop(index="plain") / table.loc["plain"])[f"{_sides()[-1]} pixels: s a batch"]
    return words.Said(
        words.ends(f"A batch at {_sides()[-1]} pixels over one of plain training", ratios.to_dict(), decimals=1)
    )


def trials_in_words(*groups: str, dataset: str = DATASET) -> words.Said:
    """The most stable and the least stable of some variants by each measure, and their accuracy."""
    table = trials(*groups, dataset=dataset)
    return words.Said(*(words.ends(report.label(title), column.dropna().to_dict()) for title, column in table.items()))


def target_in_words(*, dataset: str = DATASET) -> words.Said:
    """In which measures a SmoothGrad target is told from a gradient target."""
    gaps = _targets(dataset).values()
    return words.Said(words.counted("The four measures", "the SmoothGrad target", "the gradient target", gaps))


def trials(*groups: str, dataset: str = DATASET) -> pd.DataFrame:
    """Accuracy and stability of variants, or of groups of them (`GROUPS`), in this order.

    >>> from atexlib.experiments.findings import pages
    >>> "naive: weight 4" in pages.trials("no training", "naive").index
    True
    """
    names = [name for group in groups for name in GROUPS.get(group, [group])]
    return report.trials(names, dataset=dataset)


def smooth_target(*, dataset: str = DATASET) -> pd.Series:
    """What the naive defence gains by a SmoothGrad target over a gradient target, image by image, with intervals."""
    gains = {key: report.text(gap) for key, gap in _targets(dataset).items()}
    return pd.Series(gains, name="SmoothGrad target minus gradient target")


def _targets(dataset: str) -> dict[str, Interval | None]:
    """The SmoothGrad target minus the gradient target, in each measure at each eps."""
    sides = [
        {"kind": "variants", "dataset": dataset, "variant": name}
        for name in ("naive: SmoothGrad target", "naive: weight 4")
    ]
    keys = [f"{metric} {eps}" for eps in variants.EPS for metric in ("spearman", "topk")]
    return {key: verdicts.difference(key, *sides) for key in keys}


def frontier(*, eps: float = 0.05, dataset: str = DATASET) -> Figure:
    """Accuracy against Spearman after an attack, a point for each variant, a marker for each group.

    >>> from atexlib.experiments.findings import pages
    >>> pages.frontier().axes[0].get_ylabel()
    'accuracy'
    """
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for word, marker in zip([*GROUPS, "no training"], cycle("osvD^XP*<>"), strict=False):
        points = trials(word, dataset=dataset)
        if len(points):
            ax.scatter(points[f"spearman {eps}"], points["accuracy"], marker=marker, label=TITLES.get(word, word))
    ax.set(xlabel=f"Spearman after the attack, eps {eps}", ylabel="accuracy")
    figure.legend(fontsize=8, loc="outside right upper")
    plotting.foot(figure, origin("variants", dataset=dataset))
    return figure


def _sides() -> list[str]:
    return [side for side in cost_kind.SIDES if verdicts.found(kind="cost", side=side)]


def _by_samples(method: str) -> tuple[int, str]:
    """Sort `plain` first, then methods by the number of their samples and by name."""
    name, _, samples = method.partition(", ")
    return int(samples or 0), name
