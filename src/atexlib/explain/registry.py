"""The register of explainers: a decorator at the definition enters one, everything else reads it here.

Every explainer is `NAME(model, x, target=None, *, create_graph=False, ...)`. It returns raw signed values of x's shape
(Grad-CAM: one channel). `target` is a class for all images, a tensor (B,) of classes, or None for the predicted class.
With `create_graph` the map can be differentiated again, exactly, with respect to x and to the net's weights.

All but `lrp` leave the net in the mode that they find: call `model.eval()` first, or dropout makes the map random and
batch norm lets the images of a batch change each other's maps.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from .. import checks

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
    """Enter the decorated function in the register, under its own name.

    >>> @explainer(label="brightness", signed=False)
    ... def brightness(model, x, target=None, *, create_graph=False):
    ...     return x
    >>> "brightness" in EXPLAINERS, EXPLAINERS.pop("brightness") is brightness, TRAITS.pop("brightness").label
    (True, True, 'brightness')
    """

    def enter(function: Explainer) -> Explainer:
        EXPLAINERS[function.__name__] = function
        TRAITS[function.__name__] = Traits(label, signed, reads_layer, from_zero)
        return function

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
    function = find(chosen)
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    if EXPLAINERS.get(name) is function:
        return TRAITS[name]
    return Traits(label=name, signed=False, reads_layer=False, from_zero=False)


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
