"""Chapter 7: how stable maps are with each defence, under which attacks, and at what price in accuracy and time."""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from .... import show
from ....data import DATASETS
from ....defend import DEFENSES
from ....maps.intervals import Interval
from ...engine.presets import PRESETS
from ...engine.results import grid, load
from ...kinds import prices
from ...kinds.tables import EXPLAINERS
from ...subjects import nets
from .. import report, verdicts, words
from ..claims import EXPLAINER_EPS, METRICS, PAPER_DATA, TABLE_ATTACKS, TABLE_EPS
from ..claims_predictions import MOST, maps
from .tables import Table, legend, noted, treated

DATA = PAPER_DATA[0]
LARGEST = TABLE_EPS[-1]
TITLES = {"label_kept": "The share of labels kept", "prediction_shift": "The shift of the probability"}


def _table(dataset: str, attack: str) -> dict[str, Any]:
    return {"kind": "table", "dataset": dataset, "attack": attack}


def stability_curves(
    *,
    dataset: str = DATA,
    attack: str = "untargeted",
    metrics: Sequence[str] = METRICS,
    defenses: Sequence[str] | None = None,
) -> Figure:
    """Each measure against eps, one curve a defence."""
    where = _table(dataset, attack)
    figure, axes = plt.subplots(1, len(metrics), figsize=(8.5, 3.2), sharey=True, squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        for defense in treated(defenses):
            report.curve(ax, metric, label=report.label(defense), defense=defense, **where)
        ax.set(xlabel="eps", ylabel=report.label(metric), ylim=(0, 1))
    legend(axes[0, -1], fontsize=8)
    show.foot(figure, report.origin(**where, defense="none", eps=LARGEST))
    return figure


def _against_none(
    metric: str, where: dict[str, Any], *, eps: Sequence[float], defenses: Sequence[str] | None
) -> list[str]:
    """Each defence against none, and ATEX against the naive one, over the cells of a table."""
    names = treated(defenses)
    pairs = [(name, "none") for name in names if name != "none"] if "none" in names else []
    pairs += [("atex", "naive")] if {"atex", "naive"} <= set(names) else []
    said = []
    for pair in pairs:
        cells = [
            verdicts.difference(metric, *({**where, "defense": name, "eps": size} for name in pair)) for size in eps
        ]
        first, second = map(report.label, pair)
        said.append(words.counted(report.label(metric), first, second, cells))
    return said


def stability_in_words(
    *,
    dataset: str = DATA,
    attack: str = "untargeted",
    metrics: Sequence[str] = METRICS,
    defenses: Sequence[str] | None = None,
) -> words.Said:
    """What the curves of stability say."""
    where = _table(dataset, attack)
    said = [_against_none(metric, where, eps=TABLE_EPS, defenses=defenses) for metric in metrics]
    return words.Said(*itertools.chain.from_iterable(said))


def stability_table(
    metric: str,
    *,
    dataset: str = DATA,
    attack: str = "untargeted",
    eps: Sequence[float] = TABLE_EPS,
    defenses: Sequence[str] | None = None,
) -> Table:
    """A half of one of Tables 1 to 4: a row for each defence, a column for each eps."""
    where = _table(dataset, attack)
    found = report.table(metric, rows=("defense", treated(defenses)), columns=("eps", eps), **where)
    source = report.origin(**where, defense="none", eps=LARGEST)
    said = _against_none(metric, where, eps=eps, defenses=defenses)
    return noted(found, f"{report.label(metric)}, {attack}: mean [95 % interval]; {source}", said)


def accuracy_table(*, datasets: Sequence[str] = PAPER_DATA, defenses: Sequence[str] | None = None) -> Table:
    """Accuracy on the whole test set, for each data set and defence."""
    rows, columns = ("defense", treated(defenses)), ("eps", [LARGEST])
    parts = {
        name: report.table("accuracy", rows=rows, columns=columns, **_table(name, "untargeted"))[LARGEST]
        for name in datasets
    }
    found = pd.concat(parts, names=["data set"]).to_frame("accuracy")
    said = []
    for name, defense in itertools.product(datasets, [d for d in treated(defenses) if d != "none"]):
        pair = [{**_table(name, "untargeted"), "eps": LARGEST, "defense": d} for d in ("none", defense)]
        lost = verdicts.difference("accuracy", *pair)
        if lost is not None:
            said.append(f"{name}: {report.label(defense)}, {words.price(lost)}.")
    return noted(found, "accuracy on the whole test sets; mean [95 % interval over seeds]; from the cards", said)


def training_minutes(*, preset: str = "reduced", defenses: Sequence[str] | None = None) -> Table:
    """How many minutes the training of each net took, beyond that of the net it starts from."""
    rows = []
    for where in grid(dataset=list(DATASETS), seed=verdicts.SEEDS, preset=preset):
        for defense in treated(defenses):
            for card in load([nets.net_spec(where, defense)]):
                named = {"data set": where["dataset"], "seed": where["seed"], "defense": report.label(defense)}
                rows.append(named | {"minutes": card["provenance"]["seconds"] / 60})
    if not rows:
        return noted({}, report.MISSING)
    columns = ["data set", "seed"]
    found = pd.DataFrame(rows).pivot_table(index="defense", columns=columns, values="minutes", sort=False).round(1)
    said = [words.ends("The mean number of minutes", found.mean(axis=1).to_dict(), decimals=1)]
    shown = found.map(lambda minutes: report.MISSING if pd.isna(minutes) else f"{minutes:.1f}")
    return noted(shown, f"minutes of training; preset {preset}; from the nets' files", said)


def every_cell(
    *,
    datasets: Sequence[str] = PAPER_DATA,
    attacks: Sequence[str] = TABLE_ATTACKS,
    eps: Sequence[float] = TABLE_EPS,
    defenses: Sequence[str] | None = None,
) -> Styler:
    """All cells of Tables 1 to 4 in one table, which a reader of the page may sort."""
    rows = []
    for dataset, attack, defense, size in itertools.product(datasets, attacks, treated(defenses), eps):
        where = {**_table(dataset, attack), "defense": defense, "eps": size}
        row = {"data set": dataset, "attack": attack, "defence": report.label(defense), "eps": size}
        row["seeds"] = len(verdicts.found(**where))
        for metric in (*METRICS, "accuracy") if row["seeds"] else ():
            found = verdicts.mean(metric, **where)
            row[report.label(metric)] = found.mean  # type: ignore[union-attr]
            row[f"95 %, {report.label(metric)}"] = _ends(found)  # type: ignore[arg-type]
        rows += [row] if row["seeds"] else []
    caption = f"{len(rows)} cells; intervals over seeds and images; where there is one seed, over images alone"
    shown = (
        pd.DataFrame(rows, columns=None if rows else ["eps"])
        .style.hide(axis="index")
        .format(precision=3)
        .format("{:g}", subset="eps")
    )
    shown.set_table_styles([{"selector": "caption", "props": "caption-side: bottom"}])
    return shown.set_table_attributes('class="dataframe sortable"').set_uuid("every_cell").set_caption(caption)


def _ends(found: Interval) -> str:
    return "no interval" if math.isinf(found.high) else f"{found.low:.3f} to {found.high:.3f}"


def gap_table(
    *,
    dataset: str = DATA,
    attack: str = "untargeted",
    eps: Sequence[float] = (0.04, LARGEST),
    defenses: Sequence[str] | None = None,
) -> Table:
    """The share of the gap that each defence closes, beside the accuracy that it loses."""
    where, rows = _table(dataset, attack), {}
    columns: dict[str, dict[str, Interval | None]] = defaultdict(dict)
    for defense in [name for name in treated(defenses) if name != "none"]:
        pair = [{**where, "eps": LARGEST, "defense": name} for name in ("none", defense)]
        lost = verdicts.difference("accuracy", *pair)
        row = {"seeds": str(len(verdicts.found(**pair[1]))), "accuracy lost": report.text(lost)}
        for metric, size in itertools.product(METRICS, eps):
            gap = verdicts.gap_closed(metric, *(spec | {"eps": size} for spec in pair))
            columns[f"{report.label(metric)}, eps {size}"][report.label(defense)] = gap
        rows[report.label(defense)] = row | {
            title: report.text(column[report.label(defense)]) for title, column in columns.items()
        }
    source = report.origin(**where, defense="none", eps=LARGEST)
    return noted(pd.DataFrame(rows).T, f"share of the gap closed; {attack}; {source}", [words.leads(columns)])


def price_table(*, dataset: str = DATA, chosen: Sequence[str] | None = None) -> Table:
    """The share of the gap that each recipe closes, beside the accuracy lost on validation and test images."""
    rows = {}
    columns: dict[str, dict[str, Interval | None]] = defaultdict(dict)
    for net in chosen or [*[name for name in treated(None) if name != "none"], *prices.RECIPES]:
        pair = [{"kind": "price", "dataset": dataset, "net": name} for name in ("none", net)]
        row = {"seeds": str(len(verdicts.found(**pair[1])))}
        for split, metric in {"validation": "validation accuracy", "test": "accuracy"}.items():
            row[f"lost, {split}"] = report.text(verdicts.difference(metric, *pair))
        for eps, metric in itertools.product(prices.EPS, METRICS):
            columns[f"{report.label(metric)}, eps {eps}"][report.label(net)] = verdicts.gap_closed(
                f"{metric} {eps}", *pair
            )
        rows[report.label(net)] = row | {
            title: report.text(column[report.label(net)]) for title, column in columns.items()
        }
    source = report.origin(kind="price", dataset=dataset, net=list(prices.RECIPES)[-1])
    return noted(pd.DataFrame(rows).T, f"share of the gap closed; {source}", [words.leads(columns)])


def _minutes_of_pass(defense: str, preset: str) -> float | None:
    """Minutes of one small pass of a defence over its images, from the timing of a batch; None if it was not timed."""
    timed = verdicts.found(kind="cost", side="28")
    times = {name: min(values) for name, values in timed[0]["metrics"]["seconds"].items()} if timed else {}
    few, many = (times.get(f"{defense}, {count}") for count in (1, 8))
    if few is None or many is None:
        return None
    settings = DEFENSES[defense].settings
    count = settings.get("orthogonal_samples", settings.get("samples", 1))
    batch = few + (many - few) * (count - 1) / 7  # on the line between the two counts that were timed
    size = PRESETS[preset]
    return size.defense_images // nets.SHARE_OF_ITERATION // size.batch_size * batch / 60


def _by_minutes(metric: str, dataset: str, seed: int, preset: str) -> dict[str, dict[float, float]]:
    """For each defence a measure after so many minutes of training; those whose batches were timed."""
    found = {}
    for defense in [name for name in treated(None) if name != "none"]:
        minutes = _minutes_of_pass(defense, preset)
        if minutes is not None:
            cells = {n: verdicts.mean(metric, **maps(dataset, defense, n), seed=seed) for n in range(MOST + 1)}
            found[defense] = {n * minutes: cell.mean for n, cell in cells.items() if cell is not None}
    return found


def time_in_words(*, dataset: str = DATA, seed: int = 0, preset: str = "reduced") -> words.Said:
    """Where each curve of the figure at equal time ends, and what all of them reach in the time of the shortest."""
    spearman, right = (_by_minutes(metric, dataset, seed, preset) for metric in ("spearman", "accuracy"))
    spearman = {name: curve for name, curve in spearman.items() if len(curve) > 1}
    if not spearman:
        return words.Said("Nothing was timed.")
    common = min(max(curve) for curve in spearman.values())
    said = {
        report.label(name): float(np.interp(common, list(curve), list(curve.values())))
        for name, curve in spearman.items()
    }
    sentences = [words.ends(f"After {common:.1f} minutes, on the lines between the points, Spearman", said)]
    for name, curve in spearman.items():
        last, accuracy = max(curve), list(right[name].values())
        sentences.append(
            f"{report.label(name)}: Spearman from {min(curve.values()):.3f} to {curve[last]:.3f} within {last:.1f} "
            f"minutes, accuracy from {accuracy[0]:.3f} to {accuracy[-1]:.3f}."
        )
    return words.Said(*sentences)


def equal_time(
    *, dataset: str = DATA, seed: int = 0, preset: str = "reduced", metrics: Sequence[str] = ("spearman", "accuracy")
) -> Figure:
    """Each measure against the minutes of training, one curve a defence, one point a net."""
    figure, axes = plt.subplots(1, len(metrics), figsize=(8, 3.2), squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        for defense, known in _by_minutes(metric, dataset, seed, preset).items():
            ax.plot(list(known), list(known.values()), marker="o", label=report.label(defense))
        ax.set(xlabel="minutes of training", ylabel=report.label(metric))
    legend(axes[0, 0], fontsize=7)
    show.foot(figure, report.origin(metric="spearman", **maps(dataset, "atex", MOST), seed=seed))
    return figure


def side_effects(
    *,
    dataset: str = DATA,
    attack: str = "untargeted",
    eps: Sequence[float] = (0.04, LARGEST),
    defenses: Sequence[str] | None = None,
    metrics: Sequence[str] = ("ssim", "label_kept", "prediction_shift"),
) -> Table:
    """SSIM, labels kept and the shift of the probability, for each defence and eps."""
    where, rows = _table(dataset, attack), {}
    columns: dict[str, dict[str, Interval | None]] = defaultdict(dict)
    for defense, size in itertools.product(treated(defenses), eps):
        cells = {metric: verdicts.mean(metric, **where, defense=defense, eps=size) for metric in metrics}
        for metric, cell in cells.items():
            columns[metric][f"{report.label(defense)} at eps {size}"] = cell
        rows[report.label(defense), size] = {metric: report.text(cell) for metric, cell in cells.items()}
    found = pd.DataFrame(rows).T.rename_axis(index=["defense", "eps"])
    said = [words.ends(TITLES.get(metric, report.label(metric)), column) for metric, column in columns.items()]
    return noted(found, report.origin(**where, defense="none", eps=LARGEST), said)


def explainer_table(
    metric: str = "spearman",
    *,
    dataset: str = DATA,
    eps: float = EXPLAINER_EPS,
    defenses: Sequence[str] | None = None,
) -> Table:
    """Stability of the maps of other explainers, each attacked itself."""
    where: dict[str, Any] = {"kind": "explainers", "dataset": dataset, "eps": eps}
    cells = {
        report.label(defense): {
            name: verdicts.mean(metric, **where, defense=defense, explainer=name) for name in EXPLAINERS
        }
        for defense in treated(defenses)
    }
    found = pd.DataFrame(cells).map(report.text)
    source = report.origin(**where, defense="none", explainer="smoothgrad")
    pairs = [(name, "none") for name in treated(defenses) if name != "none"]
    said = []
    for pair in pairs:
        gaps = [
            verdicts.difference(metric, *({**where, "explainer": name, "defense": defense} for defense in pair))
            for name in EXPLAINERS
        ]
        said.append(words.counted(report.label(metric), report.label(pair[0]), report.label(pair[1]), gaps))
    return noted(found, f"{report.label(metric)}, eps {eps}; {source}", said)
