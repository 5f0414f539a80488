"""Gradient norm: the loss shall not be steep."""

import torch
from torch import Tensor, nn

from .parts import length_squared, loss_and_slope
from .penalised import penalised


@penalised("gradient_norm", label="gradient norm", cost=2.6, strength="weight")
def gradient_norm(net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, weight: float = 0.05) -> Tensor:
    """Train for a flat loss: CE(x) + weight ||g_CE(x)||^2, g_CE being the gradient of the cross entropy.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.gradient_norm(nets.ConvNet(), few, weight=1.0, epochs=1).best_epoch
    1

    Source: Drucker & LeCun 1992; Ross & Doshi-Velez 2018.
    """
    value, slope = loss_and_slope(net, x, y)
    return (value + weight * length_squared(slope)).mean()
