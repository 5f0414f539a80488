"""Chapter 7: the papers' own definitions of stability, and faithfulness beside a random order of the pixels."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from ....maps.intervals import Interval, two_level
from ...subjects.nets import TREATED
from .. import report, verdicts, words
from ..claims import PAPER_DATA
from .tables import Table, noted

DATA = PAPER_DATA[0]
EPS = 0.05
MOVED = {"average case": "average case", "max min": "Definition 1, max min", "min max": "Definition 1, min max"}
CURVES = ("deletion", "insertion")


def _cells(dataset: str, eps: float) -> dict[str, dict[str, Any]]:
    """The specs of all nets that were measured so, by their names."""
    cells = {name: {"kind": "definitions", "dataset": dataset, "defense": name, "eps": eps} for name in TREATED}
    return {name: cells[name] for name in ("none", *TREATED) if verdicts.found(**cells[name])}


def definitions_table(*, dataset: str = DATA, eps: float = EPS) -> Table:
    """How far each net's maps move by the papers' definitions, over their length: smaller is more stable."""
    cells = _cells(dataset, eps)
    rows = {
        report.label(name): {"seeds": str(len(verdicts.found(**spec)))}
        | {title: report.text(verdicts.mean(metric, **spec)) for metric, title in MOVED.items()}
        for name, spec in cells.items()
    }
    said = [
        words.ends(title, {report.label(name): verdicts.mean(metric, **spec) for name, spec in cells.items()})
        for metric, title in MOVED.items()
    ]
    source = report.origin(kind="definitions", dataset=dataset, defense="none", eps=eps)
    return noted(pd.DataFrame(rows).T, f"eps {eps}; length of the change over the length of the map; {source}", said)


def chance_table(*, dataset: str = DATA, eps: float = EPS, curves: Sequence[str] = CURVES) -> Table:
    """Areas of deletion and insertion by each net's own map, and by a random order of the pixels."""
    rows: dict[str, dict[str, str]] = {}
    gaps: dict[str, dict[str, Interval]] = {curve: {} for curve in curves}
    for name, spec in _cells(dataset, eps).items():
        row = {"seeds": str(len(verdicts.found(**spec)))}
        for curve in curves:
            own, chance = (
                torch.stack(list(verdicts.per_image(f"{curve}{title}", **spec).values()))
                for title in ("", ", by chance")
            )
            gaps[curve][report.label(name)] = two_level(own - chance)
            row |= {curve: str(two_level(own)), f"{curve}, by chance": str(two_level(chance))}
        rows[report.label(name)] = row
    said = []
    for curve, found in gaps.items():
        said.append(words.counted(curve.capitalize(), "the map", "chance", found.values()))
        untold = [label for label, gap in found.items() if gap.low <= 0 <= gap.high]
        said += [f"{curve.capitalize()}: no difference is told for {', '.join(untold)}."] if untold else []
    source = report.origin(kind="definitions", dataset=dataset, defense="none", eps=eps)
    return noted(pd.DataFrame(rows).T, f"area under the curve; {source}", said)
