"""Trained nets at the sizes of the presets: read from the package where they are committed, else trained."""

import json
import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from . import checks, data, training
from .models import ConvNet

DEFENSES = ("none",)
NETS = Path(__file__).parent / "results" / "nets"


@dataclass(frozen=True)
class Preset:
    """The sizes of a run, as `presets.toml` explains them."""

    name: str
    train_images: int
    epochs: int
    batch_size: int
    images: int
    steps: int
    starts: int
    samples: int


PRESETS = {
    name: Preset(name, **sizes)
    for name, sizes in tomllib.loads((Path(__file__).parent / "presets.toml").read_text()).items()
}


def trained(
    *,
    dataset: str,
    defense: str = "none",
    seed: int = 0,
    preset: str | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> nn.Module:
    """A trained ConvNet, in eval mode: the committed one where there is one, else trained now.

    Args:
        dataset: one of `data.DATASETS`.
        defense: `none`, the net trained with cross entropy alone.
        seed: of the initial weights and of the order of the images.
        preset: one of PRESETS; None is the largest committed.
        device: where the net shall be.
        progress: show a progress bar if it must be trained.

    Raises:
        ValueError: an unknown name; preset None where nothing is committed; a corrupt file.
    """
    checks.one_of("dataset", dataset, data.DATASETS)
    checks.one_of("defense", defense, DEFENSES)
    checks.count("seed", seed, low=0)
    device = checks.device(device)
    if preset is None:
        preset = largest_committed(dataset=dataset, defense=defense, seed=seed)
        if preset is None:
            raise ValueError(f"no net of {dataset}, {defense}, seed {seed} is committed; pass preset='quick' to train.")
    checks.one_of("preset", preset, PRESETS)
    path = net_path(dataset=dataset, defense=defense, seed=seed, preset=preset)
    if path.exists():
        return load_net(path).to(device)
    return train(dataset=dataset, seed=seed, preset=preset, device=device, progress=progress).model


def train(
    *, dataset: str, seed: int, preset: str, device: str | torch.device = "cpu", progress: bool = False
) -> training.Fitted:
    """Train the undefended ConvNet (softplus, beta 10) at a preset's size; keep the epoch best on validation images."""
    checks.one_of("dataset", dataset, data.DATASETS)
    checks.one_of("preset", preset, PRESETS)
    checks.count("seed", seed, low=0)
    device = checks.device(device)
    sizes = PRESETS[preset]
    images = data.load(dataset, "train")
    images = images.first(min(sizes.train_images, len(images.labels)))
    validation = data.load(dataset, "validation")
    generator = torch.Generator().manual_seed(seed)
    layout = torch.channels_last  # a fifth faster than the default layout, on the CPU too
    return training.fit(
        ConvNet(generator=generator).to(memory_format=layout),
        images.images.contiguous(memory_format=layout),
        images.labels,
        validation=(validation.images, validation.labels),
        epochs=sizes.epochs,
        batch_size=sizes.batch_size,
        device=device,
        generator=generator,
        progress=progress,
    )


def largest_committed(*, dataset: str, defense: str, seed: int) -> str | None:
    """The largest preset of which a net is committed, or None."""
    names = [name for name in PRESETS if net_path(dataset=dataset, defense=defense, seed=seed, preset=name).exists()]
    return names[-1] if names else None


def net_path(*, dataset: str, defense: str, seed: int, preset: str) -> Path:
    """Where the net of these four is committed."""
    return NETS / f"{dataset}-{defense}-{preset}-seed{seed}.safetensors"


def save_net(model: nn.Module, path: Path, facts: dict[str, object]) -> None:
    """Write a net's weights in half precision, and facts about it in the file's header, all or nothing."""
    state = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save_file(state, temporary, metadata={"facts": json.dumps(facts, sort_keys=True)})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_net(path: Path) -> nn.Module:
    """Read a ConvNet from a file of `save_net`."""
    model = ConvNet()
    try:
        with safe_open(path, framework="pt") as file:
            model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no ConvNet that can be read ({error}); restore it.") from error
    return model.eval()


def net_facts(path: Path) -> dict[str, object]:
    """What is written in the header of a net's file: accuracies, sizes, fingerprints, versions."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["facts"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} has no facts that can be read ({error!r}); restore it.") from error
