"""The attacks of the experiments, by name, each a function of a batch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import data, explainers
from ..ascent import Ball
from ..explainers import Explainer
from ..input_manipulation import manipulate
from ..models import ConvNet
from ..objectives import CenterMass, Distance, Targeted, TargetMap, Untargeted
from . import nets
from .measure import Attack, K

REGION = 5  # side of the square that a targeted attack highlights
TOLERANCE = 0.1  # eps2 where the probability must hold too
SURROGATE_BETA = 3.0
OBJECTIVES: dict[str, Callable[[Tensor], object]] = {
    "untargeted": lambda images: Untargeted(k=K),
    "targeted": lambda images: Targeted.random_region(images, REGION, generator=torch.Generator().manual_seed(0)),
    "center_mass": lambda images: CenterMass(),
    "target_map": lambda images: TargetMap(images.flip(0)),
    "distance": lambda images: Distance(),
}
ATTACKS = (*OBJECTIVES, "tolerance", "surrogate", "transfer", "noise")


def make(
    name: str,
    *,
    images: Tensor,
    dataset: str,
    preset: str,
    seed: int,
    eps: float,
    steps: int,
    starts: int,
    explainer: Explainer = explainers.gradient,
) -> Attack:
    """The attack of this name on these images.

    `untargeted`, `targeted`, `center_mass`, `target_map` (the map shall look like another image), `distance`: the
    objectives, the label kept. `tolerance`: untargeted, and the probability may shift by 0.1 at most. `surrogate`:
    untargeted, guided by a copy of the net with blunter softplus units, for gradients that mislead. `transfer`:
    untargeted, made on the undefended net of another seed. `noise`: a random corner of the ball, no search.
    """
    generator = torch.Generator().manual_seed(seed)
    if name == "noise":
        return lambda model, x, rows: Ball(x, eps, "linf", (0, 1)).corner(generator)
    objective = OBJECTIVES.get(name, OBJECTIVES["untargeted"])(images)
    place = {"dataset": dataset, "seed": seed, "preset": preset}
    other = nets.trained(**nets.elsewhere(place)) if name == "transfer" else None

    def attack(model: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
        device = x.device
        return manipulate(
            model if other is None else other.to(device),
            x,
            _of_rows(objective, rows.to(device)),
            eps=eps,
            explainer=explainer,
            steps=steps,
            starts=starts,
            prediction_tolerance=TOLERANCE if name == "tolerance" else None,
            surrogate=blunt(model) if name == "surrogate" else None,
            generator=generator,
        ).x

    return attack


def blunt(model: ConvNet) -> ConvNet:
    """A copy of a ConvNet with softplus units of a smaller beta."""
    return _with_beta(model, SURROGATE_BETA)


def _with_beta(model: ConvNet, beta: float) -> ConvNet:
    twin = ConvNet(beta=beta).to(next(model.parameters()).device, memory_format=torch.channels_last)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def _of_rows(objective: object, rows: Tensor) -> object:
    if isinstance(objective, Targeted):
        return Targeted(objective.mask[rows])
    if isinstance(objective, TargetMap):
        return TargetMap(objective.map[rows])
    return objective


def first_images(dataset: str, split: str, count: int) -> data.ImageSet:
    """The first images of a split, fewer if it holds fewer."""
    images = data.load(dataset, split)
    return images.first(min(count, len(images.labels)))
