"""Nets that declare another gradient than their own: the backward pass is written by hand, and made to please."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks

WIDTH = 9  # of the kernel that blurs a gradient
LEVELS = 8  # to which a quantised net rounds its images
AMPLITUDE, WAVES = 0.02, 500.0  # of the ripple that hides slopes: its height in pixels of [0, 1], and its frequency


class _Declared(torch.autograd.Function):
    """The image as it is on the way to the logits, and a gradient of somebody's choice on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, style: str, mix: float) -> Tensor:
        ctx.style, ctx.mix = style, mix
        if style == "quantised":
            return (1 - mix) * x + mix * (x * LEVELS).round() / LEVELS
        if style == "ripple":
            return x + mix * AMPLITUDE * torch.sin(WAVES * x)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        slope = slopes[0]
        if ctx.style == "constant":
            picture = _picture(slope)
            length = torch.linalg.vector_norm(slope, dim=(1, 2, 3), keepdim=True)
            return torch.lerp(slope, length * picture, ctx.mix), None, None
        if ctx.style == "blur":
            channels = slope.shape[1]
            kernel = slope.new_ones(channels, 1, WIDTH, WIDTH) / WIDTH**2
            blurred = F.conv2d(slope, kernel, padding=WIDTH // 2, groups=channels)
            return torch.lerp(slope, blurred, ctx.mix), None, None
        return slope, None, None


def _picture(like: Tensor) -> Tensor:
    """A round spot in the middle, of length one, as large as an image."""
    rows, columns = (torch.linspace(-2, 2, side, dtype=like.dtype, device=like.device) for side in like.shape[2:])
    spot = torch.exp(-(rows[:, None].square() + columns.square())).expand(like.shape[1:])
    return spot / math.sqrt(spot.square().sum().item())


STYLES = ("constant", "blur", "quantised", "ripple")


class Decorated(nn.Module):
    """A net behind a layer whose backward pass is not the derivative of its forward pass.

    `constant` declares one picture for all images, `blur` a smoothed gradient; the logits stay. `quantised` rounds the
    image, `ripple` adds a wave too fine to see, and both pass the gradient on as if they had not: the logits move a
    little, and the slopes that are declared are not those that an attack finds.

    >>> import torch
    >>> from atexlib import attack, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> maps = explain.gradient(attack.Decorated(net, "constant"), x)
    >>> bool(torch.allclose(maps[0] / maps[0].norm(), maps[1] / maps[1].norm(), atol=1e-5))
    True

    Args:
        net: the net inside.
        style: one of `constant`, `blur`, `quantised`, `ripple`.
        mix: how much of it, in [0, 1]; 0 is the honest net.
    """

    def __init__(self, net: nn.Module, style: str, *, mix: float = 1.0) -> None:
        super().__init__()
        checks.net("net", net)
        checks.one_of("style", style, STYLES)
        checks.number("mix", mix, high=1.0)
        self.net, self.style, self.mix = net, style, mix

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) of images (B, C, H, W)."""
        return self.net(_Declared.apply(x, self.style, self.mix))
