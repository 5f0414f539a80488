"""Does the net itself see the image where it sees clean ones? Distances in the space of its last features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .registry import Score, detector
from .scene import Look, Scene

SHRINKAGE = 0.1  # of the covariance towards a multiple of the identity
NEAREST = 5


def _known(scene: Scene) -> tuple[Tensor, Tensor]:
    """Features (N, F) of the known images, and their predicted classes (N,)."""

    def make() -> tuple[Tensor, Tensor]:
        look = Look(scene, scene.known.detach())
        return look.features.detach(), look.target

    return scene.keep("features", make)


@detector("mahalanobis", label="far from its class")
def mahalanobis(scene: Scene) -> Score:
    """Mahalanobis distance from the mean of the predicted class, with one covariance for all classes.

    Source: Lee et al. 2018.
    """
    features, target = _known(scene)
    classes = Look(scene, scene.known[:1].detach()).logits.shape[1]
    rows = F.one_hot(target, classes).to(features.dtype)
    counts = rows.sum(0)[:, None]
    means = torch.where(counts > 0, rows.T @ features / counts.clamp_min(1), features.mean(0))
    rest = features - means[target]
    covariance = rest.T @ rest / len(rest)
    size = covariance.diagonal().mean().clamp_min(torch.finfo(features.dtype).tiny)
    unit = torch.eye(len(covariance), dtype=features.dtype, device=features.device)
    root = torch.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * size * unit)

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        rest = look.features - means[look.target]
        return torch.linalg.solve_triangular(root, rest.T, upper=False).square().sum(0).add(1e-12).sqrt()

    return score


@detector("neighbours", label="far from its neighbours")
def neighbours(scene: Scene) -> Score:
    """Mean distance to the nearest known images, in directions of features: each is scaled to length one.

    Source: after Papernot and McDaniel 2018 and Sun et al. 2022 (whose features are scaled).
    """
    features = F.normalize(_known(scene)[0], dim=1)

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        unit = F.normalize(look.features, dim=1)
        square = (2 - 2 * unit @ features.T).clamp_min(0)
        nearest = square.topk(min(NEAREST, len(features)), dim=1, largest=False).values
        return nearest.add(1e-12).sqrt().mean(1)

    return score
