"""Smooth pooling in place of max-pooling, in any net: no ties, so that a small push moves no map by leaps.

Where several entries of a window are equal, as on the black ground of a digit, the maximum has no derivative: which
entry passes the gradient on is decided by rounding, and the map leaps with the least noise.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .. import checks
from .running import plain
from .tracing import trace

POOLINGS = ("average", "strided")  # or a number, the beta of a log-mean-exp


class SmoothMaxPool2d(nn.Module):
    """The log-mean-exp of each window, log(mean(exp(beta x))) / beta: near the average for small beta, or the maximum.

    >>> import torch
    >>> from atexlib import nets
    >>> x = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    >>> [round(nets.SmoothMaxPool2d(2, beta=beta)(x).item(), 2) for beta in (0.01, 100)]
    [0.5, 0.99]

    Args:
        kernel_size: side of the square windows, in pixels.
        stride: from one window to the next; as far as a window is wide if None.
        padding: pixels at each side that count for nothing.
        beta: sharpness, above 0.

    Source: the sibling of beta-smoothing (Dombrowski et al. 2019) for the maximum; Boyd and Vandenberghe 2004,
    section 3.1.5.
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0, *, beta: float) -> None:
        super().__init__()
        checks.count("kernel_size", kernel_size)
        if stride is not None:
            checks.count("stride", stride)
        checks.count("padding", padding, low=0)
        checks.number("beta", beta, open_low=True)
        self.kernel_size, self.stride, self.padding, self.beta = kernel_size, stride or kernel_size, padding, beta

    def forward(self, x: Tensor) -> Tensor:
        """Pooled maps (B, C, h, w) of maps (B, C, H, W)."""
        size, step, edge = self.kernel_size, self.stride, self.padding
        x = F.pad(x, (edge,) * 4, value=-math.inf) if edge else x
        windows = x.unfold(2, size, step).unfold(3, size, step)
        return ((self.beta * windows).logsumexp((4, 5)) - math.log(size**2)) / self.beta

    def extra_repr(self) -> str:
        """The arguments, as torch shows them."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, beta={self.beta:g}"


class FirstOfWindow(nn.Module):
    """The upper left entry of each window: a convolution before it becomes one that skips pixels.

    >>> import torch
    >>> from atexlib.nets.pooling import FirstOfWindow
    >>> FirstOfWindow(2)(torch.arange(4.0).view(1, 1, 2, 2)).item()
    0.0
    """

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0) -> None:
        super().__init__()
        if padding:
            raise ValueError(f"padding is {padding}: the first entry of a window at the edge would be padding.")
        self.kernel_size, self.stride = kernel_size, stride or kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) of maps (B, C, H, W)."""
        size, step = self.kernel_size, self.stride
        return x.unfold(2, size, step).unfold(3, size, step)[..., 0, 0]


def with_pooling(model: nn.Module, pooling: str | float) -> nn.Module:
    """A copy of a net in eval mode with smooth pooling in place of every max-pooling; the original stays untouched.

    The weights stay what they were: train the copy on, or its accuracy falls.

    >>> from atexlib import nets
    >>> nets.with_pooling(nets.ConvNet(), "average").pool
    AvgPool2d(kernel_size=2, stride=2, padding=0)

    Args:
        model: any net; what contains functional max-pooling must be traceable by torch.fx.
        pooling: `average`; `strided`, the first entry of each window alone; or the beta of a `SmoothMaxPool2d`.

    Raises:
        ValueError: another word, beta not above 0; pooling that is not square or dilated; a net that holds no
            max-pooling, or cannot be traced, so that some might be hidden in it.
    """
    checks.net("model", model)
    check_pooling(pooling)
    twin = copy.deepcopy(plain(model)).eval()
    found = 0
    for parent in list(twin.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, nn.MaxPool2d):
                window = (child.kernel_size, child.stride, child.padding, child.dilation, child.ceil_mode)
                setattr(parent, name, _pool(pooling, *window))
                found += 1
    try:
        traced = trace(twin, leaves=(SmoothMaxPool2d, FirstOfWindow))
    except ValueError as error:
        if found:
            return twin
        told = "Functional max-pooling may be hidden in it: write it as nn.MaxPool2d."
        raise ValueError(f"{error} {told}") from error
    graph = traced.graph
    for name, value in traced.constants.items():
        setattr(twin, name, value)
    functional = [node for node in graph.nodes if node.target in (F.max_pool2d, torch.max_pool2d)]
    if not found and not functional:
        raise ValueError(f"{type(model).__name__} holds no max-pooling; there is nothing to put another in place of.")
    for place, node in enumerate(functional):
        given = dict(zip(("input", *_OPTIONS), node.args, strict=False)) | node.kwargs
        options = [given.get(name, default) for name, default in _OPTIONS.items()]
        twin.add_module(f"smooth_pool{place}", _pool(pooling, *options))
        with graph.inserting_before(node):
            new = graph.call_module(f"smooth_pool{place}", (given["input"],))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    return fx.GraphModule(twin, graph, type(twin).__name__).eval() if functional else twin


def check_pooling(pooling: str | float) -> None:
    """Raise unless this names a smooth pooling, or is the beta of one."""
    if isinstance(pooling, str):
        checks.one_of("pooling", pooling, POOLINGS)
    else:
        checks.number("pooling", pooling, open_low=True)


_OPTIONS = {"kernel_size": None, "stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}


def _pool(pooling: str | float, *options: object) -> nn.Module:
    """Smooth pooling with the window of a max-pooling."""
    sizes: list[int] = []
    for name, value in zip(("kernel_size", "stride", "padding", "dilation"), options, strict=False):
        both = value if isinstance(value, tuple) else (value, value)
        if both[0] != both[1] or (name == "dilation" and both[0] != 1):
            raise ValueError(f"the {name} of a max-pooling is {value}; only square windows without gaps are smoothed.")
        sizes.append(both[0])
    size, step, edge, _ = sizes
    if options[4]:
        raise ValueError("a max-pooling has ceil_mode=True, whose smooth counterpart is not defined here.")
    if pooling == "strided":
        return FirstOfWindow(size, step, edge)
    if pooling == "average":
        return nn.AvgPool2d(size, step, edge, count_include_pad=False)
    return SmoothMaxPool2d(size, step, edge, beta=float(pooling))
