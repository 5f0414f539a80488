"""Nets with fixed weights, made for second derivatives: no gradient of a weight is computed.

Differentiating a convolution twice, torch also computes the gradient of the weights, wanted or not. In an attack on a
net that is most of the second derivative's time, thrown away.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.autograd import Function
from torch.nn import grad
from torch.overrides import TorchFunctionMode

_ACTIVE = ContextVar("active", default=False)


def weights_are_fixed() -> bool:
    """Whether `FixedWeights` is entered. A backward pass runs outside of it: what it computes anew must enter it."""
    return _ACTIVE.get()


class FixedWeights(TorchFunctionMode):
    """While this is entered, every parameter of every net counts as a constant; no net is changed for it.

    >>> import torch
    >>> layer, x = torch.nn.Conv2d(1, 2, 3), torch.rand(2, 1, 8, 8)
    >>> with FixedWeights():
    ...     inside = layer(x)
    >>> inside.requires_grad, layer(x).requires_grad
    (False, True)
    """

    def __enter__(self) -> "FixedWeights":
        self.outside = _ACTIVE.set(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _ACTIVE.reset(self.outside)
        super().__exit__(*error)

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func` with constants in place of parameters, and convolutions by `convolve`."""
        kwargs = dict(kwargs or {})
        if any(isinstance(value, fx.Proxy) for value in (*args, *kwargs.values())):
            return func(*args, **kwargs)  # torch.fx knows parameters by their identity
        args = tuple(value.detach() if isinstance(value, nn.Parameter) else value for value in args)
        kwargs = {key: value.detach() if isinstance(value, nn.Parameter) else value for key, value in kwargs.items()}
        if func is F.conv2d:
            return convolve(*args, **kwargs)
        if func is F.max_pool2d and not kwargs.get("return_indices"):
            kwargs.pop("return_indices", None)
            return pool(*args, **kwargs)
        if func is Tensor.view and not args[0].is_contiguous() and not isinstance(args[1], torch.dtype):
            func = Tensor.reshape  # what comes last may not be viewed as if it did not
        return func(*args, **kwargs)


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """F.conv2d, whose second derivative computes nothing by the weights where these need no gradient.

    On a CPU channels come last, which is up to twice as fast; on a GPU they stay where they are, which is faster there.
    """
    kind = input.device.type
    fixed = not weight.requires_grad and (bias is None or not bias.requires_grad)
    mixed = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    if isinstance(padding, str) or mixed or not fixed or input.ndim != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    weight = _laid_out(weight)
    return _Convolve.apply(input, weight, bias, (stride, padding, dilation, groups))


def pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """F.max_pool2d, whose second derivative lets channels stay last; torch copies them there and back."""
    options = (kernel_size, stride or kernel_size, padding, dilation, ceil_mode)
    if input.is_contiguous() or not input.requires_grad:
        return F.max_pool2d(input, *options)
    return _Pool.apply(input, options)[0]


def transpose(slope: Tensor, weight: Tensor, shape: Sequence[int], layer: nn.Conv2d) -> Tensor:
    """The transpose of a layer's convolution by some weight, from outputs to inputs (B, C, H, W) of this shape."""
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    weight = _laid_out(weight)
    if weight.requires_grad:
        return grad.conv2d_input(torch.Size(shape), weight, slope, *options)
    return _Transpose.apply(slope, weight, options, torch.Size(shape))


def _laid_out(weight: Tensor) -> Tensor:
    # Unlike `contiguous`, `to` also says of a single channel that it comes last.
    return weight.to(memory_format=torch.channels_last) if weight.device.type == "cpu" else weight


class _Convolve(Function):
    """F.conv2d as a function of its input alone; its derivative is `_Transpose`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple) -> Tensor:
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _, options = inputs
        ctx.save_for_backward(weight)
        ctx.options, ctx.shape = options, x.shape

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple:
        return _Transpose.apply(slope, *ctx.saved_tensors, ctx.options, ctx.shape), None, None, None


class _Transpose(Function):
    """The transposed convolution, linear in `slope`; its derivative is the convolution again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: Tensor, weight: Tensor, options: tuple, shape: torch.Size) -> Tensor:
        return grad.conv2d_input(shape, weight, slope, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, weight, options, _ = inputs
        ctx.save_for_backward(weight)
        ctx.options = options

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple:
        return _Convolve.apply(y, *ctx.saved_tensors, None, ctx.options), None, None, None


class _Pool(Function):
    """F.max_pool2d; its derivative is `_Unpool`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, options: tuple) -> tuple[Tensor, Tensor]:
        return F.max_pool2d(x, *options, return_indices=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.options = inputs[1]

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple:
        x, places = ctx.saved_tensors
        return _Unpool.apply(slope, x.detach(), places, ctx.options), None


def _keep_places(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, x, places, options = inputs
    ctx.save_for_backward(x, places)
    ctx.options = options


class _Unpool(Function):
    """Puts each entry of `slope` where the maximum was, linear in it; its derivative reads it there."""

    generate_vmap_rule = True

    @staticmethod
    def forward(slope: Tensor, x: Tensor, places: Tensor, options: tuple) -> Tensor:
        return torch.ops.aten.max_pool2d_with_indices_backward(slope, x, *map(_pair, options[:4]), options[4], places)

    setup_context = staticmethod(_keep_places)

    @staticmethod
    def backward(ctx: Any, y: Tensor) -> tuple:
        return _Read.apply(y, *ctx.saved_tensors, ctx.options), None, None, None


class _Read(Function):
    """Reads y where the maxima were; its derivative is `_Unpool` again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, x: Tensor, places: Tensor, options: tuple) -> Tensor:
        rows, numbers = (values.movedim(1, 3).flatten(1, 2) for values in (y, places))
        return rows.gather(1, numbers).unflatten(1, places.shape[2:]).movedim(3, 1)

    setup_context = staticmethod(_keep_places)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple:
        return _Unpool.apply(slope, *ctx.saved_tensors, ctx.options), None, None, None


def _pair(value: Any) -> list[int]:
    return list(value) if isinstance(value, tuple | list) else [value, value]
