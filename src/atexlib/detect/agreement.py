"""Does a second net, trained alike from another seed, show the same map?"""

import torch
from torch import Tensor

from .registry import Score, detector
from .scene import Look, Scene, apart


@detector("agreement", label="a second net disagrees", needs_sibling=True)
def agreement(scene: Scene) -> Score:
    """How unlike the map is to that of the scene's sibling, of the same class."""

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        return apart(look.map, look.of(look.x, model=scene.sibling))

    return score
