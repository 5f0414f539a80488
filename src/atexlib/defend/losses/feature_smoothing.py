"""Feature smoothing: a blurred copy of the first features is added to them, and the net trained by PGD."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets.running import logits_of
from .penalised import penalised
from .pgd_training import worst_for_loss

KERNEL = (1.0, 2.0, 1.0)  # of the Gaussian blur, in each direction


class Blurred(nn.Module):
    """Features and, mixed by a 1 x 1 convolution, their Gaussian blur: h + mix(blur(h)), (B, K, H, W) each.

    >>> import torch
    >>> from atexlib.defend.losses.feature_smoothing import Blurred
    >>> h = torch.rand(1, 4, 6, 6)
    >>> torch.equal(Blurred(4)(h), h)  # as it begins
    True
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
        for values in self.mix.parameters():
            nn.init.zeros_(values)

    def forward(self, h: Tensor) -> Tensor:
        """Smoothed features."""
        row = torch.tensor(KERNEL, dtype=h.dtype, device=h.device)
        kernel = (row[:, None] * row / row.sum() ** 2).expand(h.shape[1], 1, 3, 3)
        return h + self.mix(F.conv2d(h, kernel, padding=1, groups=h.shape[1]))


def with_smoothing(net: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """A copy of a net with `Blurred` before its second convolution, which changes nothing until it is trained."""
    net = copy.deepcopy(net)
    convolutions = [name for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d)]
    if len(convolutions) < 2:
        raise ValueError(f"the model has {len(convolutions)} convolutions; features are smoothed before the second.")
    second = cast("nn.Conv2d", net.get_submodule(convolutions[1]))
    block = Blurred(second.in_channels).to(second.weight.device, second.weight.dtype)
    parent, _, name = convolutions[1].rpartition(".")
    setattr(net.get_submodule(parent), name, nn.Sequential(block, second))
    return net


@penalised(
    "feature_smoothing",
    label="feature smoothing",
    cost=5.2,
    strength="eps",
    shape=with_smoothing,
)
def feature_smoothing(
    net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, eps: float = 0.01, steps: int = 5
) -> Tensor:
    """Train smoothed features on attacked images: CE(x') by PGD within `eps`, h + mix(blur(h)) before convolution 2.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.feature_smoothing(nets.ConvNet(), few, eps=0.02, epochs=1).best_epoch
    1

    Source: Bhusal et al. 2026.
    """
    worst = worst_for_loss(net, x, y, generator, eps=eps, steps=steps)
    with torch.enable_grad():
        return F.cross_entropy(logits_of(net, worst), y)
