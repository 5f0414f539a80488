"""How large a run is: the presets of `presets.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """The sizes of a run, as `presets.toml` explains them."""

    name: str
    train_images: int
    epochs: int
    defense_images: int
    defense_epochs: int
    batch_size: int
    images: int
    steps: int
    starts: int
    samples: int
    family_images: int
    family_epochs: int
    fool_steps: int


PRESETS = {
    name: Preset(name, **sizes)
    for name, sizes in tomllib.loads((Path(__file__).parents[1] / "presets.toml").read_text()).items()
}
