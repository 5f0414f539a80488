"""What the shown maps alone give away: that they are alike, unsteady, alone in what they say, or turned by a patch."""

import torch
import torch.nn.functional as F

from ...attack.aims import unit
from ...maps.alike import spearman
from .accused import Suspect
from .registry import sign

REGIONS = 7  # along a side, whose means are compared between explainers
EPS = 0.02  # of the noise
DRAWS = 2
SOME = 24  # images that are tried under noise and patches
PATCH = 7  # one in so many of a side is the side of a patch
PLACES = 3  # along a side, where patches are put


@sign("sameness", label="maps of different images that are alike")
def sameness(suspect: Suspect) -> float:
    """The mean cosine of the maps of two images: 1 where one picture is shown of all."""
    maps = unit(suspect.maps).flatten(1)
    count = len(maps)
    return ((maps.sum(0).square().sum() - maps.square().sum()) / (count * (count - 1))).item()


@sign("disagreement", label="regions that other explainers do not mark")
def disagreement(suspect: Suspect) -> float:
    """1 minus Spearman between the regions that this map marks and those that the other explainers mark."""
    others = [maps for name, maps in suspect.accused.others.items() if name != suspect.name]
    if not others:
        return 0.0
    own = F.adaptive_avg_pool2d(suspect.maps, REGIONS)
    alike = [spearman(own, F.adaptive_avg_pool2d(maps, REGIONS)).nan_to_num(0.0).mean() for maps in others]
    return 1 - torch.stack(alike).mean().item()


@sign("unsteadiness", label="maps that small noise moves")
def unsteadiness(suspect: Suspect) -> float:
    """How far noise that nobody aimed moves the maps."""
    generator = torch.Generator().manual_seed(0)
    x, moved = suspect.accused.x[:SOME], []
    for _ in range(DRAWS):
        noise = (2 * torch.rand(x.shape, generator=generator) - 1).to(x)
        moved.append(suspect.moved(suspect.of(suspect.accused.model, (x + EPS * noise).clamp(0, 1))).mean())
    return torch.stack(moved).mean().item()


@sign("patches", label="a place where a patch turns the maps")
def patches(suspect: Suspect) -> float:
    """By how much a small patch moves the maps more at one place than at most others, as a trigger would."""
    generator = torch.Generator().manual_seed(0)
    x, moved = suspect.accused.x[:SOME], []
    height, width = x.shape[2:]
    side = max(1, min(height, width) // PATCH)
    patch = torch.rand((x.shape[1], side, side), generator=generator).round().to(x)
    for row in torch.linspace(0, height - side, PLACES).round().int().tolist():
        for column in torch.linspace(0, width - side, PLACES).round().int().tolist():
            z = x.clone()
            z[:, :, row : row + side, column : column + side] = patch
            moved.append(suspect.moved(suspect.of(suspect.accused.model, z)).mean())
    found = torch.stack(moved)
    return (found.max() - found.median()).item()
