"""A look into one layer: what it hands to torch's own functions, and the layer with a part of it held fixed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Call(NamedTuple):
    """The arguments of F.conv2d, the first three those of F.linear too."""

    input: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


class BatchNorm(NamedTuple):
    """The arguments of F.batch_norm after its input, as F.batch_norm has them."""

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


class _Instead(TorchFunctionMode):
    """Calls some functions of torch by others."""

    def __init__(self, others: dict[Callable, Callable]) -> None:
        super().__init__()
        self.others = others

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.others.get(func, func)(*args, **(kwargs or {}))


def ending_call(layer: Callable, x: Tensor, function: Callable) -> Call | None:
    """What a layer hands to F.conv2d, or F.linear: None unless it returns what that gives at its first call.

    So a convolution that pads its input, or makes its weight anew at each call, is read as what it computes.
    """
    calls: list[tuple[Call, Tensor]] = []

    def note(*args: Any, **kwargs: Any) -> Tensor:
        calls.append((Call(*args, **kwargs), function(*args, **kwargs)))
        return calls[-1][1]

    with _Instead({function: note}):
        found = layer(x)
    return calls[0][0] if calls and found is calls[0][1] else None


def held(layer: Callable, x: list[Tensor]) -> Callable | None:
    """A layer whose norms keep the standard deviations that they have at x, so that it is linear but for its bias.

    None if it calls none of torch's norms by what it takes: F.layer_norm, F.group_norm, F.instance_norm.

    Source: Ali et al. 2022, the rule for layer norms.
    """
    known: list[Tensor] = []

    def run(*points: Tensor) -> Any:
        found = iter(list(known))

        def norm(input: Tensor, parts: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
            grouped = isinstance(parts, int)
            rows = input.reshape(len(input), parts, -1) if grouped else input.flatten(-len(parts))
            size = next(found, None)
            if size is None:
                size = (rows.var(-1, keepdim=True, correction=0) + eps).sqrt()
                known.append(size)
            out = ((rows - rows.mean(-1, keepdim=True)) / size).reshape(input.shape)
            wide = (-1, *[1] * (input.ndim - 2)) if grouped else parts
            out = out if weight is None else out * weight.view(wide)
            return out if bias is None else out + bias.view(wide)

        def instances(
            input: Tensor,
            running_mean: Tensor | None = None,
            running_var: Tensor | None = None,
            weight: Tensor | None = None,
            bias: Tensor | None = None,
            use_input_stats: bool = True,
            momentum: float = 0.1,
            eps: float = 1e-5,
        ) -> Tensor:
            if use_input_stats:
                return norm(input, input.shape[1], weight, bias, eps)
            return F.instance_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)

        with _Instead({F.layer_norm: norm, F.group_norm: norm, F.instance_norm: instances}):
            return layer(*points)

    run(*x)
    return run if known else None
