"""What a chapter's first cells ask for: parameters that are checked, a data set, a trained net and the test images."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks, data, experiments
from ..data import ImageSet
from ..experiments import PRESETS, Place, Preset
from ..experiments.subjects import nets


@dataclass(frozen=True)
class Setting:
    """The data, net and sizes that a chapter works with, and a line that states them."""

    test: ImageSet
    model: nn.Module
    place: Place
    committed: str | None
    """The preset of the committed net that was read; None if the net was trained now."""

    @property
    def size(self) -> Preset:
        """The sizes of the chapter's preset."""
        return self.place.size

    @property
    def seed(self) -> int:
        """The chapter's seed."""
        return self.place.seed

    @property
    def device(self) -> str:
        """Where the net and the images are."""
        return self.place.device

    @property
    def images(self) -> Tensor:
        """The first test images, as many as the preset says, on the device."""
        return self.test.images[: self.size.images].to(self.device)

    @property
    def labels(self) -> Tensor:
        """Their labels."""
        return self.test.labels[: self.size.images].to(self.device)

    @property
    def note(self) -> str:
        """Data set, preset, net, seed and device, for the foot of a figure."""
        title = data.DATASETS[self.test.name].title
        device = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device
        net = f"trained at preset {self.committed or self.size.name}, seed {self.seed}"
        return f"{title}, test images; preset {self.size.name}; net: {net}; {device}"

    @property
    def effort(self) -> dict[str, Any]:
        """How hard to attack, as keywords of `manipulate` (steps, starts and a new generator)."""
        return {"steps": self.size.steps, "starts": self.size.starts, "generator": self.generator()}

    def defended(self, defense: str) -> nn.Module:
        """This net with a defence: the committed one if both are, else trained now from it at the preset's size."""
        checks.one_of("defense", defense, nets.DEFENSES)
        where: dict[str, Any] = {"dataset": self.test.name, "seed": self.seed}
        if self.committed and self.committed in nets.committed(defense=defense, **where):
            return experiments.trained(defense=defense, preset=self.committed, device=self.device, **where)
        return nets.defend(self.model, defense, nets.DEFENSES[defense].settings, self.place)

    def generator(self) -> torch.Generator:
        """A new generator with the chapter's seed."""
        return self.place.generator()


def begin(
    *, preset: str, dataset: str, device: str | torch.device, seed: int, recompute: bool | str = False
) -> Setting:
    """Check a chapter's parameters, then load its test images and its net.

    >>> from atexlib import chapters
    >>> lab = chapters.begin(preset="smoke", dataset="digits", device="cpu", seed=0)
    >>> tuple(lab.images.shape)
    (24, 1, 28, 28)

    Args:
        preset: one of `experiments.PRESETS`.
        dataset: one of `data.DATASETS`, or `auto`: Fashion-MNIST if it is on disk or can be downloaded, else digits at
            the preset `smoke`, said aloud.
        device: as torch names it, such as `cpu`, `cuda:1` or `mps`, or `auto`: a GPU if there is one.
        seed: of the net and of every random draw.
        recompute: train the net at the preset's size even if a committed one could be read; True
            or False, or what settings say for it: `1`, `yes`, `true`, `on`, or their opposites.

    Raises:
        ValueError: a parameter that is not one of those.
    """
    checks.one_of("preset", preset, PRESETS)
    checks.one_of("dataset", dataset, ("auto", *data.DATASETS))
    checks.count("seed", seed, low=0)
    recompute = checks.switch("recompute", recompute)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checks.device(device)
    device = str(device)
    if dataset == "auto":
        preset, dataset = _choose(preset)
    place, test = Place(dataset, seed, preset, device, progress=True), data.load(dataset, "test")
    committed = None if recompute else _committed(dataset, seed)
    if committed is None:
        model = nets.undefended({"dataset": dataset, "seed": seed, "preset": preset}, place)[0]
    else:
        model = experiments.trained(dataset=dataset, seed=seed, preset=committed, device=device)
    return Setting(test, model, place, committed)


def _committed(dataset: str, seed: int) -> str | None:
    """The preset at which most kinds of net are there, undefended and defended, the larger of two alike; or None."""
    have = {name: nets.committed(dataset=dataset, defense=name, seed=seed) for name in nets.TREATED}
    counts = {preset: sum(preset in presets for presets in have.values()) for preset in have["none"]}
    return max(counts, key=lambda preset: (counts[preset], list(PRESETS).index(preset)), default=None)


def _choose(preset: str) -> tuple[str, str]:
    if preset == "smoke":
        return preset, "digits"
    try:
        data.load("fashion-mnist", "test")
    except ValueError as error:
        told = re.sub(r"\S*/(?=FashionMNIST/)", "", str(error))  # no path of the machine that builds the page
        print(f"{told}\nUntil then this page shows scikit-learn's digits, at the preset smoke.")
        return "smoke", "digits"
    return preset, "fashion-mnist"
