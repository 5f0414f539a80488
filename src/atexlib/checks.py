"""Checks of what a caller hands in: each raises a ValueError that names the value and what to do about it."""

import difflib
import math
import numbers
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

SUM = 1e-4  # so near to 1 do rows of probabilities add up
BATCH_OF_ONE = "more than 1 value per channel"  # what batch norm in train mode says of it
_TRUSTED = ContextVar("trusted", default=False)


@contextmanager
def trusted() -> Iterator[None]:
    """Values that were checked before a loop are not read again in its steps: `batch` and `labels` look at shapes.

    To read a value, a GPU must first finish all that it was asked to do, and its next kernels wait for the answer.
    """
    token = _TRUSTED.set(True)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def is_trusted() -> bool:
    """Whether a loop is `trusted` whose values were checked before it."""
    return _TRUSTED.get()


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise unless `value` is one of the `allowed` words; the error names the nearest one."""
    allowed = list(allowed)
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} is {value!r}, which is unknown.{hint} Choose one of: {', '.join(allowed)}.")


def number(name: str, value: float, *, low: float = 0.0, open_low: bool = False, high: float = math.inf) -> None:
    """Raise unless `value` is a finite number in [low, high], or in (low, high] with `open_low`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; pass a finite number.")
    if value < low or value > high or (open_low and value == low):
        rule = f"above {low}" if open_low else f"at least {low}"
        rule += f" and at most {high}" if math.isfinite(high) else ""
        raise ValueError(f"{name} is {value!r}; it must be {rule}.")


def count(name: str, value: int, *, low: int = 1, high: float = math.inf) -> None:
    """Raise unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} is {value!r}; pass a whole number.")
    number(name, value, low=low, high=high)


def switch(name: str, value: bool | str) -> bool:
    """True or False, also from the words of a setting; raise for anything else."""
    words = {word: said for said, own in ((True, "1 true yes on"), (False, "0 false no off")) for word in own.split()}
    word = "0" if value == "" else str(value).strip().lower()
    if not isinstance(value, bool | str) or word not in words:
        raise ValueError(f"{name} is {value!r}; pass True or False.")
    return words[word]


def four_axes(name: str, x: Tensor) -> None:
    """Raise unless `x` is a non-empty float tensor (B, C, H, W)."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is a {type(x).__name__}; pass a torch tensor of shape (B, C, H, W).")
    if x.ndim != 4:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; pass (B, C, H, W), one image as x.unsqueeze(0).")
    if x.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, which is empty; pass at least one image.")
    if not x.is_floating_point():
        raise ValueError(f"{name} has dtype {x.dtype}; pass floats, for example images.float() / 255.")


def batch(name: str, x: Tensor, *, bounds: tuple[float, float] | None = None) -> None:
    """Raise unless `x` is a non-empty, finite float batch (B, C, H, W), inside `bounds` where they are given.

    A few rounding steps outside are let through, as they come from undoing a normalisation.
    """
    four_axes(name, x)
    if _TRUSTED.get():
        return
    low, high = torch.stack(x.detach().aminmax()).tolist()  # one pass; both are nan where any value is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} holds nan or infinite values; remove or replace them first.")
    if bounds is None:
        return
    least, most = torch.tensor(bounds, dtype=x.dtype).tolist()  # rounded as the images are
    slack = 8 * torch.finfo(x.dtype).eps * max(abs(least), abs(most))
    if low < least - slack or high > most + slack:
        raise ValueError(
            f"{name} ranges over [{low:.4g}, {high:.4g}], outside {bounds}; rescale it and put the preprocessing "
            "inside the net, or pass bounds that hold where a function takes them. Where only rounding carried it out, "
            f"{name}.clamp{tuple(bounds)} brings it back."
        )


def fine(name: str, x: Tensor) -> None:
    """Raise unless `x` is float32 or float64: in coarser numbers the steps of an attack drown in rounding."""
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} has dtype {x.dtype}, too coarse for an attack: it rounds away what a step changes. Pass "
            f"{name}.float(), and the net as model.float()."
        )


def logits(values: Tensor) -> None:
    """Raise if what a net returned (B, C) is not finite, or is probabilities, whose gradients fade where it is sure."""
    if _TRUSTED.get():
        return
    broken = (~values.isfinite()).any(1).nonzero()[:, 0].tolist()
    if broken:
        some = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        raise ValueError(f"the model returned nan or infinite logits for images {some}; mend it.")
    if values.min() >= 0 and ((values.sum(1) - 1).abs() < SUM).all():
        raise ValueError(
            "the model returned probabilities; take its last softmax away. If their logarithm shall be explained, let "
            "it return log-probabilities."
        )


def interval(name: str, value: tuple[float, float]) -> None:
    """Raise unless `value` is a pair of finite numbers (low, high) with low below high."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} is {value!r}; pass a pair (low, high).")
    for end in value:
        number(name, end, low=-math.inf)
    if value[0] >= value[1]:
        raise ValueError(f"{name} is {value!r}; the first number must be the smaller one.")


def same_shape(name: str, a: Tensor, other: str, b: Tensor) -> None:
    """Raise unless the two tensors have one shape."""
    if a.shape != b.shape:
        raise ValueError(f"{name} has shape {tuple(a.shape)} but {other} has {tuple(b.shape)}; they must be equal.")


def labels(name: str, value: Tensor, *, size: int, classes: int | None = None) -> None:
    """Raise unless `value` holds `size` whole-number class labels, each in [0, classes) where that is given."""
    if not isinstance(value, Tensor) or value.is_floating_point() or value.dtype == torch.bool:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name} is {kind}; pass a tensor of whole numbers (torch.long).")
    if value.shape != (size,):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; pass one label an image, shape ({size},).")
    if _TRUSTED.get():
        return
    low, high = torch.stack(value.aminmax()).tolist()
    if low < 0:
        raise ValueError(f"{name} holds {low}; labels are whole numbers from 0.")
    if classes is not None and high >= classes:
        raise ValueError(f"{name} holds {high}; the net has {classes} classes, so labels run from 0 to {classes - 1}.")


def examples(name: str, value: object) -> tuple[Tensor, Tensor]:
    """Images and labels of an `ImageSet`, a pair or a `TensorDataset`; raise for anything else."""
    if hasattr(value, "images") and hasattr(value, "labels"):
        return value.images, value.labels
    pair = getattr(value, "tensors", value)
    if not isinstance(pair, tuple | list) or len(pair) != 2 or isinstance(value, Tensor):
        raise ValueError(f"{name} is a {type(value).__name__}; pass an ImageSet, a pair (images, labels) or a dataset.")
    return pair[0], pair[1]


def generator(value: torch.Generator | None, *, on: torch.device | None = None) -> torch.Generator:
    """The generator itself, or a new one with seed 0 for None; raise unless it is on the CPU, or on the device `on`."""
    if value is None:
        return torch.Generator().manual_seed(0)
    if not isinstance(value, torch.Generator) or value.device.type not in ("cpu", on and on.type):
        where = f" on {value.device}" if isinstance(value, torch.Generator) else ""
        raise ValueError(f"generator is {value!r}{where}; pass torch.Generator().manual_seed(a number), on the CPU.")
    return value


def device(value: str | torch.device | None, model: nn.Module | None = None) -> torch.device:
    """The device, for None the one where the model is; raise for an unknown one or one that this machine lacks."""
    if value is None:
        if model is None:
            raise ValueError("device is None where no net is given; pass 'cpu' or 'cuda'.")
        return next((weight.device for weight in model.parameters()), torch.device("cpu"))
    try:
        found = torch.device(value)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {value!r}, which cannot be used here ({reason}); pass 'cpu'.") from error
    return found


@contextmanager
def takes(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Turn what torch raises where a net cannot take some images into a ValueError that names their shape and type."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        if isinstance(error, ValueError) and BATCH_OF_ONE not in str(error):
            raise
        _retell(error)
        reason = str(error).partition("\n")[0]
        what = f"images of shape {tuple(x.shape)}, {x.dtype}, on {x.device}"
        remedy = "pass images as it was made for."
        if "in-place" in reason:
            remedy = "it writes on what it is given: let its forward begin with x = x.clone()."
        if BATCH_OF_ONE in reason:
            remedy = "batch norm cannot train on one image: pass another batch_size."
        raise ValueError(f"{type(model).__name__} cannot take {what} ({reason}); {remedy}") from error


RECOMPUTED = (
    "the net recomputes a part by torch.utils.checkpoint, which does not go together with derivatives by the images; "
    "let it do so in train mode alone: checkpoint(f, x, use_reentrant=False) if self.training else f(x)"
)
_RETOLD = {  # what torch says where it cannot differentiate: what is wrong, and what to do
    "nference": "gradients cannot be computed of what was made in torch.inference_mode: use torch.no_grad instead, or "
    "leave it by torch.inference_mode(False) and pass images.clone() and a net built outside",
    "use_reentrant": RECOMPUTED,
    "Recomputed values": RECOMPUTED,
    "is not implemented": "a layer of the net has no second derivative, as Hardsigmoid and Hardswish; attack "
    "nets.with_softplus(model, beta=10), or pass that as the surrogate",
    "once_differentiable": "a layer of the net can be differentiated once only; give it a second derivative",
    "donated buffer": "a compiled net cannot be differentiated twice; pass the net that was compiled",
}


def _retell(error: Exception) -> None:
    """Raise what torch says where it cannot differentiate as a ValueError with a remedy; return from other errors."""
    for words, told in _RETOLD.items():
        if words in str(error):
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{told}. ({reason})") from error


@contextmanager
def derivatives() -> Iterator[None]:
    """Switch gradients on, refuse `torch.inference_mode`, and say in a sentence why torch cannot differentiate."""
    if torch.is_inference_mode_enabled():
        raise ValueError(f"{_RETOLD['nference']}.")
    try:
        with torch.enable_grad():
            yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        _retell(error)
        raise


def net(name: str, value: nn.Module) -> None:
    """Raise unless `value` is a torch module."""
    if not isinstance(value, nn.Module):
        raise ValueError(f"{name} is {value!r}; pass a torch.nn.Module.")
