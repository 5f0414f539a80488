"""CURE: the loss's slope shall be the same a step further uphill."""

import torch
from torch import Tensor, nn

from .parts import length_squared, loss_and_slope
from .penalised import penalised


@penalised("cure", label="CURE", cost=5.0, strength="weight")
def cure(
    net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, weight: float = 2e-3, step: float = 1.5
) -> Tensor:
    """Train for a straight loss: CE(x) + weight ||g_CE(x + step z) - g_CE(x)||^2, z the sign of g_CE at length 1.

    `step` is a Euclidean length: 1.5 is a change of .054 in each of 784 pixels.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.cure(nets.ConvNet(), few, weight=1.0, epochs=1).best_epoch
    1

    Source: Moosavi-Dezfooli et al. 2019.
    """
    value, slope = loss_and_slope(net, x, y)
    uphill = slope.detach().sign()
    length = uphill.flatten(1).norm(dim=1).clamp_min(1).view(-1, 1, 1, 1)
    ahead = loss_and_slope(net, x + step * uphill / length, y)[1]
    return (value + weight * length_squared(ahead - slope)).mean()
