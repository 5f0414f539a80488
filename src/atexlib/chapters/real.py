"""What a chapter on photographs asks for: a net that knows ImageNet, photographs, and how hard to attack."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import checks, data, nets
from ..data import ImageSet
from ..experiments import PRESETS

STEPS = {"smoke": 2, "quick": 12, "reduced": 40, "paper": 100}  # of an attack on one photograph
MOST = {"smoke": 3}  # photographs; else:
MANY = 8


@dataclass(frozen=True)
class RealSetting:
    """The net and the photographs that a chapter works with, and a line that states them."""

    net: nn.Module
    photographs: ImageSet
    preset: str
    device: str
    seed: int
    own: bool
    """Whether the photographs are the reader's."""

    @property
    def images(self) -> Tensor:
        """The photographs (B, 3, 224, 224), on the device."""
        return self.photographs.images.to(self.device)

    @property
    def steps(self) -> int:
        """How many steps an attack takes."""
        return STEPS[self.preset]

    @property
    def note(self) -> str:
        """Net, photographs, preset, seed and device, for the foot of a figure."""
        whose = "the reader's own" if self.own else "free ones"
        device = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device
        return (
            f"EfficientNet-Lite0; photographs: {whose}; preset {self.preset}, {self.steps} steps; "
            f"seed {self.seed}; {device}"
        )

    def called(self, classes: Tensor) -> list[str]:
        """The names of classes (B,)."""
        return [self.photographs.classes[c] for c in classes.tolist()]

    def generator(self) -> torch.Generator:
        """A new generator with the chapter's seed."""
        return torch.Generator().manual_seed(self.seed)


def begin_real(
    *, preset: str, device: str | torch.device = "auto", seed: int = 0, folder: str | Path = ""
) -> RealSetting:
    """Check a chapter's parameters, then load EfficientNet-Lite0 with its weights, and photographs.

    >>> from atexlib import chapters
    >>> lab = chapters.begin_real(preset="smoke", device="cpu")
    >>> tuple(lab.images.shape), lab.steps
    ((3, 3, 224, 224), 2)

    Args:
        preset: one of `experiments.PRESETS`; it says how many steps and photographs there are.
        device: as torch names it, or `auto`: a GPU if there is one.
        seed: of every random draw.
        folder: with two or more photographs of your own, of which the first eight by name are taken; those of
            `data.PHOTOGRAPHS` if empty.

    Raises:
        ValueError: a parameter that is not one of those; a single photograph; weights or photographs that are not
            installed, in which case it says how to install them.
    """
    checks.one_of("preset", preset, PRESETS)
    checks.count("seed", seed, low=0)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checks.device(device)
    net = nets.efficientnet_lite0(pretrained=True).to(device)
    own = bool(str(folder))
    found = data.photographs(folder=folder) if own else data.photographs(names=list(data.PHOTOGRAPHS))
    if len(found.labels) < 2:
        raise ValueError(f"there is one photograph in {folder}; put two or more there: the chapter compares them.")
    found = found.first(min(len(found.labels), MOST.get(preset, MANY)))
    return RealSetting(net, found, preset, str(device), seed, own)
