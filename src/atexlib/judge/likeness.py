"""What an image changed in a map, by every measure, and whether the constraints hold: the judge's own look."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..explain.registry import Explainer
from ..maps import alike
from ..maps.shape import normalize
from ..nets.running import predict

MEASURES = ("spearman", "kendall", "topk", "lens_topk", "ssim")
FLAT = 1e-5  # maps that span no more of their largest value than this count as constant


def likeness(clean: Tensor, changed: Tensor, k: int, *, names: Sequence[str] = MEASURES) -> dict[str, Tensor]:
    """Each measure (B,), on the CPU, of two batches of maps (B, C, H, W): of absolute values divided by the largest.

    What ranks entries is nan where one of the maps is constant, so that they have no order; SSIM where a map is smaller
    than its window.

    >>> import torch
    >>> from atexlib import judge
    >>> maps = torch.rand(2, 1, 8, 8)
    >>> {name: value.tolist() for name, value in judge.likeness(maps, 3 * maps, 5).items()}["topk"]
    [1.0, 1.0]
    """
    a, b = normalize(clean), normalize(changed)
    flat = (is_constant(a) | is_constant(b)).cpu()
    found = {name: MEASURED[name](a, b, k).cpu() for name in names}
    ranked = {name: value.masked_fill(flat, torch.nan) for name, value in found.items() if name != "ssim"}
    return found | ranked


def _ssim(a: Tensor, b: Tensor, _k: int) -> Tensor:
    small = min(a.shape[2:]) < alike.WINDOW
    return a.new_full((len(a),), torch.nan) if small else alike.ssim(a, b, data_range=1.0)


MEASURED: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "spearman": lambda a, b, _k: alike.spearman(a, b),
    "kendall": lambda a, b, _k: alike.kendall(a, b),
    "topk": alike.topk_intersection,
    "lens_topk": alike.lens_topk,
    "ssim": _ssim,
}


def is_constant(maps: Tensor) -> Tensor:
    """True (B,) where the entries of maps in [0, 1] are equal but for rounding."""
    low, high = maps.flatten(1).aminmax(dim=1)
    return high - low <= FLAT


def seen(model: nn.Module, explainer: Explainer, x: Tensor, z: Tensor, target: Tensor, k: int) -> dict[str, Tensor]:
    """`likeness` of the maps at x and z of the same classes, `kept`, whether the label is, and the `distance`; (B,)."""
    clean, changed = explainer(model, x, target), explainer(model, z, target)
    return {
        **{name: value.double() for name, value in likeness(clean, changed, k).items()},
        "kept": (predict(model, z).argmax(1) == target).cpu(),
        "distance": (z - x).abs().amax((1, 2, 3)).cpu(),
    }
