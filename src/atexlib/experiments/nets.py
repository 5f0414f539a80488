"""Trained nets at the sizes of the presets: read from a file where there is one, else trained."""

import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .. import atex, checks, data, defenses, training
from ..models import ConvNet
from . import presets, provenance, store
from .presets import PRESETS

# The settings that a small search on validation images chose; its trials are in `variants.TRIALS`, its cards are
# committed. Those of `atex_ascent` were one more try after it, which has no card. The same for both data sets.
SETTINGS: dict[str, dict[str, object]] = {
    "naive": {"eps": 0.1, "weight": 4.0},
    "atex": {"eps": 0.6, "orthogonal_samples": 2},
    "atex_ascent": {
        "eps": 0.08,
        "orthogonal_samples": 1,
        "directions": "ascent",
        "fidelity": 0.0,
        "label_weight": 1.0,
        "epochs": 3,
    },
}
DEFENSES = ("none", *SETTINGS)
SIGMA = 0.1  # noise of the SmoothGrad maps of ATEX
MAP_SAMPLES = 4  # their noisy copies

NET_CODE = provenance.declared("training")
DEFENSE_CODE = provenance.declared("training", "defenses")


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
        defense: one of DEFENSES. `none`: softplus units alone; `naive`: Eq. 2; `atex`: Eq. 4-6 with random directions;
            `atex_ascent`: our variant, whose directions climb the loss.
        seed: of the initial weights, of the order of the images and of all samples.
        preset: one of PRESETS; None is the largest of which there is a net.
        device: where the net shall be.
        progress: show progress bars if it must be trained.

    Raises:
        ValueError: an unknown name; preset None where there is no net; a corrupt file.
    """
    _check(dataset, defense, seed)
    device = checks.device(device)
    if preset is None:
        preset = largest_committed(dataset=dataset, defense=defense, seed=seed)
        if preset is None:
            size = "smoke" if dataset == "digits" else "quick"
            raise ValueError(f"no net of {dataset}, {defense}, seed {seed} is there; pass preset={size!r} to train it.")
    checks.one_of("preset", preset, PRESETS)
    path = store.find(net_name(dataset=dataset, defense=defense, seed=seed, preset=preset))
    if path is not None:
        return load_net(path).to(device)
    return train(dataset=dataset, defense=defense, seed=seed, preset=preset, device=device, progress=progress)


def train(
    *,
    dataset: str,
    defense: str = "none",
    seed: int,
    preset: str,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> nn.Module:
    """Train the ConvNet (softplus, beta 10) at a preset's size; keep the epoch best on validation images."""
    _check(dataset, defense, seed)
    checks.one_of("preset", preset, PRESETS)
    device = checks.device(device)
    if defense != "none":
        base = base_net(dataset=dataset, seed=seed, preset=preset, device=device, progress=progress)
        return defend(
            base, SETTINGS[defense], dataset=dataset, seed=seed, preset=preset, device=device, progress=progress
        )
    sizes = PRESETS[preset]
    images, validation = data.load(dataset, "train"), data.load(dataset, "validation")
    images = images.first(min(sizes.train_images, len(images.labels)))
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
    ).model


def defend(
    model: nn.Module,
    settings: Mapping[str, object],
    *,
    dataset: str,
    seed: int,
    preset: str,
    count: int | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> nn.Module:
    """Defend an undefended net on `count` images, or as many as the preset says.

    The settings are options of `train_atex`, if they hold `orthogonal_samples`, else of `train_naive`.
    """
    sizes = PRESETS[preset]
    images, validation = data.load(dataset, "train"), data.load(dataset, "validation")
    images = images.first(min(count or sizes.defense_images, len(images.labels)))
    options = dict(settings)
    if "orthogonal_samples" in options:
        train_defense = defenses.train_atex
        options["maps"] = base_maps(model, dataset=dataset, count=len(images.labels), progress=progress)
    else:
        train_defense = defenses.train_naive
    return train_defense(
        model,
        images.images,
        images.labels,
        **{"epochs": sizes.defense_epochs, "batch_size": sizes.batch_size, **options},
        validation=(validation.images, validation.labels),
        device=device,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )


@functools.lru_cache(maxsize=1)
def base_net(*, dataset: str, seed: int, preset: str, device: str | torch.device, progress: bool = False) -> nn.Module:
    """The undefended net that defences start from; those trained one after the other share it, and its maps."""
    return trained(dataset=dataset, seed=seed, preset=preset, device=device, progress=progress)


@functools.lru_cache(maxsize=1)
def base_maps(model: nn.Module, *, dataset: str, count: int, progress: bool = False) -> torch.Tensor:
    """The SmoothGrad maps of such a net at the first training images."""
    images = data.load(dataset, "train").first(count).images
    return atex.smooth_maps(model, images, samples=MAP_SAMPLES, sigma=SIGMA, progress=progress)


def ensure(
    *,
    dataset: str,
    defense: str,
    seed: int,
    preset: str,
    device: str | torch.device = "cpu",
    recompute: store.Recompute = False,
    progress: bool = False,
) -> Path:
    """The file of a net; if there is none, or with `recompute`, train it (and the one it starts from) and write it.

    With `recompute="stale"` it is trained anew if it, or the net it starts from, is out of date or cannot be read.
    """
    _check(dataset, defense, seed)
    where = {"dataset": dataset, "seed": seed, "preset": preset, "device": device, "progress": progress}
    name = net_name(dataset=dataset, defense=defense, seed=seed, preset=preset)
    if defense != "none":
        ensure(defense="none", recompute=recompute == "stale" and "stale", **where)
    return store.make_once(
        name, lambda: _train_and_write(defense=defense, **where), recompute=recompute, is_stale=is_stale
    )


def is_stale(path: Path) -> bool:
    """Whether a net's file is out of date or cannot be read."""
    try:
        return bool(stale_since(net_facts(path)))
    except ValueError:
        return True


def stale_since(facts: Mapping[str, object]) -> list[str]:
    """What changed since a net was trained, by the facts in its file: functions, constants, sizes, the net under it."""
    found = provenance.changed(facts["code"]) + presets.changed(facts["preset"], facts.get("sizes"))
    if facts["defense"] != "none":
        where = {key: facts[key] for key in ("dataset", "seed", "preset")}
        base = store.find(net_name(defense="none", **where))
        if base is None or provenance.file_hash(base) != facts["base"] or is_stale(base):
            found.append("the net none")
        if facts["settings"] != SETTINGS.get(facts["defense"]):
            found.append("experiments.nets.SETTINGS")
    return found


def _train_and_write(
    *, dataset: str, defense: str, seed: int, preset: str, device: str | torch.device, progress: bool
) -> None:
    undefended = store.find(net_name(dataset=dataset, defense="none", seed=seed, preset=preset))
    base = None if defense == "none" else provenance.file_hash(undefended)
    code = provenance.code_hashes(DEFENSE_CODE if base else NET_CODE)  # before: the source may be edited meanwhile
    start = time.perf_counter()
    model = train(dataset=dataset, defense=defense, seed=seed, preset=preset, device=device, progress=progress)
    seconds = time.perf_counter() - start
    test, validation = data.load(dataset, "test"), data.load(dataset, "validation")
    facts = {
        "dataset": dataset,
        "defense": defense,
        "preset": preset,
        "seed": seed,
        "settings": SETTINGS.get(defense, {}),
        "base": base,
        "validation_accuracy": training.accuracy(model, validation.images, validation.labels),
        "test_accuracy": training.accuracy(model, test.images, test.labels),
        "test_fingerprint": test.fingerprint,
        "code": code,
        "sizes": presets.sizes(preset),
        **provenance.facts(device=device, seconds=seconds),
    }
    save_net(model, store.place(net_name(dataset=dataset, defense=defense, seed=seed, preset=preset)), facts)
    if defense == "none":  # or defences would start from the net that was there before
        base_net.cache_clear()


def elsewhere(spec: Mapping[str, object]) -> dict[str, object]:
    """The undefended net of another seed, on which attacks that transfer are made, as keywords of `ensure`."""
    return {"dataset": spec["dataset"], "defense": "none", "seed": (spec["seed"] + 1) % 3, "preset": spec["preset"]}


def largest_committed(*, dataset: str, defense: str, seed: int) -> str | None:
    """The largest preset of which there is a net, committed or one's own, or None."""
    have = [name for name in PRESETS if store.find(net_name(dataset=dataset, defense=defense, seed=seed, preset=name))]
    return have[-1] if have else None


def net_name(*, dataset: str, defense: str, seed: int, preset: str) -> str:
    """The file's name among the results."""
    return f"nets/{dataset}-{defense}-{preset}-seed{seed}.safetensors"


def save_net(model: nn.Module, path: Path, facts: dict[str, object]) -> None:
    """Write a net's weights in half precision, and facts about it in the file's header, all or nothing."""
    state = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    metadata = {"facts": json.dumps(facts, sort_keys=True)}
    store.write(path, lambda temporary: save_file(state, temporary, metadata=metadata))


def load_net(path: Path, model: nn.Module | None = None) -> nn.Module:
    """Read a net from a file of `save_net` into `model`; into a new ConvNet if None."""
    model = ConvNet() if model is None else model
    model.to(memory_format=torch.channels_last)
    try:
        with safe_open(path, framework="pt") as file:
            model.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no {type(model).__name__} that can be read ({error}); restore it.") from error
    return model.eval()


def net_facts(path: Path) -> dict[str, object]:
    """What is written in the header of a net's file: accuracies, settings, code, machine."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["facts"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} has no facts that can be read ({error!r}); restore it.") from error


def _check(dataset: str, defense: str, seed: int) -> None:
    checks.one_of("dataset", dataset, data.DATASETS)
    checks.one_of("defense", defense, DEFENSES)
    checks.count("seed", seed, low=0)
