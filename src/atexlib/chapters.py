"""What a chapter's first cells ask for: parameters that are checked, a data set, a trained net and the test images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import checks, data, experiments
from .data import ImageSet
from .experiments import PRESETS, Preset, nets, store

TITLES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "digits": "scikit-learn's digits"}


@dataclass(frozen=True)
class Setting:
    """The data, net and sizes that a chapter works with, and a line that states them."""

    test: ImageSet
    model: nn.Module
    size: Preset
    seed: int
    device: str
    committed: str | None
    """The preset of the committed net that was read; None if the net was trained now."""

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
        net = f"trained at preset {self.committed or self.size.name}, seed {self.seed}"
        return f"{title}, test images; preset {self.size.name}; net: {net}; {device}"

    @property
    def effort(self) -> dict[str, object]:
        """How hard to attack, as keywords of `manipulate` (steps, starts and a new generator)."""
        return {"steps": self.size.steps, "starts": self.size.starts, "generator": self.generator()}

    def defended(self, defense: str) -> nn.Module:
        """This net with a defence: the committed one if both are, else trained now from it at the preset's size."""
        checks.one_of("defense", defense, nets.SETTINGS)
        where = {"dataset": self.test.name, "seed": self.seed}
        if self.committed:
            path = store.find(nets.net_name(defense=defense, preset=self.committed, **where))
            if path is not None:
                return nets.load_net(path).to(self.device)
        more = {"preset": self.size.name, "device": self.device, "progress": True}
        return nets.defend(self.model, nets.SETTINGS[defense], **where, **more)

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
    return Setting(test=test, model=model, size=PRESETS[preset], seed=seed, device=device, committed=committed)


def _choose(preset: str) -> tuple[str, str]:
    if preset == "smoke":
        return preset, "digits"
    try:
        data.load("fashion-mnist", "test")
    except ValueError as error:
        print(f"{error}\nUntil then this page shows scikit-learn's digits, at the preset smoke.")
        return "smoke", "digits"
    return preset, "fashion-mnist"
