"""The paper's ConvNet with softplus units."""

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn

from .. import checks
from .softplus import unit


class ConvNet(nn.Module):
    """Two convolutions and two linear layers with softplus units; returns logits (B, classes).

    Convolutions 3x3 with padding 1 and `width` channels, each followed by softplus and 2x2 max-pooling; then `hidden`
    softplus units and the logits. `beta=None` puts ReLU units in place of softplus.

    >>> import torch
    >>> from atexlib import nets
    >>> nets.ConvNet(channels=3, side=32)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Source: Tang et al. 2022, section 5 (the sizes are those of their published code).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        side: int = 28,
        classes: int = 10,
        width: int = 32,
        hidden: int = 120,
        beta: float | None = 10.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "classes": classes, "width": width, "hidden": hidden}.items():
            checks.count(name, value)
        checks.count("side", side, low=4)
        if beta is not None:
            checks.number("beta", beta, open_low=True)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.act1 = unit(beta)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.act2 = unit(beta)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(width * (side // 4) ** 2, hidden)
        self.act3 = unit(beta)
        self.fc2 = nn.Linear(hidden, classes)
        if generator is not None:
            _reset(self, checks.generator(generator))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, side, side)."""
        x = self._pooled(self.conv1(x), self.act1)
        x = self._pooled(self.conv2(x), self.act2)
        return self.fc2(self.act3(self.fc1(x.flatten(1))))

    def _pooled(self, x: Tensor, unit: nn.Module) -> Tensor:
        # The paper pools after each unit. A unit rises, so it may as well wait for the maximum: a quarter of the work.
        return unit(self.pool(x)) if isinstance(self.pool, nn.MaxPool2d) else self.pool(unit(x))


def _reset(model: nn.Module, generator: torch.Generator) -> None:
    """Draw torch's default initial values from `generator` rather than from the global one."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(cast("Tensor", layer.bias), -bound, bound, generator=generator)


def with_beta(model: nn.Module, beta: float) -> nn.Module:
    """A copy of a net in eval mode whose softplus units have another beta.

    >>> from atexlib import nets
    >>> nets.with_beta(nets.ConvNet(beta=10), 3).act1
    Softplus(beta=3, threshold=20.0)
    """
    checks.net("model", model)
    checks.number("beta", beta, open_low=True)
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.Softplus):
            module.beta = beta
    return twin.eval()
