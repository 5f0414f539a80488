"""Nets that guide an attack in place of the attacked one: smooth where it has kinks, blunt where it is sharp."""

import torch
from torch import Tensor, nn

from .. import checks
from ..nets import running
from ..nets.convnet import with_beta
from ..nets.pooling import with_pooling
from ..nets.softplus import with_softplus

BLUNT = 3.0  # beta of the units of a blunt guide


def smooth_guide(model: nn.Module, x: Tensor, *, beta: float = 10.0) -> nn.Module | None:
    """The softplus copy of a net with ReLUs, or None for a net without any, which guides itself.

    >>> import torch
    >>> from torch import nn
    >>> from atexlib import attack
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    >>> attack.smooth_guide(net, torch.rand(2, 1, 8, 8))[2]
    Softplus(beta=10.0, threshold=20.0)

    Args:
        model: net that returns logits (B, C).
        x: a few of the images (B, C, H, W).
        beta: sharpness of the copy's units.

    Raises:
        ValueError: a net of which no copy can be made.
    """
    twin = with_softplus(model, beta)
    if torch.equal(running.predict(twin, x), running.predict(model, x)) and bends(model, x):
        return None
    return twin


def blunt_guide(model: nn.Module, *, beta: float = BLUNT) -> nn.Module:
    """A copy of a net with blunter units and, where that can be put in, average pooling: its slopes see past kinks.

    >>> from atexlib import attack, nets
    >>> net = attack.blunt_guide(nets.ConvNet(beta=10))
    >>> net.act1, net.pool
    (Softplus(beta=3.0, threshold=20.0), AvgPool2d(kernel_size=2, stride=2, padding=0))

    Raises:
        ValueError: a net of which no copy can be made.
    """
    twin = with_beta(with_softplus(model, beta), beta)
    try:
        return with_pooling(twin, "average")
    except ValueError:  # it holds no max-pooling, or none that can be exchanged
        return twin


def bends(model: nn.Module, x: Tensor) -> bool:
    """Whether a net can be differentiated twice; Hardsigmoid cannot, even where no image is near its kinks."""
    z = x.detach().requires_grad_()
    try:
        with running.frozen(model), checks.derivatives():
            slope = torch.autograd.grad(running.logits_of(model, z).sum(), z, create_graph=True)[0]
            if slope.requires_grad:
                torch.autograd.grad(slope.sum(), z, allow_unused=True)
    except ValueError:
        return False
    return True
