"""What would be true if the defence of ours were any good: claims of Chapter 7, each as cells above 0."""

from typing import Any

from ...maps.intervals import Interval
from ..subjects.nets import TREATED
from . import report, verdicts
from .claims import METRICS, PAPER_DATA, Cells, Claim

OURS = "own_long"
RIVALS = ("none", "pooling", "early_2", "beta", "naive", "naive_light", "atex", "atex_free")
EPS = (0.05, 0.1)
# The share of the gap to a perfect score that a defence of ours shall close under the worst of two attacks, and the
# accuracy that it may lose: fixed before the runs.
BAR = {("spearman", 0.05): 0.5, ("topk", 0.05): 0.6, ("spearman", 0.1): 0.37, ("topk", 0.1): 0.25}
PRICE = 0.01


def cell(defense: str, eps: float, dataset: str = PAPER_DATA[0]) -> dict[str, Any]:
    """The spec of what the worst of seven attacks leaves of a net's maps."""
    return {"kind": "worst", "dataset": dataset, "defense": defense, "eps": eps}


def passes_the_bar(_defense: str) -> Cells:
    """O1: by how much each part of the bar is passed, and how much less than the price is paid."""
    cells: Cells = {}
    for (metric, eps), wanted in BAR.items():
        closed = verdicts.gap_closed(f"two {metric}", cell("none", eps), cell(OURS, eps))
        cells[f"{report.label(metric)}, eps {eps:g}"] = closed and Interval(*(value - wanted for value in closed))
    lost = verdicts.difference("accuracy", cell("none", EPS[0]), cell(OURS, EPS[0]))
    cells["accuracy"] = lost and Interval(PRICE - lost.mean, PRICE - lost.high, PRICE - lost.low)
    return cells


def above_rivals(_defense: str) -> Cells:
    """O2: what is left of the maps, minus what is left of those of each other defence of the table."""
    return {
        f"{report.label(metric)}, eps {eps:g}, against {TREATED[rival].label}": verdicts.difference(
            metric, cell(OURS, eps), cell(rival, eps)
        )
        for metric in METRICS
        for eps in EPS
        for rival in RIVALS
    }


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "O1",
            f"Steady maps, trained longer, pass each part of the bar and lose less than {100 * PRICE:g} point.",
            passes_the_bar,
        ),
        Claim("O2", "They are more stable than every other net of the table.", above_rivals),
    )
}
