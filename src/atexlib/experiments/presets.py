"""How large a run is: the presets of `presets.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
# The sizes of the results that were made before results began to state theirs.
UNSTATED = {
    "reduced": {
        "train_images": 50000,
        "epochs": 15,
        "batch_size": 100,
        "defense_images": 40000,
        "defense_epochs": 1,
        "images": 256,
        "steps": 50,
        "starts": 2,
        "samples": 50,
        "family_images": 50000,
        "family_epochs": 3,
        "fool_steps": 150,
    }
}


def sizes(preset: str) -> dict[str, int]:
    """The sizes of a preset, to be written beside a result."""
    return {name: value for name, value in asdict(PRESETS[preset]).items() if name != "name"}


def changed(preset: str, stated: Mapping[str, int] | None) -> list[str]:
    """The sizes of a preset that are no longer those that a result states; None: it states none."""
    if preset not in PRESETS:
        return [f"the preset {preset}, which is gone"]
    before, now = UNSTATED.get(preset, {}) if stated is None else stated, sizes(preset)
    return [f"the preset's {name}" for name, value in before.items() if now.get(name, value) != value]
