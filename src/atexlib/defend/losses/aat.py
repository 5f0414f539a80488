"""AAT and AdvAAT: the least alike map within the ball shall be alike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import climb, logits_and_map, pearson
from .penalised import penalised


@penalised("aat", label="AAT", cost=8.5, strength="weight")
def aat(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    weight: float = 1.0,
    eps: float = 0.1,
    steps: int = 3,
) -> Tensor:
    """Train for alike maps at their worst: CE(x) + weight max_x' (1 - Pearson(g(x'), g(x))) / 2 within `eps`.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.aat(nets.ConvNet(), few, weight=1.0, epochs=1).best_epoch
    1

    Source: Ivankay et al. 2020.
    """
    logits, g = logits_and_map(net, x, y)
    fixed = g.detach()

    def apart(z: Tensor) -> Tensor:
        return (1 - pearson(logits_and_map(net, z, y)[1], fixed)) / 2

    worst = climb(net, apart, x, eps=eps, steps=steps, generator=generator)
    with torch.enable_grad():
        term = (1 - pearson(logits_and_map(net, worst, y)[1], g)) / 2
        return F.cross_entropy(logits, y) + weight * term.mean()


@penalised("adv_aat", label="AdvAAT", cost=8.5, strength="eps")
def adv_aat(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    eps: float = 0.005,
    weight: float = 3.0,
    steps: int = 3,
) -> Tensor:
    """Train for both at their worst: max_x' [CE(x') + weight (1 - Pearson(g(x'), g(x))) / 2] within `eps`.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.adv_aat(nets.ConvNet(), few, eps=0.03, epochs=1).best_epoch
    1

    Source: Ivankay et al. 2020.
    """
    g = logits_and_map(net, x, y)[1]

    def objective(z: Tensor, g: Tensor) -> Tensor:
        logits, moved = logits_and_map(net, z, y)
        return F.cross_entropy(logits, y, reduction="none") + weight * (1 - pearson(moved, g)) / 2

    worst = climb(net, lambda z: objective(z, g.detach()), x, eps=eps, steps=steps, generator=generator)
    with torch.enable_grad():
        return objective(worst, g).mean()
