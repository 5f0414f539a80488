"""What a chapter's first cells ask for: parameters that are checked, a data set, a trained net and the test images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import checks, data, experiments
from .data import ImageSet
from .experiments import PRESETS, Preset

TITLES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "digits": "scikit-learn's digits"}


@dataclass(frozen=True)
class Setting:
    """The data, net and sizes that a chapter works with, and a line that states them."""

    test: ImageSet
    model: nn.Module
    size: Preset
    seed: int
    device: str
    net: str

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
        title = TITLES[self.test.name]
        device = torch.cuda.get_device_name(self.device) if self.device == "cuda" else self.device
        return f"{title}, test images; preset {self.size.name}; net: {self.net}, seed {self.seed}; {device}"

    @property
    def effort(self) -> dict[str, object]:
        """How hard to attack, as keywords of `manipulate` (steps, starts and a new generator)."""
        return {"steps": self.size.steps, "starts": self.size.starts, "generator": self.generator()}

    def defended(self, defense: str) -> nn.Module:
        """The net of the same seed with a defence: the largest committed one, else trained at the preset's size."""
        where = {"dataset": self.test.name, "defense": defense, "seed": self.seed}
        preset = experiments.largest_committed(**where) or self.size.name
        return experiments.trained(**where, preset=preset, device=self.device, progress=True)

    def generator(self) -> torch.Generator:
        """A new generator with the chapter's seed."""
        return torch.Generator().manual_seed(self.seed)


def begin(*, preset: str, dataset: str, device: str, seed: int, recompute: bool = False) -> Setting:
    """Check a chapter's parameters, then load its test images and its net.

    Args:
        preset: one of `experiments.PRESETS`.
        dataset: one of `data.DATASETS`, or `auto`: Fashion-MNIST if it is on disk or can be downloaded, else digits at
            the preset `smoke`, said aloud.
        device: `cpu`, `cuda`, or `auto`: a GPU if there is one.
        seed: of the net and of every random draw.
        recompute: train the net at the preset's size even if a committed one could be read.

    Raises:
        ValueError: a parameter that is not one of those.
    """
    checks.one_of("preset", preset, PRESETS)
    checks.one_of("dataset", dataset, ("auto", *data.DATASETS))
    checks.one_of("device", device, ("auto", "cpu", "cuda"))
    checks.count("seed", seed, low=0)
    if not isinstance(recompute, bool):
        raise ValueError(f"recompute is {recompute!r}; pass True or False.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checks.device(device)
    if dataset == "auto":
        preset, dataset = _choose(preset)
    test = data.load(dataset, "test")
    committed = None if recompute else experiments.largest_committed(dataset=dataset, defense="none", seed=seed)
    if committed is None:
        model = experiments.train(dataset=dataset, seed=seed, preset=preset, device=device, progress=True)
    else:
        model = experiments.trained(dataset=dataset, seed=seed, preset=committed, device=device)
    net = f"trained at preset {committed or preset}"
    return Setting(test=test, model=model, size=PRESETS[preset], seed=seed, device=device, net=net)


def _choose(preset: str) -> tuple[str, str]:
    if preset == "smoke":
        return preset, "digits"
    try:
        data.load("fashion-mnist", "test")
    except ValueError as error:
        print(f"{error}\nUntil then this page shows scikit-learn's digits, at the preset smoke.")
        return "smoke", "digits"
    return preset, "fashion-mnist"
