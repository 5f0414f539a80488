"""The register of explainers: a decorator at the definition enters one, everything else reads it here.

Every explainer is `NAME(model, x, target=None, *, create_graph=False, ...)`. It returns raw signed values of x's shape
(Grad-CAM: one channel). `target` is a class for all images, a tensor (B,) of classes, or None for the predicted class.
With `create_graph` the map can be differentiated again, exactly, with respect to x and to the net's weights.

The net is looked at in eval mode, without autocast and out of what `torch.compile` put around it, and given back as it
was: a registered explainer is wrapped so that it finds it like that.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .. import checks
from ..nets.running import evaluating, plain

Explainer = Callable[..., Tensor]


@dataclass(frozen=True)
class Traits:
    """What the rest of the library must know of an explainer.

    >>> from atexlib import explain
    >>> explain.traits("grad_cam")
    Traits(label='Grad-CAM', signed=True, reads_layer=True, from_zero=True)
    """

    label: str
    """Its name in a figure."""
    signed: bool
    """Whether a negative value speaks against the class; then a heat map is cut off at zero, else sizes count."""
    reads_layer: bool
    """Whether it takes `layer=`, the module to read at."""
    from_zero: bool
    """Whether its heat map starts at zero; else at the map's smallest value."""


EXPLAINERS: dict[str, Explainer] = {}
TRAITS: dict[str, Traits] = {}


def explainer(
    *, label: str, signed: bool, reads_layer: bool = False, from_zero: bool = False
) -> Callable[[Explainer], Explainer]:
    """Enter the decorated function in the register, under its own name; it will find the net in eval mode.

    >>> @explainer(label="brightness", signed=False)
    ... def brightness(model, x, target=None, *, create_graph=False):
    ...     return x
    >>> "brightness" in EXPLAINERS, EXPLAINERS.pop("brightness") is brightness, TRAITS.pop("brightness").label
    (True, True, 'brightness')
    """

    def enter(function: Explainer) -> Explainer:
        @functools.wraps(function)
        def read(model: nn.Module, *arguments: Any, **options: Any) -> Tensor:
            net = plain(model)
            with checks.derivatives(), evaluating(net):
                return function(net, *arguments, **options)

        EXPLAINERS[function.__name__] = read
        TRAITS[function.__name__] = Traits(label, signed, reads_layer, from_zero)
        return read

    return enter


def available() -> tuple[str, ...]:
    """The names of all explainers.

    >>> from atexlib import explain
    >>> explain.available()
    ('gradient', 'gradient_x_input', 'grad_cam', 'smoothgrad', 'integrated_gradients', 'lrp')
    """
    return tuple(EXPLAINERS)


def traits(chosen: str | Explainer) -> Traits:
    """What is known of an explainer; of a function that is not registered, that it is unsigned and reads no layer.

    >>> from atexlib import explain
    >>> explain.traits(explain.lrp).label
    'LRP'
    """
    name = getattr(_inner(chosen), "__name__", type(_inner(chosen)).__name__)
    return TRAITS[name] if is_registered(chosen) else Traits(name, signed=False, reads_layer=False, from_zero=False)


def is_registered(chosen: str | Explainer) -> bool:
    """Whether this is an explainer of the register, perhaps with options set, and no function of one's own.

    >>> from atexlib.explain import registry
    >>> registry.is_registered("lrp"), registry.is_registered(lambda model, x, target: x)
    (True, False)
    """
    return any(_inner(chosen) is known for known in EXPLAINERS.values())


def _inner(chosen: str | Explainer) -> Explainer:
    """The function inside of `functools.partial`."""
    function = find(chosen)
    while isinstance(function, functools.partial):
        function = function.func
    return function


def described(chosen: str | Explainer) -> str:
    """An explainer in words: its name, and the layer that it reads where one is set.

    >>> import functools
    >>> from atexlib import explain
    >>> explain.described(functools.partial(explain.grad_cam, layer="conv1"))
    'Grad-CAM of conv1'
    """
    function, layer = find(chosen), None
    while isinstance(function, functools.partial):
        layer = function.keywords.get("layer") if layer is None else layer
        function = function.func
    name = traits(function).label
    return name if layer is None else f"{name} of {layer}"


def tried(chosen: Explainer, model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    """The maps of an explainer that may be somebody's own; a ValueError that says what it must be like if it fails.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> from atexlib.explain import registry
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> registry.tried(explain.gradient, net, x, torch.tensor([0, 1])).shape
    torch.Size([2, 1, 8, 8])
    """
    name = described(chosen)
    wanted = f"the explainer {name!r} must be called as f(model, x, target, *, create_graph=False)"
    try:
        inspect.signature(chosen).bind(model, x, target, create_graph=True)
    except TypeError as error:
        raise ValueError(f"{wanted}, and it cannot be ({error}).") from error
    except ValueError:
        pass  # what is written in C has no signature to look at
    maps = chosen(model, x, target)
    if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != len(x) or not maps.is_floating_point():
        what = f"{maps.dtype} {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(
            f"{wanted} and return a tensor of floats (B, C, H, W) for images (B, C, H, W); it gave {what}."
        )
    if checks.is_trusted():
        return maps
    broken = (~maps.detach().isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
    if broken:
        raise ValueError(f"the explainer {name!r} gives nan or infinite values for images {broken[:5]}; mend it.")
    return maps


def find(chosen: str | Explainer) -> Explainer:
    """The explainer of this name; a function is given back as it is.

    >>> from atexlib import explain
    >>> explain.find("gradient") is explain.gradient
    True

    Raises:
        ValueError: an unknown name; what is neither a name nor a function.
    """
    if isinstance(chosen, str):
        checks.one_of("explainer", chosen, EXPLAINERS)
        return EXPLAINERS[chosen]
    if not callable(chosen):
        raise ValueError(f"explainer is {chosen!r}; pass a name ({', '.join(EXPLAINERS)}) or a function.")
    return chosen
