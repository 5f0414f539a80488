"""How far does the map move when the image is changed a little: by noise, fewer grey levels, JPEG, blur?"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attack.ball import gaussian_like
from .jpeg import jpeg
from .registry import OWN, STAND_IN, Score, detector
from .scene import Look, Scene, apart

Change = Callable[[Tensor, torch.Generator], Tensor]
SIGMA = 0.02  # of the noise
DRAWS = 2  # noisy copies whose responses are averaged
LEVELS = 16  # grey levels
QUALITY = 75  # of JPEG, the default of most programs


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images with Gaussian noise."""
    return x + SIGMA * gaussian_like(x, generator)


def quantised(x: Tensor, _generator: torch.Generator) -> Tensor:
    """Images of few grey levels; their slope is that of the images, as if nothing had been rounded."""
    return x + ((x * (LEVELS - 1)).round() / (LEVELS - 1) - x).detach()


def compressed(x: Tensor, _generator: torch.Generator) -> Tensor:
    """Images after JPEG; their slope is that of the images, as if nothing had been rounded."""
    return x + (jpeg(x.detach(), QUALITY) - x).detach()


def blurred(x: Tensor, _generator: torch.Generator) -> Tensor:
    """Images under a binomial filter of 3 x 3 pixels."""
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])


def responding(change: Change, *, draws: int = 1) -> Callable[[Scene], Score]:
    """The detector that looks how unlike the map is to that of the changed image, over so many draws."""

    def make(_scene: Scene) -> Score:
        def score(look: Look, generator: torch.Generator) -> Tensor:
            found = [apart(look.map, look.of(change(look.x, generator))) for _ in range(draws)]
            return torch.stack(found).mean(0)

        return score

    return make


detector("noise", label="moves under noise", random=True)(responding(noisy, draws=DRAWS))
for _name, _label, _change, _slope in (
    ("quantised", "moves under 16 grey levels", quantised, STAND_IN),
    ("jpeg", "moves under JPEG", compressed, STAND_IN),
    ("blur", "moves under blur", blurred, OWN),
):
    detector(_name, label=_label, slope=_slope)(responding(_change))
