"""The claims of the second paper, on manipulated models, as cells that should lie above 0."""

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ...explain.registry import EXPLAINERS
from ...maps.intervals import Interval, two_level
from ...nets import families
from ..engine.kinds import Spec
from ..kinds.fooling import BAR, BOUND, KEYS
from . import verdicts
from .claims import Cells, Claim

DATA = "fashion-mnist"
FOOLED = KEYS["explainer"]
LOSSES = tuple(KEYS["loss"])
PASSIVE = tuple(loss for loss in LOSSES if loss != "active")
ALIKE = 0.1  # F3: so much lower may the success on unseen images be


def changed(_kind: str) -> Cells:
    """F1: the success rate on test images minus 0.8, for each net, explainer and passive loss."""
    return _cells(PASSIVE, lambda spec: _values("success", spec), above=BAR)


def accurate(_kind: str) -> Cells:
    """F2: how far the loss of accuracy stays below 0.02, in each cell in which images that were seen are fooled."""
    return _cells(
        LOSSES, lambda spec: BOUND - _values("right before", spec) + _values("right after", spec), where=_fooled
    )


def general(_kind: str) -> Cells:
    """F3: success on test images minus success on as many images that the fooling saw, plus 0.1, in fooled cells.

    The two sets hold different images; pairing them by their order, which is chance, leaves the interval right.
    """

    def margin(spec: Spec) -> Tensor:
        return _values(f"success by {spec['explainer']}", spec) - _values("seen", spec) + ALIKE

    return _cells(PASSIVE, margin, where=_fooled)


def transferred(_kind: str, *, fooled: bool = False) -> Cells:
    """F4: success read by the explainers that the loss did not use, minus that of the control, image by image.

    `fooled`: only of cells in which images that were seen are fooled. The claim asks all.
    """
    cells: Cells = {}
    for other in EXPLAINERS:
        found = _cells(
            PASSIVE,
            functools.partial(_beyond_control, other),
            explainers=[name for name in FOOLED if name != other],
            where=_fooled if fooled else lambda _spec: True,
        )
        cells |= {f"{label}, read by {other}": cell for label, cell in found.items()}
    return cells


def _beyond_control(other: str, spec: Spec) -> Tensor:
    return _values(f"success by {other}", spec) - _values(f"control success by {other}", spec)


def swapped(_kind: str) -> Cells:
    """F5: the success rate of active fooling on test images minus 0.8, for each net and explainer."""
    return _cells(("active",), lambda spec: _values("success", spec), above=BAR)


def grid(losses: Sequence[str], explainers: Collection[str] = FOOLED) -> Iterator[tuple[str, dict[str, Any]]]:
    """The specs of the grid with a label each; seed and preset are left open."""
    for model in families.MODELS:
        for explainer in explainers:
            for loss in losses:
                spec = {"kind": "fooling", "dataset": DATA, "model": model, "explainer": explainer, "loss": loss}
                yield f"{model}, {explainer}, {loss}", spec


def _cells(
    losses: Sequence[str],
    values: Callable[[Spec], Tensor],
    *,
    explainers: Collection[str] = FOOLED,
    where: Callable[[Spec], bool] = lambda _spec: True,
    above: float = 0.0,
) -> Cells:
    """How far each spec of the grid lies above a bar; of those that were run, the ones `where` refuses are left out."""
    cells: Cells = {}
    for label, spec in grid(losses, explainers):
        if not verdicts.found(**spec):
            cells[label] = None
        elif where(spec):
            cells[label] = Interval(*(end - above for end in two_level(values(spec))))
    return cells


def _fooled(spec: Spec) -> bool:
    """Whether most of the images that the fooling saw are fooled."""
    return bool(_values("seen", spec).mean() >= BAR)


def _values(metric: str, spec: Spec) -> Tensor:
    """One row for each seed."""
    return torch.stack(list(verdicts.per_image(metric, **spec).values())).double()


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "F1",
            f"Explanations change radically: on test images the success rate is above {BAR:g}.",
            changed,
        ),
        Claim("F2", f"Accuracy stays: less than {BOUND:g} is lost.", accurate),
        Claim(
            "F3",
            f"Fooling works on images that it never saw: at most {ALIKE:g} worse than on those it saw.",
            general,
        ),
        Claim(
            "F4",
            "It transfers to explainers that the loss did not use: more of their maps are fooled than by the same "
            "training without a lie.",
            transferred,
        ),
        Claim("F5", f"Active fooling swaps the maps of two classes: the success rate is above {BAR:g}.", swapped),
    )
}
