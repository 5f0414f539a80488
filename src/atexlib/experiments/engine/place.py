"""Where a result is made: a data set, a seed, the sizes of a preset and a device, handed on whole."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ...data import DATASETS, SPLITS, ImageSet, load
from .presets import CANARY, SIZES, Preset

FEW = 24  # images of each split in a canary


@dataclass(frozen=True)
class Place:
    """A data set, a seed, a preset and a device; it draws random numbers and keeps what is made there once.

    >>> from atexlib import experiments
    >>> experiments.Place("digits", seed=0, preset="smoke").images("test", 24).images.shape
    torch.Size([24, 1, 28, 28])
    """

    dataset: str
    seed: int
    preset: str
    device: str = "cpu"
    progress: bool = field(default=False, compare=False)
    kept: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, spec: Mapping[str, Any], *, device: str = "cpu", progress: bool = False) -> "Place":
        """The place that a spec names; a kind without images has no data set."""
        return cls(spec.get("dataset", ""), spec["seed"], spec["preset"], device, progress)

    @property
    def spec(self) -> dict[str, Any]:
        """Data set, seed and preset as the keys of a spec."""
        return {"dataset": self.dataset, "seed": self.seed, "preset": self.preset}

    @property
    def size(self) -> Preset:
        """The sizes of the preset."""
        return SIZES[self.preset]

    @property
    def is_canary(self) -> bool:
        """Whether this is a canary, with random images in float64 and nothing read or written."""
        return self.preset == CANARY

    @property
    def dtype(self) -> torch.dtype:
        """The floats that nets and images are made of."""
        return torch.float64 if self.is_canary else torch.float32

    def generator(self, shift: int = 0) -> torch.Generator:
        """A new generator with the seed, or `shift` above it."""
        return torch.Generator().manual_seed(self.seed + shift)

    def images(self, split: str, count: int | None = None) -> ImageSet:
        """A split of the data set, or its first `count` images (fewer if it holds fewer)."""
        found = self.keep(
            ("images", split), lambda: self._canary(split) if self.is_canary else load(self.dataset, split)
        )
        return found if count is None else found.first(min(count, len(found.labels)))

    def keep(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What was kept under this name; `make()` makes it the first time."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def _canary(self, split: str) -> ImageSet:
        """Random images without ties, of the data set's shape, with every class among the labels."""
        known = DATASETS[self.dataset]
        generator = torch.Generator().manual_seed(SPLITS.index(split))
        images = torch.rand(FEW, *known.shape, generator=generator, dtype=torch.float64)
        return ImageSet(images, torch.arange(FEW) % known.classes, self.dataset, tuple(map(str, range(known.classes))))
