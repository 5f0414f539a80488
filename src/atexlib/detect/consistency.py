"""Do several explainers still agree? An attack is aimed at one of them."""

import functools

import torch
from torch import Tensor

from ..explain.gradients import integrated_gradients, smoothgrad
from .registry import Score, detector
from .scene import Look, Scene, apart

OTHERS = {
    "SmoothGrad": functools.partial(smoothgrad, samples=2),
    "integrated gradients": functools.partial(integrated_gradients, steps=3),
}


@detector("consistency", label="explainers disagree")
def consistency(scene: Scene) -> Score:
    """How unlike the shown map is to those of other explainers, on average."""

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        maps = [look.of(look.x, explainer=other) for other in OTHERS.values()]
        return torch.stack([apart(look.map, other) for other in maps]).mean(0)

    return score
