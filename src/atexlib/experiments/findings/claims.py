"""The claims of the papers, each as cells that should lie above 0 if it is true."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ...maps import intervals
from ...maps.intervals import Interval, bootstrap
from ..kinds.costs import SAMPLES, SIDES
from ..kinds.tables import EXPLAINERS
from . import verdicts

Cells = dict[str, Interval | None]
PAPER_DATA = ("fashion-mnist", "mnist")
TABLE_ATTACKS = ("untargeted", "targeted")
TABLE_EPS = (0.02, 0.04, 0.06, 0.08, 0.1)
METRICS = ("spearman", "topk")


# What "slightly" and "stays" shall mean, fixed before the runs: the most accuracy that may be lost.
SLIGHTLY, STAYS = 0.02, 0.005


FASTER = 5.0  # T4: "5 times"
EXPLAINER_EPS = 0.06


@dataclass(frozen=True)
class Claim:
    """A claim in our words, and how its cells are computed from the cards, for one kind of ATEX."""

    name: str
    text: str
    cells: Callable[[str], Cells]


def more_stable(defense: str) -> Cells:
    """T1: the defence minus each rival, in every cell of Tables 1-4."""
    cells = {}
    for dataset, attack, eps, metric in _table():
        for rival in ("none", "naive"):
            where = {"kind": "table", "dataset": dataset, "attack": attack, "eps": eps}
            label = f"{dataset}, {attack}, eps {eps}, {metric}, against {rival}"
            cells[label] = verdicts.difference(metric, where | {"defense": defense}, where | {"defense": rival})
    return cells


def grows_with_eps(defense: str) -> Cells:
    """T2: the growth of the relative improvement over the undefended net, from each eps to the next."""

    def growth(means: torch.Tensor) -> torch.Tensor:
        return means[..., 3] / means[..., 2] - means[..., 1] / means[..., 0]

    cells = {}
    for dataset, attack, eps, metric in _table():
        if eps == TABLE_EPS[-1]:
            continue
        following = TABLE_EPS[TABLE_EPS.index(eps) + 1]
        where = {"kind": "table", "dataset": dataset, "attack": attack}
        specs = [where | {"eps": e, "defense": d} for e in (eps, following) for d in ("none", defense)]
        values = verdicts.together(metric, specs)
        label = f"{dataset}, {attack}, eps {eps} to {following}, {metric}"
        cells[label] = None if values is None else intervals.two_level(values, statistic=growth)
    return cells


def accuracy_holds(defense: str) -> Cells:
    """T3: what is left of the accuracy that may be lost; over seeds, so with one seed the interval has no width."""
    cells = {}
    for dataset, margin in zip(PAPER_DATA, (SLIGHTLY, STAYS), strict=True):
        where = {"kind": "table", "dataset": dataset, "attack": "untargeted", "eps": TABLE_EPS[-1]}
        change = verdicts.difference("accuracy", where | {"defense": defense}, where | {"defense": "none"})
        cells[f"{dataset}, {margin:.1%} may be lost"] = change and Interval(*(margin + end for end in change))
    return cells


def faster(defense: str) -> Cells:
    """T4: how many times as long Naive takes for a batch, minus 5."""
    cells = {}
    for side in SIDES:
        for count in SAMPLES:
            ratios = _seconds(side, f"naive, {count}", f"{defense}, {count}")
            cells[f"{side} pixels, {count} samples"] = None if ratios is None else bootstrap(ratios - FASTER)
    return cells


def grows_with_dimension(defense: str) -> Cells:
    """T5: by how much the ratio of the times of Naive and ATEX grows when the side doubles."""
    cells = {}
    for small, large in itertools.pairwise(SIDES):
        for count in SAMPLES:
            near, far = (_seconds(side, f"naive, {count}", f"{defense}, {count}") for side in (small, large))
            value = None if near is None or far is None else bootstrap(far / near - 1)
            cells[f"{small} to {large} pixels, {count} samples"] = value
    return cells


def noisy_target(_defense: str) -> Cells:
    """T6: Naive with a SmoothGrad target minus Naive with a gradient target, on validation images."""
    cells = {}
    for metric in METRICS:
        for eps in (0.05, 0.1):
            where = {"kind": "variants", "dataset": PAPER_DATA[0]}
            smooth, plain = "naive: SmoothGrad target", "naive: weight 4"
            cells[f"{PAPER_DATA[0]}, eps {eps}, {metric}"] = verdicts.difference(
                f"{metric} {eps}", where | {"variant": smooth}, where | {"variant": plain}
            )
    return cells


def others_profit(defense: str) -> Cells:
    """T13: the defence minus none, for explainers that it was not trained for, each attacked itself."""
    cells = {}
    for explainer in EXPLAINERS:
        for metric in METRICS:
            where: dict[str, Any] = {"kind": "explainers", "dataset": PAPER_DATA[0], "explainer": explainer}
            where["eps"] = EXPLAINER_EPS
            cells[f"{explainer}, eps {EXPLAINER_EPS}, {metric}"] = verdicts.difference(
                metric, where | {"defense": defense}, where | {"defense": "none"}
            )
    return cells


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim("T1", "ATEX is more stable than beta-smoothing and Naive, targeted and untargeted.", more_stable),
        Claim("T2", "Its relative improvement over beta-smoothing grows with eps.", grows_with_eps),
        Claim(
            "T3",
            f"Accuracy drops slightly on Fashion-MNIST (here: by less than {100 * SLIGHTLY:g} points) and stays on "
            f"MNIST (by less than {100 * STAYS:g} points).",
            accuracy_holds,
        ),
        Claim("T4", "ATEX trains 5 times faster than Naive.", faster),
        Claim("T5", "Naive is slow because its cost grows with the input's dimension.", grows_with_dimension),
        Claim("T6", "The target map of Naive is noisy: a SmoothGrad target does better.", noisy_target),
        Claim("T13", "Other explanation methods profit too.", others_profit),
    )
}


def _table() -> Iterator[tuple[str, str, float, str]]:
    for dataset in PAPER_DATA:
        for attack in TABLE_ATTACKS:
            for eps in TABLE_EPS:
                for metric in METRICS:
                    yield dataset, attack, eps, metric


def _seconds(side: str, slow: str, fast: str) -> torch.Tensor | None:
    """Ratios of the times of two methods, repeat by repeat."""
    cards = verdicts.found(kind="cost", side=side)
    if not cards:
        return None
    seconds = [torch.tensor(cards[0]["metrics"]["seconds"][name], dtype=torch.float64) for name in (slow, fast)]
    return seconds[0] / seconds[1]
