"""A detector that was taught: logistic regression on statistics of the map, from one attack on known images."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ..maps.shape import center_of_mass, normalize
from .attacked import known_pair
from .registry import Score, detector
from .scene import Look, Scene

SHARES = (0.01, 0.05, 0.2, 0.5)  # of a map's entries whose mass is looked at
EDGE = 3  # pixels that count as the rim
DARK = 0.05  # a pixel much below this counts as ground


@detector("learnt", label="learnt from one attack")
def learnt(scene: Scene) -> Score:
    """The logit of "attacked": linear in the statistics, fitted on known images and on the same, attacked."""
    both = torch.cat([statistics(Look(scene, images)).detach() for images in known_pair(scene)])
    mean, spread = both.mean(0), both.std(0).clamp_min(torch.finfo(both.dtype).eps)
    labels = np.repeat([0, 1], len(both) // 2)
    model = LogisticRegression(max_iter=1000).fit(((both - mean) / spread).cpu().numpy(), labels)
    weight = torch.as_tensor(model.coef_[0], dtype=both.dtype, device=both.device) / spread
    bias = float(model.intercept_[0])

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        return (statistics(look) - mean) @ weight + bias

    return score


def statistics(look: Look) -> Tensor:
    """What the map is like (B, 10): its length, how its mass is spread, where it lies, and how rough it is.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8).eval(), torch.rand(8, 1, 8, 8)
    >>> detect.statistics(detect.Look(detect.Scene(net, explain.gradient, known=x, clean=x), x)).shape
    torch.Size([8, 10])
    """
    mass, image = normalize(look.map, by="l1"), look.x.mean(1, keepdim=True)
    tiny = torch.finfo(mass.dtype).tiny
    sizes = mass.flatten(1).sort(1, descending=True).values
    shares = [sizes[:, : max(1, round(share * sizes.shape[1]))].sum(1) for share in SHARES]
    height, width = mass.shape[2:]
    inner = mass[:, :, EDGE : height - EDGE, EDGE : width - EDGE].sum((1, 2, 3))
    away = center_of_mass(mass) - center_of_mass(image.clamp_min(tiny))
    found = [
        look.map.square().sum((1, 2, 3)).clamp_min(tiny).log(),
        -(mass * mass.clamp_min(tiny).log()).sum((1, 2, 3)),
        *shares,
        mass.diff(dim=2).abs().sum((1, 2, 3)) + mass.diff(dim=3).abs().sum((1, 2, 3)),
        (mass * torch.exp(-image / DARK)).sum((1, 2, 3)),
        1 - inner,
        away.square().sum(1) / height**2,
    ]
    return torch.stack(found, 1)
