"""Bringing a net's maps to a picture while it is trained: what fairwashing and backdoors have in common."""

import functools

import torch
from torch import Tensor, nn

from .. import checks
from ..explain.heatmaps import one_channel
from ..explain.layers import resolved
from ..explain.registry import Explainer, find


def unit(maps: Tensor) -> Tensor:
    """Maps (B, 1, h, w) cut off at zero, each of length one; a map of zeros stays.

    >>> import torch
    >>> from atexlib.attack.aims import unit
    >>> unit(torch.tensor([[[[3.0, 4.0, -1.0]]]])).flatten()
    tensor([0.6000, 0.8000, 0.0000])
    """
    maps = maps.relu()
    length = torch.linalg.vector_norm(maps, dim=(1, 2, 3), keepdim=True)
    return maps / length.clamp_min(torch.finfo(maps.dtype).tiny)


def apart(maps: Tensor, wanted: Tensor) -> Tensor:
    """Half the squared distance (B,) of two maps of length one, which is 1 minus their cosine: 0 for the same picture.

    >>> import torch
    >>> from atexlib.attack.aims import apart
    >>> apart(torch.tensor([[[[2.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]]))
    tensor([1.])
    """
    return (unit(maps) - unit(wanted)).square().sum((1, 2, 3)) / 2


def reader(model: nn.Module, x: Tensor, explainer: str | Explainer, layer: str | None) -> Explainer:
    """The explainer with the layer that it reads in this net, looked for once."""
    found = find(explainer)
    return resolved(found if layer is None else functools.partial(found, layer=layer), model, x[:2])


def raw(model: nn.Module, x: Tensor, labels: Tensor, explainer: Explainer) -> Tensor:
    """The maps (B, 1, h, w) of the labels' classes, with a graph."""
    return one_channel(model, x, labels, explainer=explainer, create_graph=True)


def check_target(target: Tensor, maps: Tensor) -> Tensor:
    """The wanted picture as (1, 1, h, w) of the maps' size, or a ValueError."""
    if not isinstance(target, Tensor) or target.shape != maps.shape[2:]:
        shape = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise ValueError(f"target has shape {shape}; pass a picture (h, w) of the maps' {tuple(maps.shape[2:])}.")
    checks.fine("target", target.expand_as(maps[:1]))
    if not (target > 0).any():
        raise ValueError("target is nowhere above 0; pass a picture that is bright where the maps shall be.")
    return target[None, None].to(maps)
