"""How fast does the map turn along itself? A map that was bent into place bends back soon."""

import torch
from torch import Tensor

from .registry import Score, detector
from .scene import Look, Scene, apart

STEP = 0.25  # length of the step along the map, in L2


@detector("curvature", label="curved along the map")
def curvature(scene: Scene) -> Score:
    """How unlike the map is to those a short step up and down along it: a second-order response."""

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        length = look.map.square().sum((1, 2, 3), keepdim=True).sqrt()
        step = STEP * look.map / length.clamp_min(torch.finfo(length.dtype).tiny)
        return (apart(look.map, look.of(look.x + step)) + apart(look.map, look.of(look.x - step))) / 2

    return score
