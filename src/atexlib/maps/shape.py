"""What one map is like, without a net: its scale, its largest entries, its centre, its roughness."""

from typing import cast

import numpy as np
import torch
from torch import Tensor

from .. import checks


def normalize(maps: Tensor, *, by: str = "max") -> Tensor:
    """Absolute values of maps (B, C, H, W), divided per image by their largest (`max`) or by their sum (`l1`).

    With `l1` an entry is the relative importance `|phi_t| / ||phi||_1` of Tang et al. 2022. A map of zeros stays zeros.
    Of maps in half precision, whose sums overflow and whose small values vanish, the result is float32.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[-1.0, 3.0]]]])
    >>> maps.normalize(a), maps.normalize(a, by="l1")
    (tensor([[[[0.3333, 1.0000]]]]), tensor([[[[0.2500, 0.7500]]]]))
    """
    checks.one_of("by", by, ("max", "l1"))
    checks.four_axes("maps", maps)
    size = at_least_float32(maps).abs()
    total = size.amax((1, 2, 3), keepdim=True) if by == "max" else size.sum((1, 2, 3), keepdim=True)
    return size / total.clamp_min(torch.finfo(size.dtype).tiny)


def at_least_float32(maps: Tensor) -> Tensor:
    """Maps in half precision as float32, all others as they are: constants and sums are right from there on."""
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


def center_of_mass(maps: Tensor) -> Tensor:
    """Row and column (B, 2), in pixels, of the centre of mass of the absolute values of maps (B, C, H, W).

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.zeros(1, 1, 4, 4)
    >>> a[0, 0, 2, 1] = -5
    >>> maps.center_of_mass(a)
    tensor([[2., 1.]])
    """
    mass = normalize(maps, by="l1").sum(1)
    rows = torch.arange(maps.shape[2], dtype=mass.dtype, device=maps.device)
    columns = torch.arange(maps.shape[3], dtype=mass.dtype, device=maps.device)
    return torch.stack([mass.sum(2) @ rows, mass.sum(1) @ columns], dim=1)


def topk_mask(maps: Tensor, k: int) -> Tensor:
    """True at the k largest entries of each map; shape of `maps`.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[5.0, 1.0, 3.0]]]])
    >>> maps.topk_mask(a, 2)
    tensor([[[[ True, False,  True]]]])
    """
    mask = torch.zeros_like(maps.detach(), dtype=torch.bool)
    return mask.flatten(1).scatter_(1, topk_places(maps, k), True).view_as(maps)


def topk_places(maps: Tensor, k: int) -> Tensor:
    """Places (B, k) of the k largest entries of each flattened map, in no order."""
    flat = maps.detach().flatten(1)
    flat = flat.float() if flat.dtype == torch.bfloat16 else flat  # NumPy has no such numbers
    if flat.device.type == "cpu":
        return torch.from_numpy(np.argpartition(flat.numpy(), -k)[:, -k:])
    return flat.topk(k, dim=1).indices


def total_variation(maps: Tensor) -> Tensor:
    """Roughness of each map: differences of neighbouring pixels, summed, of absolute values that sum to one.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])
    >>> maps.total_variation(a), maps.total_variation(torch.ones(1, 1, 4, 4))
    (tensor([0.5000]), tensor([0.]))

    Args:
        maps: (B, C, H, W), floats; signs and scale do not matter.

    Returns:
        One number an image, 0 for a map of one value, at most 4 (every pixel of weight lies beside empty ones).

    Raises:
        ValueError: maps of a wrong shape or type, or with nan.

    Source: Rudin et al. 1992, the anisotropic form.
    """
    checks.batch("maps", maps)
    size = normalize(maps, by="l1")
    return cast("Tensor", sum(size.diff(dim=axis).abs().sum((1, 2, 3)) for axis in (2, 3)))


def mass_on(maps: Tensor, mask: Tensor) -> Tensor:
    """Share of each map's absolute values that lies on a mask: (B,) in [0, 1].

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> maps.mass_on(a, a > 2)
    tensor([0.7000])

    Args:
        maps: (B, C, H, W), floats.
        mask: of the same shape, true or 1 on the object, for instance `x > 0` for clothes on black.

    Raises:
        ValueError: shapes that differ; maps with nan.
    """
    checks.batch("maps", maps)
    checks.same_shape("mask", mask, "maps", maps)
    return (normalize(maps, by="l1") * mask).sum((1, 2, 3))
