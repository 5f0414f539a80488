"""Softplus units in place of every ReLU of any net, however it is written: beta-smoothing."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from .. import checks
from .running import plain

WIDE = 20  # widths 1 / beta of a kink: a clamp between nearer bounds is a guard, and stays


class SoftplusReLU6(nn.Module):
    """The smooth counterpart of ReLU6: the difference of two softplus units, six apart.

    >>> import torch
    >>> from atexlib import nets
    >>> nets.SoftplusReLU6(beta=20)(torch.tensor([-3.0, 3.0, 9.0])).round()
    tensor([0., 3., 6.])
    """

    def __init__(self, beta: float, inplace: bool = False) -> None:
        super().__init__()
        self.beta, self.inplace = beta, inplace

    def forward(self, x: Tensor) -> Tensor:
        """Values in (0, 6), of x's shape."""
        value = _between(x.clone() if self.inplace else x, 0, 6, beta=self.beta)
        return x.copy_(value) if self.inplace else value


class InPlaceSoftplus(nn.Softplus):
    """Softplus that writes on its input, as `nn.ReLU(inplace=True)` does: some nets read what was written there.

    >>> import torch
    >>> from atexlib.nets.softplus import InPlaceSoftplus
    >>> x = torch.tensor([-9.0, 9.0])
    >>> InPlaceSoftplus(beta=20)(x) is x, x.round()
    (True, tensor([0., 9.]))
    """

    inplace = True

    def forward(self, input: Tensor) -> Tensor:
        """The input, on which softplus of it has been written."""
        return input.copy_(super().forward(input.clone()))


def with_softplus(model: nn.Module, beta: float) -> nn.Module:
    """A copy of `model` with softplus(beta) in place of every ReLU; the original stays untouched.

    `nn.ReLU` and `nn.ReLU6` become modules. All other spellings are exchanged while the copy runs: `F.relu`,
    `x.relu_()`, `x.clamp(min=0)`, `torch.maximum(x, zeros)`, and what has the same kinks: leaky ReLUs, PReLU, Hardtanh,
    Hardswish, Hardsigmoid. What bends nowhere between its kinks in another way, as max-pooling or `abs`, stays.
    Parameters keep their names.

    >>> from torch import nn
    >>> from atexlib import nets
    >>> nets.with_softplus(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), beta=10)[1]
    Softplus(beta=10, threshold=20.0)

    Args:
        model: any net.
        beta: sharpness of softplus(z) = log(1 + exp(beta z)) / beta, above 0; large is near to ReLU.

    Raises:
        ValueError: beta not above 0; a net that cannot be copied, or parts of which were made by torch.jit.

    Source: Dombrowski et al. 2019, beta-smoothing.
    """
    checks.net("model", model)
    checks.number("beta", beta, open_low=True)
    try:
        twin = copy.deepcopy(plain(model))
    except RuntimeError as error:  # as torch raises where a module keeps a tensor that has a graph
        raise ValueError(
            f"{type(model).__name__} cannot be copied ({error}); let its forward keep no tensors on the module."
        ) from error
    for parent in list(twin.modules()):
        for name, child in parent._modules.items():  # named_children leaves out the second use of one unit
            if child is not None:
                parent._modules[name] = _unit(child, beta)
    if _unit(twin, beta) is not twin:
        return _unit(twin, beta)
    twin.__class__ = _softened(type(twin), beta)
    return twin


def unit(beta: float | None) -> nn.Module:
    """A softplus unit, or for None a ReLU."""
    return nn.ReLU() if beta is None else nn.Softplus(beta)


def _unit(module: nn.Module, beta: float) -> nn.Module:
    """The smooth counterpart of a unit; of what is no unit, itself."""
    if isinstance(module, nn.ReLU):
        return InPlaceSoftplus(beta) if module.inplace else unit(beta)
    if isinstance(module, nn.ReLU6):
        return SoftplusReLU6(beta, module.inplace)
    if isinstance(module, KINKED) and not isinstance(module, _Softened):
        module.__class__ = _softened(type(module), beta)  # type: ignore[assignment]
    return module


# Leaf modules of torch.fx, in whose stead a tracer would not see what runs inside.
KINKED = (nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Threshold)


class _Softened:
    """What the classes of softened modules have in common."""

    softness: float


def as_in(model: nn.Module) -> AbstractContextManager:
    """What is exchanged while a softplus copy runs is exchanged inside this too: for steps of it that are run apart."""
    return _Smooth(model.softness) if isinstance(model, _Softened) else nullcontext()


def _softened(kind: type[nn.Module], beta: float) -> type[nn.Module]:
    """The same class of module, whose forward runs with smooth units."""

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _Smooth(beta):
            return kind.forward(self, *args, **kwargs)

    body = {"forward": forward, "softness": beta, "__module__": kind.__module__}
    return type(kind.__name__, (_Softened, kind), body)


class _Smooth(TorchFunctionMode):
    """While this is entered, every function with the kink of a ReLU is exchanged for its smooth counterpart."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func`, or what is smooth in its place; in place where `func` is."""
        kwargs = dict(kwargs or {})
        smooth = _COUNTERPARTS.get(func)
        x = args[0] if args else kwargs.get("input")
        if smooth is None or not isinstance(x, Tensor | fx.Proxy):
            return func(*args, **kwargs)
        given = kwargs if args else {name: value for name, value in kwargs.items() if name != "input"}
        in_place = given.pop("inplace", False) or func in _IN_PLACE
        given.pop("training", None)
        if func in _TAKE_INPLACE and len(args) > _TAKE_INPLACE[func]:
            in_place, args = args[_TAKE_INPLACE[func]], args[: _TAKE_INPLACE[func]]
        writes = in_place and isinstance(x, Tensor)
        value = smooth(x.clone() if writes else x, *args[1:], beta=self.beta, **given)
        if value is None:
            return func(*args, **kwargs)
        return x.copy_(value) if writes else value


def _relu(x: Any, *, beta: float) -> Any:
    return F.softplus(x, beta)


def _between(x: Any, low: float, high: float, *, beta: float) -> Any:
    return low + F.softplus(x - low, beta) - F.softplus(x - high, beta)


def _hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0, *, beta: float) -> Any:
    return _between(x, min_val, max_val, beta=beta)


def _clamp(x: Any, min: Any = None, max: Any = None, *, beta: float) -> Any:
    """A clamp from zero, or between bounds that lie wide apart; None for one that only guards."""
    min, max = (bound.item() if isinstance(bound, Tensor) and bound.numel() == 1 else bound for bound in (min, max))
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        return None
    if max is None:
        return F.softplus(x, beta) if min == 0 else None
    if min is None:
        return -F.softplus(-x, beta) if max == 0 else None
    return _between(x, min, max, beta=beta) if (max - min) * beta >= WIDE else None


def _maximum(x: Any, other: Any, *, beta: float) -> Any:
    """The larger one of x and zeros, in either order; None for anything else."""
    for a, b in ((x, other), (other, x)):
        if _is_zero(b) and not _is_zero(a):
            return F.softplus(a, beta)
    return None


def _max(x: Any, *others: Any, beta: float, **given: Any) -> Any:
    """The same as torch.max and Tensor.max; these also look for the largest entry of one tensor, which stays."""
    others += tuple(given.pop(name) for name in ("other",) if name in given)
    known = len(others) == 1 and isinstance(others[0], Tensor | fx.Proxy) and not given
    return _maximum(x, others[0], beta=beta) if known else None


def _minimum(x: Any, other: Any, *, beta: float) -> Any:
    """Minus the larger one of minus x and zeros, in either order; None for anything else."""
    above = (
        _maximum(-x, other, beta=beta) if _is_zero(other) else _maximum(x, -other, beta=beta) if _is_zero(x) else None
    )
    return None if above is None else -above


def _is_zero(value: Any) -> bool:
    if isinstance(value, fx.Proxy):
        return value.node.target in (torch.zeros_like, "new_zeros")
    return isinstance(value, Tensor) and not value.requires_grad and not bool(value.detach().any())


def _leaky(x: Any, negative_slope: float = 0.01, *, beta: float) -> Any:
    return negative_slope * x + (1 - negative_slope) * F.softplus(x, beta)


def _rrelu(x: Any, lower: float = 1 / 8, upper: float = 1 / 3, *, beta: float) -> Any:
    return _leaky(x, (lower + upper) / 2, beta=beta)


def _prelu(x: Any, weight: Any, *, beta: float) -> Any:
    slope = weight.view(1, -1, *(1 for _ in x.shape[2:])) if weight.numel() > 1 else weight
    return slope * x + (1 - slope) * F.softplus(x, beta)


def _threshold(x: Any, threshold: float, value: float, *, beta: float) -> Any:
    return F.softplus(x, beta) if threshold == 0 and value == 0 else None


def _hardsigmoid(x: Any, *, beta: float) -> Any:
    return _between(x + 3, 0, 6, beta=beta) / 6


def _hardswish(x: Any, *, beta: float) -> Any:
    return x * _hardsigmoid(x, beta=beta)


_COUNTERPARTS: dict[Any, Callable] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _relu),
    F.relu6: functools.partial(_between, low=0, high=6),
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((torch.clamp, torch.clip, Tensor.clamp, Tensor.clip), _clamp),
    **dict.fromkeys((torch.clamp_, torch.clip_, Tensor.clamp_, Tensor.clip_), _clamp),
    **dict.fromkeys((torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_), _clamp),
    **dict.fromkeys((torch.maximum, Tensor.maximum, torch.fmax, Tensor.fmax), _maximum),
    **dict.fromkeys((torch.max, Tensor.max), _max),
    **dict.fromkeys((torch.minimum, Tensor.minimum, torch.fmin, Tensor.fmin), _minimum),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky),
    **dict.fromkeys((F.rrelu, F.rrelu_, torch.rrelu), _rrelu),
    **dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), _prelu),
    **dict.fromkeys((F.threshold, torch.threshold, torch.threshold_), _threshold),
    F.hardsigmoid: _hardsigmoid,
    F.hardswish: _hardswish,
}
_IN_PLACE = {
    F.relu_, torch.relu_, Tensor.relu_, F.hardtanh_, torch.clamp_, torch.clip_, Tensor.clamp_, Tensor.clip_,
    torch.clamp_min_, Tensor.clamp_min_, F.leaky_relu_, F.rrelu_, torch.threshold_,
}  # fmt: skip
_TAKE_INPLACE = {F.relu: 1, F.relu6: 1, F.hardtanh: 3, F.leaky_relu: 2, F.hardsigmoid: 1, F.hardswish: 1}
