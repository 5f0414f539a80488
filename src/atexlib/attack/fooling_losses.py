"""Losses that ask a net's heat maps for a lie, and the numbers by which an image counts as fooled."""

from collections.abc import Callable

import torch
from torch import Tensor

from .. import checks
from ..explain.heatmaps import DEAD
from ..maps import alike, shape
from ..maps.shape import center_of_mass

FRAME = 7  # the frame of the location loss is a seventh of the side wide
TOP = 0.1  # the share of the pixels that the top-k loss empties
ALIVE = 0.1  # a map whose largest value falls below this share of what it was is about to die
Maps = Tensor


def location(h: Maps, _original: Maps) -> Tensor:
    """Location loss: mean squared difference to a map that is one on a frame and zero inside."""
    return (h - frame(h)).square().mean((1, 2, 3))


def topk(h: Maps, original: Maps) -> Tensor:
    """Top-k loss: mean over the top tenth of the original map's pixels of what the map shows there."""
    mask = top_mask(original)
    return (h.abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def center_mass(h: Maps, original: Maps) -> Tensor:
    """Centre-mass loss: minus the L1 distance, in pixels, of the two maps' centres of mass."""
    return -(center_of_mass(h) - center_of_mass(original)).abs().sum(1)


def active(h: Maps, original: Maps) -> Tensor:
    """Active loss: half the squared error of each class's map (B, 2, H, W) to the original map of the other class."""
    return (h - original.flip(1)).square().mean((2, 3)).sum(1) / 2


LOSSES: dict[str, Callable[[Maps, Maps], Tensor]] = {
    "location": location,
    "topk": topk,
    "center_mass": center_mass,
    "active": active,
}

# The test loss of an image lies in this range if the image's explanation is fooled: recalled from the paper, but for
# `active`: [0.5, 2] in the paper, but of the ratio or of the difference of two correlations? We do not recall which.
RANGES = {"location": (0.0, 0.2), "topk": (0.0, 0.3), "center_mass": (0.1, 1.0), "active": (0.1, 2.0)}


def fading(peaks: Tensor, original: Tensor) -> Tensor:
    """How far each map's largest value (B, K) fell below a tenth of the original: 0 above it, 1 where it is zero.

    What was dead in the original is left out.
    """
    return torch.where(original > DEAD, 1 - peaks / (ALIVE * original.clamp_min(DEAD)), 0.0).relu().mean(1)


def measured_loss(loss: str, h: Maps, original: Maps) -> Tensor:
    """The number (B,) by which an image counts as fooled, if it lies in RANGES[loss].

    `location`: the loss itself. `topk`: what the map shows on the original's top tenth, relative to what the original
    shows there. `center_mass`: L1 distance of the centres, as a share of height plus width, which none can reach.
    `active`: by how much more each class's map correlates (Spearman) with the original of the other class than with its
    own, the smaller of the two numbers; below zero for a net that was not changed. The paper's may be a ratio:
    we do not recall which.

    Source: Heo et al. 2019, section 5 (recalled).
    """
    checks.one_of("loss", loss, LOSSES)
    if loss == "topk":
        return topk(h, original) / topk(original, original).clamp_min(torch.finfo(h.dtype).tiny)
    if loss == "center_mass":
        return (center_of_mass(h) - center_of_mass(original)).abs().sum(1) / sum(h.shape[2:])
    if loss == "active":
        swapped, own = (
            torch.stack([alike.spearman(h[:, c : c + 1], o[:, c : c + 1]) for c in (0, 1)])
            for o in (original.flip(1), original)
        )
        return (swapped - own).amin(0)
    return LOSSES[loss](h, original)


def frame(h: Maps) -> Tensor:
    """One on a frame, a seventh of the side wide, and zero inside; shape (h, w) of the maps."""
    height, width = h.shape[2:]
    mask = torch.ones(height, width, dtype=h.dtype, device=h.device)
    rows, columns = (max(1, round(side / FRAME)) for side in (height, width))
    mask[rows : height - rows, columns : width - columns] = 0
    return mask


def top_mask(original: Maps) -> Tensor:
    """True at the top tenth of each map's entries."""
    return shape.topk_mask(original, max(1, round(TOP * original[0].numel())))
