"""How many windows of max-pooling are tied? A clean dark ground ties them; a change of every pixel does not."""

import torch
from torch import Tensor

from .registry import STAND_IN, Score, detector
from .scene import Look, Scene

TIED = 1e-3  # a lead of less counts as a tie
SOFT = 1e-2  # width of the smooth count


@detector("ties", label="few ties", slope=STAND_IN)
def ties(scene: Scene) -> Score:
    """Minus the share of tied windows; its slope is that of a count in which a window fades out as its lead grows."""

    def score(look: Look, _generator: torch.Generator) -> Tensor:
        windows = look.gaps
        if not windows:  # a net without max-pooling has nothing to tie
            return 0 * look.x.sum((1, 2, 3))
        gaps = torch.cat(windows, 1)
        hard = -(gaps.detach() < TIED).to(gaps.dtype).mean(1)
        soft = -torch.exp(-gaps / SOFT).mean(1)
        return hard + soft - soft.detach()

    return score
