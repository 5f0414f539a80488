"""Tables for the pages: means with their intervals, read from the cards, and where they come from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from ...maps.intervals import Interval, two_level
from ..subjects import nets
from . import verdicts
from .claims import TABLE_EPS, Claim

METRICS = {"spearman": "Spearman", "kendall": "Kendall", "topk": "top-50", "lens_topk": "LENS top-50", "ssim": "SSIM"}

MISSING = "not run"


def label(name: Any) -> str:
    """How a table or figure names a defence or a measure; anything else by itself."""
    for register in (nets.TREATED, nets.ITERATED):
        if name in register:
            return register[name].label
    return METRICS.get(name, str(name))


def text(interval: Interval | None) -> str:
    """A mean with its interval for a table, or that it was not run."""
    return MISSING if interval is None else str(interval)


def table(
    metric: str,
    *,
    rows: tuple[str, Sequence[object]],
    columns: tuple[str, Sequence[object]],
    **spec: Any,
) -> pd.DataFrame:
    """Means and 95 % intervals of a metric as text, for two keys of the spec that vary; how many seeds in each row."""
    body = {}
    for row in rows[1]:
        cells = [{**spec, rows[0]: row, columns[0]: column} for column in columns[1]]
        values = [text(verdicts.mean(metric, **cell)) for cell in cells]
        body[f"{label(row)}{seeds(cells)}"] = dict(zip(columns[1], values, strict=True))
    return pd.DataFrame(body).T.rename_axis(index=rows[0], columns=columns[0])


def seeds(specs: Iterable[Mapping[str, Any]]) -> str:
    """How many seeds the cards of some specs have, for a label: `, 3 seeds`; nothing where there is no card."""
    counts = sorted({len(verdicts.found(**spec)) for spec in specs} - {0})
    words = " to ".join(map(str, counts))
    return f", {words} seed{'' if words == '1' else 's'}" if counts else ""


def curve(ax: Axes, metric: str, *, label: str, **spec: Any) -> None:
    """Draw a metric of the table's cells against eps: its mean, its 95 % interval as a band, each seed as a dot.

    Nothing is drawn where no card is.
    """
    label += seeds({**spec, "eps": eps} for eps in TABLE_EPS)
    found = {eps: verdicts.mean(metric, **spec, eps=eps) for eps in TABLE_EPS}
    found = {eps: value for eps, value in found.items() if value is not None}
    if found:
        mean, low, high = zip(*found.values(), strict=True)
        (line,) = ax.plot(list(found), mean, marker="o", label=label)
        ax.fill_between(list(found), low, high, alpha=0.2, color=line.get_color())
        dots = [
            (eps, value.nanmean().item())
            for eps in found
            for value in verdicts.per_image(metric, **spec, eps=eps).values()
        ]
        ax.scatter([eps for eps, _ in dots], [value for _, value in dots], s=6, color=line.get_color(), zorder=3)


def trials(names: Sequence[str], *, dataset: str, seed: int = 0) -> pd.DataFrame:
    """Accuracy and stability of variants on validation images, one seed; a row is missing where no card is."""
    rows = {}
    for name in names:
        for card in verdicts.found(kind="variants", dataset=dataset, variant=name, seed=seed):
            measured = {key: value.get("mean") for key, value in card["metrics"].items() if isinstance(value, dict)}
            kept = {key: value for key, value in measured.items() if not key.startswith("label")}
            rows[name] = {"accuracy": card["metrics"]["accuracy"], **kept}
    return pd.DataFrame(rows).T


def worst(metric: str, attacks: Sequence[Mapping[str, Any]], **spec: Any) -> Interval | None:
    """The mean over seeds and images of each image's lowest value over several attacks; None where a card lacks."""
    values = verdicts.together(metric, [{**attack, **spec} for attack in attacks])
    return None if values is None else two_level(values.amin(2))


def verdict_table(claims: Mapping[str, Claim], defense: str = "atex") -> pd.DataFrame:
    """The verdict on each claim, its cells above 0, below 0 and undecided, the lowest, the highest, a sentence."""
    return pd.DataFrame([_verdict(claim, defense) for claim in claims.values()])


def _verdict(claim: Claim, defense: str) -> dict[str, Any]:
    cells = claim.cells(defense)
    known = {label: cell for label, cell in cells.items() if cell is not None}
    above, below, undecided = verdicts.count(cells.values())
    row: dict[str, Any] = {"claim": f"{claim.name}. {claim.text}", "verdict": verdicts.verdict(cells.values())}
    row["above, below, undecided"] = f"{above}, {below}, {undecided}"
    if len(known) < len(cells):
        row["above, below, undecided"] += f"; {len(cells) - len(known)} not run"
    for title, choose in (("lowest cell", min), ("highest cell", max)):
        label = choose(known, key=lambda key: known[key].mean, default=None)
        row[title] = MISSING if label is None else f"{label}: {text(known[label])}"
    return row | {"in words": sentence(cells)}


def sentence(cells: Mapping[str, Interval | None]) -> str:
    """What the cells of a claim say, in one sentence."""
    known = [cell for cell in cells.values() if cell is not None]
    if not known:
        return "No cell was run."
    above, below, undecided = verdicts.count(known)
    parts = [
        f"{number} of {len(known)} {'cell' if len(known) == 1 else 'cells'} {what}"
        for number, what in ((above, "lie above 0"), (below, "lie below 0"), (undecided, "cannot be told from 0"))
        if number
    ]
    words = "; ".join(parts).replace("1 of 1 cell lie", "the cell lies")
    lowest, highest = min(cell.mean for cell in known), max(cell.mean for cell in known)
    span = f"the effect is {lowest:.3f}" if lowest == highest else f"the effects go from {lowest:.3f} to {highest:.3f}"
    return f"{words[0].upper()}{words[1:]}; {span}."


def origin(*, metric: str | None = None, **spec: Any) -> str:
    """Data set, preset, seeds, images and device of the cards of a spec, for the foot of a figure or table.

    The images are those of a metric, or of the one that has most.
    """
    cards = verdicts.found(**spec)
    if not cards:
        return "no card yet"
    first = cards[0]
    numbers = ", ".join(str(card["spec"]["seed"]) for card in cards)
    chosen = first["metrics"] if metric is None else {metric: first["metrics"][metric]}
    sizes = {len(v["values"]) for v in chosen.values() if isinstance(v, dict) and "values" in v}
    images = f"{max(sizes)} images; " if sizes else ""
    where = first["spec"].get("dataset", "random images")
    preset, device = first["spec"]["preset"], first["provenance"]["device"]
    return f"{where}; preset {preset}; {'seeds' if len(cards) > 1 else 'seed'} {numbers}; {images}{device}"
