"""The attacks of the experiments, by name, each a function of a batch."""

from collections import ChainMap
from typing import Any

import torch
from torch import Tensor, nn

from ...attack import OBJECTIVES, Ball, Objective, Targeted, manipulate, of_rows
from ...explain import Explainer
from ...nets import with_beta
from ..engine import results
from ..engine.place import Place
from . import nets
from .measure import Attack, K

REGION = 5  # side of the square that a targeted attack highlights
TOLERANCE = 0.1  # eps2 where the probability must hold too
SURROGATE_BETA = 3.0
SETTINGS = {"k": K, "region": REGION, "tolerance": TOLERANCE, "surrogate beta": SURROGATE_BETA}
# Beside the objectives of the register, whose label alone must hold.
OTHERS = {
    "tolerance": "untargeted, and the probability may shift by 0.1 at most",
    "surrogate": "untargeted, guided by a copy of the net with blunter softplus units, for gradients that mislead",
    "transfer": "untargeted, made on the undefended net of another seed",
    "noise": "a random corner of the ball, no search",
}
ATTACKS: ChainMap[str, Any] = ChainMap(OTHERS, OBJECTIVES)


def make(
    name: str,
    place: Place,
    images: Tensor,
    *,
    eps: float,
    steps: int,
    starts: int,
    explainer: str | Explainer = "gradient",
) -> Attack:
    """The attack of this name on these images: an objective of the register, or one of OTHERS."""
    generator = place.generator()
    if name == "noise":
        return lambda model, x, rows: Ball(x, eps, "linf", (0, 1)).corner(generator)
    aim = objective("untargeted" if name in OTHERS else name, images)
    other = None
    if name == "transfer":
        other = results.net_of(
            nets.elsewhere({"dataset": place.dataset, "seed": place.seed, "preset": place.preset}), place
        )

    def attack(model: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
        return manipulate(
            model if other is None else other,
            x,
            of_rows(aim, rows),
            eps=eps,
            explainer=explainer,
            steps=steps,
            starts=starts,
            prediction_tolerance=TOLERANCE if name == "tolerance" else None,
            surrogate=with_beta(model, SURROGATE_BETA) if name == "surrogate" else None,
            generator=generator,
        ).x

    return attack


def objective(name: str, images: Tensor) -> Objective:
    """The objective of this name for these images, its random choices drawn once, the same for every net."""
    generator = torch.Generator().manual_seed(0)
    if name == "targeted":
        return Targeted.random_region(images, REGION, generator=generator)
    return OBJECTIVES[name](images, K, generator)
