"""What a chapter's first cells ask for (checked parameters, data, a net), and how an exercise's answer is judged."""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import checks, data, experiments
from .data import ImageSet
from .experiments import PRESETS, Place, Preset
from .experiments.subjects import nets


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
        device = torch.cuda.get_device_name(self.device) if self.device == "cuda" else self.device
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


def begin(*, preset: str, dataset: str, device: str, seed: int, recompute: bool = False) -> Setting:
    """Check a chapter's parameters, then load its test images and its net.

    >>> from atexlib import chapters
    >>> lab = chapters.begin(preset="smoke", dataset="digits", device="cpu", seed=0)
    >>> tuple(lab.images.shape)
    (24, 1, 28, 28)

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
    place, test = Place(dataset, seed, preset, device, progress=True), data.load(dataset, "test")
    committed = None if recompute else _committed(dataset, seed)
    if committed is None:
        model = nets.undefended({"dataset": dataset, "seed": seed, "preset": preset}, place)[0]
    else:
        model = experiments.trained(dataset=dataset, seed=seed, preset=committed, device=device)
    return Setting(test, model, place, committed)


def hint(
    answer: Callable[..., Any],
    given: tuple[Any, ...],
    known: Mapping[str, Any],
    *,
    wanted: str,
    other: str | Callable[[Tensor], str] = "that is not what was asked for",
    tolerance: float = 1e-4,
) -> str:
    """What to tell the author of an answer to an exercise; whatever the answer does, this does not stop.

    >>> import torch
    >>> from atexlib import chapters
    >>> known = {"right": torch.tensor(3.0), "that is the product": torch.tensor(2.0)}
    >>> chapters.hint(lambda a, b: a * b, (1, 2), known, wanted="a number")
    'that is the product'

    Args:
        answer: the function that was to be written.
        given: what it is called with; it gets a copy.
        known: a hint, and the value that an answer returns which deserves it; the right one first.
        wanted: what to return, in words, for an answer of another type or shape.
        other: the hint for a value that is not known, or a function that makes it from the value.
        tolerance: how far an answer may be from a known value, absolute and relative.

    Returns:
        The hint of the first known value that the answer comes near.
    """
    right = torch.as_tensor(next(iter(known.values())))
    try:
        found = answer(*copy.deepcopy(given))
    except Exception as error:
        first = str(error).partition("\n")[0]
        return f"it stops: {type(error).__name__}, {first}"
    if found is None:
        return "not attempted"
    try:
        found = torch.as_tensor(found).detach().to("cpu", right.dtype)
    except Exception:
        return f"return {wanted}"
    if found.shape != right.shape and not found.numel() == right.numel() == 1:
        return f"return {wanted}"
    found = found.reshape(right.shape)
    for text, value in known.items():
        if torch.allclose(found, torch.as_tensor(value).to(found), atol=tolerance, rtol=tolerance, equal_nan=True):
            return text
    if not found.isfinite().all():
        return "there are nan or infinite entries: what do you divide by?"
    return other if isinstance(other, str) else other(found)


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
