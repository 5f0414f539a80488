"""A convolution with fixed weights, made for second derivatives.

Differentiating a convolution twice, torch also computes the gradient of the weights, wanted or not. In an attack on a
frozen net that is most of the second derivative's time, thrown away.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import grad


class _Convolve(Function):
    """F.conv2d as a function of its input alone; its derivative is `_Transpose`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.options, ctx.shape = options, x.shape
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple:
        return _Transpose.apply(slope, *ctx.saved_tensors, ctx.options, ctx.shape), None, None, None


class _Transpose(Function):
    """The transposed convolution, linear in `slope`; its derivative is the convolution again."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, weight: Tensor, options: tuple, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.options = options
        return grad.conv2d_input(shape, weight, slope, *options)

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple:
        return _Convolve.apply(y, *ctx.saved_tensors, None, ctx.options), None, None, None


def with_fixed_weights(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """What `layer(x)` gives, for a layer whose parameters need no gradient."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return type(layer).forward(layer, x)
    return _Convolve.apply(x, layer.weight, layer.bias, (layer.stride, layer.padding, layer.dilation, layer.groups))
