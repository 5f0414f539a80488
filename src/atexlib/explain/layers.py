"""Where in a net a feature map is read: the last one on the way to the logits, found by the flow of the data."""

import functools
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from ..nets.running import evaluating, logits_of, plain
from .registry import EXPLAINERS, Explainer

POOLS = (
    nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.FractionalMaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Dropout, nn.Dropout2d, nn.Identity, nn.AlphaDropout,
)  # fmt: skip
UNITS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Softplus, nn.Threshold,
)  # fmt: skip
FIRST = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)  # channels are axis 1
LAST = (nn.Linear, nn.LayerNorm)  # channels are the last axis; of a subclass, whichever fits
EXTRA = 8  # tokens before those of the image, at most


@dataclass(frozen=True)
class Reading:
    """A module's name, and how its output becomes a feature map (B, K, h, w).

    >>> import torch
    >>> from atexlib import explain
    >>> explain.Reading("blocks.11.norm1", "tokens", (14, 14)).maps(torch.rand(2, 197, 64)).shape
    torch.Size([2, 64, 14, 14])
    """

    name: str
    channels: str
    """Where its channels are, `first` (B, K, h, w), `last` (B, h, w, K), `tokens` (B, N, K)."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of the tokens; they come last among the N."""
    grid_of: str = ""
    """The module that laid out the grid of the tokens."""

    def __str__(self) -> str:
        """The name, and for tokens where their grid comes from."""
        return f"{self.name} (tokens on the grid of {self.grid_of})" if self.grid_of else self.name

    def maps(self, output: Tensor) -> Tensor:
        """The feature map (B, K, h, w) of what the module returned."""
        if self.channels == "last":
            return output.movedim(3, 1)
        if self.channels == "tokens":
            return output[:, -math.prod(self.grid) :].transpose(1, 2).unflatten(2, self.grid)
        return output


@dataclass(eq=False)
class _Call:
    """One call of a module: what it returned, and marks of the tensors that went in and came out."""

    name: str
    module: nn.Module
    source: tuple[int, int] | None
    output: Tensor
    mark: tuple[int, int] = field(init=False)
    width: tuple[int, bool] | None = None
    """Channels of the last layer before that has a width, and whether its channels are axis 1."""

    def __post_init__(self) -> None:
        self.mark = _mark(self.output)


@checks.derivatives()
def reading(model: nn.Module, x: Tensor, layer: str | nn.Module | None = None) -> Reading:
    """How a layer is read as a feature map; for None the layer that Grad-CAM reads by default.

    That is the last module on the way to the logits whose output is a map of more than one pixel, or tokens on a grid,
    on which the logits depend. Pooling and dropout, and a unit that ends no block, are stepped over; of modules that
    return the same tensor it is the outermost. So it is the last stage of a ResNet, after its sum; the last block of
    GoogLeNet and Inception; the last convolution of a VGG; of a ViT the norm before the last attention.

    >>> import torch
    >>> from atexlib import nets
    >>> from atexlib.explain import layers
    >>> layers.reading(nets.ConvNet(), torch.rand(1, 1, 28, 28))
    Reading(name='conv2', channels='first', grid=(0, 0), grid_of='')

    Args:
        model: net that returns logits (B, C); it is looked at in eval mode.
        x: images (B, C, H, W), of which the first is looked at.
        layer: module, or its name.

    Raises:
        ValueError: an unknown name; a layer that is not called, gives no map, or one whose channels cannot be told.
    """
    checks.batch("x", x)
    model = plain(model)
    if layer is not None:
        layer = name_of(model, layer)
        if isinstance(model.get_submodule(layer), FIRST):
            return Reading(layer, "first")
    with evaluating(model):
        calls, slopes = _calls(model, x[:1])
    if layer is None:
        return _last(model, calls, slopes)
    own = [call for call in calls if call.name == layer]
    if not own:
        raise ValueError(
            f"layer {layer!r} gives no tensor; name one that the net calls, that has one output, and that the images "
            "change."
        )
    found = _read(own[-1], calls[: calls.index(own[-1])])
    if found is None:
        shape = tuple(own[-1].output.shape)
        raise ValueError(
            f"layer {layer!r} gives {shape}, no map (B, K, h, w), or one of which it cannot be told where its channels "
            "are; name a convolution of the net."
        )
    return found


def name_of(model: nn.Module, layer: str | nn.Module) -> str:
    """The name of a layer, given as a name or as a module; a ValueError where the net has none such."""
    names = {module: name for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        if layer not in names:
            raise ValueError(
                f"layer is a {type(layer).__name__} that is no part of the model; name one of its modules."
            )
        return names[layer]
    checks.one_of("layer", layer, names.values())
    return layer


def resolved(explainer: Explainer, model: nn.Module, x: Tensor) -> Explainer:
    """The explainer with the layer that it reads on this net, looked for once; one that reads none as it is.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> from atexlib.explain import layers
    >>> explain.described(layers.resolved(explain.grad_cam, nets.ConvNet(), torch.rand(1, 1, 28, 28)))
    'Grad-CAM of conv2'
    """
    inner: Any = explainer
    options: dict[str, Any] = {}
    while isinstance(inner, functools.partial):
        inner, options = inner.func, inner.keywords | options
    if inner is not EXPLAINERS.get("grad_cam") or isinstance(options.get("layer"), Reading):
        return explainer
    return functools.partial(explainer, layer=reading(model, x, options.get("layer")))


@contextmanager
def outputs_of(model: nn.Module, name: str) -> Iterator[list[Any]]:
    """What the module of this name returns while this is entered, call by call, safe from being overwritten in place.

    Calls by other threads are not looked at.
    """
    outputs: list[Any] = []
    thread = threading.get_ident()

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if threading.get_ident() != thread:
            return None
        outputs.append(output)
        return output.clone() if isinstance(output, Tensor) else output

    handle = model.get_submodule(name).register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def _calls(model: nn.Module, x: Tensor) -> tuple[list[_Call], list[Tensor | None]]:
    """The modules' calls in the order in which they end, and the slope of the predicted logit by each one's output."""
    calls: list[_Call] = []
    sources: list[tuple[int, int] | None] = []
    width: list[tuple[int, bool] | None] = [None]
    thread = threading.get_ident()  # others may use the net meanwhile

    def before(_module: nn.Module, inputs: tuple) -> None:
        if threading.get_ident() != thread:
            return
        sources.append(_mark(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else None)

    def after(name: str) -> Callable:
        def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() != thread:
                return
            source = sources.pop()
            width[0] = _width(module) or width[0]
            if isinstance(output, Tensor) and output.requires_grad:
                calls.append(_Call(name, module, source, output, width[0]))

        return keep

    with ExitStack() as stack, torch.enable_grad():
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_pre_hook(before).remove)
                stack.callback(module.register_forward_hook(after(name)).remove)
        score = logits_of(model, x.detach().requires_grad_()).max(1).values.sum()
        slopes = torch.autograd.grad(score, [call.output for call in calls], allow_unused=True) if calls else ()
    return calls, list(slopes)


def _last(model: nn.Module, calls: list[_Call], slopes: list[Tensor | None]) -> Reading:
    """The reading of the last feature map."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)  # calls that returned one tensor, the innermost first
    for number, call in enumerate(calls):
        groups[call.mark].append(number)
    for number in reversed(range(len(calls))):
        found = _read(calls[number], calls[:number])
        if found is None or not _matters(found, calls[number].output, slopes[number]):
            continue
        while True:
            group = groups[calls[number].mark]
            inner = calls[group[0]]
            # What a later tensor has taken the place of marks no call, hence what lies after all of them.
            before = groups.get(inner.source or (0, 0), [len(calls)])[0]
            if before >= group[0]:
                break
            lone = len(group) == 1 and _is_unit(inner, calls[before])
            if not (lone or isinstance(inner.module, POOLS)):
                break
            number = before
        found = _read(calls[group[-1]], calls[: group[-1]])
        if found is not None:
            return found
    convolutions = [call.name for call in calls if isinstance(call.module, nn.Conv2d)]
    if convolutions:  # the images are so small that each gives one pixel
        return Reading(convolutions[-1], "first")
    raise ValueError(f"{type(model).__name__} has no feature map on the way to its logits; name the layer, layer=...")


def _is_unit(call: _Call, before: _Call) -> bool:
    """Whether a module is a unit: one of torch's, or one's own that has no weights and no parts and keeps the shape."""
    module = call.module
    bare = not any(True for _ in module.parameters()) and not any(True for _ in module.children())
    return isinstance(module, UNITS) or (bare and call.output.shape == before.output.shape)


def _read(call: _Call, earlier: list[_Call]) -> Reading | None:
    """How a call's output is read, None where it is no map or where its channels cannot be told."""
    shape = call.output.shape
    if len(shape) == 3:
        for old in reversed([old for old in earlier if _channels(old) == "first"]):
            rows, columns = old.output.shape[2:]
            if 0 <= shape[1] - rows * columns <= EXTRA and rows * columns > 1:
                return Reading(call.name, "tokens", (rows, columns), old.name)
        return None
    channels = _channels(call)
    return None if channels is None else Reading(call.name, channels)


def _channels(call: _Call) -> str | None:
    """Where the channels of an output of four axes are: told by the layer, or by the width of the last one before."""
    if call.output.ndim != 4:
        return None
    if isinstance(call.module, FIRST) or call.width is None:
        return "first"
    if type(call.module) in LAST:
        return "last"
    width, is_first = call.width
    fits = [name for name, axis in (("first", 1), ("last", 3)) if call.output.shape[axis] == width]
    if len(fits) == 1:
        return fits[0]
    return "first" if is_first else None  # concatenated maps have another width than the last convolution


def _matters(found: Reading, output: Tensor, slope: Tensor | None) -> bool:
    """Whether a map has more than one pixel, and the logit depends on it."""
    if slope is None or math.prod(found.maps(output).shape[2:]) == 1:
        return False
    return bool(found.maps(slope).any())


def _mark(value: Tensor) -> tuple[int, int]:
    """What tells a tensor from others, and from itself before something was written on it."""
    return id(value), value._version


def _width(module: nn.Module) -> tuple[int, bool] | None:
    """The channels of a layer, and whether they are axis 1; None for what has no width of its own."""
    if isinstance(module, FIRST):
        names = ("out_channels", "num_features", "num_channels")
        return next(getattr(module, name) for name in names if hasattr(module, name)), True
    if isinstance(module, nn.Linear):
        return module.out_features, False
    return (module.normalized_shape[-1], False) if isinstance(module, nn.LayerNorm) else None
