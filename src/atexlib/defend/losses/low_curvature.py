"""Low curvature: softplus units learn how blunt they are, and the loss shall not be steep."""

import copy
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import length_squared, loss_and_slope
from .penalised import penalised


class CentredSoftplus(nn.Softplus):
    """(log(1 + exp(beta z)) - log 2) / beta with a beta that is learned: it passes through 0, however blunt it is.

    >>> import torch
    >>> from atexlib.defend.losses.low_curvature import CentredSoftplus
    >>> CentredSoftplus(beta=3.0)(torch.zeros(2)).abs().max() < 1e-7
    tensor(True)
    """

    def __init__(self, beta: float = 10.0) -> None:
        nn.Module.__init__(self)
        self.log_beta = nn.Parameter(torch.tensor(math.log(beta)))
        self.threshold = 20.0

    @property
    def beta(self) -> float:
        """The sharpness as a number, as that of other softplus units; `nets.with_beta` sets it."""
        return float(self.log_beta.detach().exp())

    @beta.setter
    def beta(self, value: float) -> None:
        with torch.no_grad():
            self.log_beta.fill_(math.log(value))

    def forward(self, input: Tensor) -> Tensor:
        """Values of the input's shape."""
        beta = self.log_beta.exp()
        return (F.softplus(beta * input) - math.log(2)) / beta


def with_learned_beta(net: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """A copy of a net with `CentredSoftplus` in place of each softplus unit, as sharp as that was."""
    net = copy.deepcopy(net)
    units = [name for name, unit in net.named_modules() if type(unit) is nn.Softplus]
    if not units:
        raise ValueError("the model has no softplus unit whose beta could be learned; see nets.with_softplus.")
    like = next(net.parameters())
    for path in units:
        parent, _, name = path.rpartition(".")
        learned = CentredSoftplus(float(cast("nn.Softplus", net.get_submodule(path)).beta)).to(like.device, like.dtype)
        setattr(net.get_submodule(parent), name, learned)
    return net


@penalised(
    "lcnn",
    label="low curvature",
    cost=2.7,
    strength="weight",
    shape=with_learned_beta,
)
def low_curvature(
    net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, weight: float = 0.05, sharpness: float = 0.01
) -> Tensor:
    """Train blunt units and a flat loss: CE(x) + sharpness sum beta + weight ||g_CE(x)||^2, each unit's beta learned.

    The authors also hold the scales of batch norm, which this net has not.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.low_curvature(nets.ConvNet(), few, weight=1.0, epochs=1).best_epoch
    1

    Source: Srinivas et al. 2022.
    """
    value, slope = loss_and_slope(net, x, y)
    with torch.enable_grad():
        betas = [unit.log_beta.exp() for unit in net.modules() if isinstance(unit, CentredSoftplus)]
        return (value + weight * length_squared(slope)).mean() + sharpness * torch.stack(betas).sum()
