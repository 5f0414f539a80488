"""How large a run is: the presets of `presets.toml`."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Preset:
    """The sizes of a run, as `presets.toml` explains them.

    >>> from atexlib import experiments
    >>> experiments.PRESETS["paper"].images
    1000
    """

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


CANARY = "canary"  # the sizes of a canary: nothing that is kept has them
SIZES = {
    name: Preset(name, **sizes)
    for name, sizes in tomllib.loads((Path(__file__).parents[2] / "presets.toml").read_text()).items()
}
PRESETS = {name: preset for name, preset in SIZES.items() if name != CANARY}


def stated(preset: str, names: tuple[str, ...]) -> dict[str, int]:
    """Some sizes of a preset by name, to be written beside a result."""
    return {name: value for name, value in asdict(SIZES[preset]).items() if name in names}
