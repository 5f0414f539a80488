"""Does the map speak of what images do, or of directions in which no image goes?"""

import torch
import torch.nn.functional as F

from .accused import Suspect
from .registry import sign

NEIGHBOURS = 24  # images near each one that span its tangent space
DIRECTIONS = 12  # of it that are kept
ROUNDING = 1e-5  # of the largest spread, below which there is none
IDLE = 0.25  # share of the pixels, those that vary least from image to image


@sign("manifold", label="slopes off the images' own directions")
def manifold(suspect: Suspect) -> float:
    """The share of the map's square length that lies off the tangent space of the images, by local PCA.

    The projection is the defence of Anders et al. 2020 against fairwashing; here its remainder is the sign.
    """
    accused = suspect.accused
    raw = suspect.explainer(accused.model, accused.x, accused.target)
    if raw.shape != accused.x.shape:
        raw = F.interpolate(raw.sum(1, keepdim=True), accused.x.shape[2:], mode="bilinear").expand_as(accused.x)
    points, every = accused.x.flatten(1), accused.images.flatten(1)
    near = torch.cdist(points, every).topk(min(NEIGHBOURS + 1, len(every)), largest=False).indices
    around = every[near] - every[near].mean(1, keepdim=True)
    _, spread, ways = torch.linalg.svd(around, full_matrices=False)
    seen = spread > ROUNDING * spread[:, :1]  # beyond the rank of a neighbourhood its directions are arbitrary
    basis = (ways * seen.unsqueeze(2))[:, :DIRECTIONS]
    maps = raw.detach().flatten(1)
    inside = (basis @ maps.unsqueeze(2)).square().sum((1, 2))
    whole = maps.square().sum(1)
    return (1 - inside / whole.clamp_min(torch.finfo(whole.dtype).tiny)).mean().item()


@sign("idle", label="map on pixels that hardly ever change")
def idle(suspect: Suspect) -> float:
    """The share of the map on the quarter of the pixels that vary least from image to image."""
    spread = suspect.accused.images.std(0).amax(0).flatten()
    still = spread <= spread.quantile(IDLE)
    maps = suspect.maps.flatten(1)
    return (maps[:, still].sum(1) / maps.sum(1).clamp_min(torch.finfo(maps.dtype).tiny)).mean().item()
