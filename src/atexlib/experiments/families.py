"""The nets of the fooling experiment: small VGG19, ResNet50 and DenseNet121, on squares and on canvases."""

import functools
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import canvas, checks, training, vision
from . import nets, pictures, presets, provenance, store
from .presets import PRESETS

DIVISOR = 8
BATCH = 64
LR = {"vgg19": 1e-3, "resnet50": 3e-3, "densenet121": 3e-3}  # batch norm takes larger steps
CANVAS_EPOCHS = 1  # a net that knows single squares learns quickly that objects may lie left or right

FAMILY_CODE = provenance.declared("families")


def trained(*, model: str, dataset: str, seed: int, preset: str, wide: bool = False, device: str = "cpu") -> nn.Module:
    """A trained net of `vision.MODELS` in eval mode; read if there is a file, else trained and written.

    Args:
        model: one of `vision.MODELS`, at an eighth of its width.
        dataset: one of `pictures.DATASETS`; the images are padded to 32 pixels.
        seed: of the weights and of the order of the images.
        preset: one of PRESETS.
        wide: for canvases that hold one object or two; it starts from the net for squares.
        device: where the net shall be.
    """
    path = ensure(model=model, dataset=dataset, seed=seed, preset=preset, wide=wide, device=device)
    net = vision.small(model, channels=pictures.CHANNELS.get(dataset, 1), divisor=DIVISOR)
    return nets.load_net(path, net).to(device)


def ensure(
    *,
    model: str,
    dataset: str,
    seed: int,
    preset: str,
    wide: bool = False,
    device: str = "cpu",
    recompute: store.Recompute = False,
) -> Path:
    """The file of such a net; if there is none, train it and write it; `recompute` as for `nets.ensure`."""
    choices = {"model": (model, vision.MODELS), "dataset": (dataset, pictures.DATASETS), "preset": (preset, PRESETS)}
    for name, (value, allowed) in choices.items():
        checks.one_of(name, value, allowed)
    checks.count("seed", seed, low=0)
    where = {"model": model, "dataset": dataset, "seed": seed, "preset": preset}
    if wide:
        ensure(**where, device=device, recompute=recompute == "stale" and "stale")
    return store.make_once(
        net_name(**where, wide=wide),
        lambda: _train_and_write(**where, wide=wide, device=device),
        recompute=recompute,
        is_stale=is_stale,
    )


def is_stale(path: Path) -> bool:
    """Whether a net's file is out of date or cannot be read."""
    try:
        return bool(stale_since(nets.net_facts(path)))
    except ValueError:
        return True


def _train_and_write(*, model: str, dataset: str, seed: int, preset: str, wide: bool, device: str) -> None:
    where = {"model": model, "dataset": dataset, "seed": seed, "preset": preset}
    base = provenance.file_hash(store.find(net_name(**where, wide=False))) if wide else None
    code = provenance.code_hashes(FAMILY_CODE)  # before: the source may be edited meanwhile
    start = time.perf_counter()
    net = train(**where, wide=wide, device=device)
    seconds = time.perf_counter() - start
    splits = {f"{split}_accuracy": scene(dataset, split, wide=wide) for split in ("validation", "test")}
    facts = {
        **where,
        "defense": "none",
        "wide": wide,
        "settings": {"divisor": DIVISOR, "batch": BATCH, "lr": LR[model]},
        "base": base,
        **{name: training.accuracy(net, *images) for name, images in splits.items()},
        "test_fingerprint": pictures.load(dataset, "test").fingerprint,
        "code": code,
        "sizes": presets.sizes(preset),
        **provenance.facts(device=device, seconds=seconds),
    }
    nets.save_net(net, store.place(net_name(**where, wide=wide)), facts)


def train(*, model: str, dataset: str, seed: int, preset: str, wide: bool, device: str) -> nn.Module:
    """Train a net on squares, or train the one for squares on with single objects on canvases."""
    size = PRESETS[preset]
    generator = torch.Generator().manual_seed(seed)
    images, labels = scene(dataset, "train", wide=wide)
    if wide:
        net = trained(model=model, dataset=dataset, seed=seed, preset=preset, device=device)
    else:
        net = vision.small(model, channels=images.shape[1], divisor=DIVISOR, generator=generator)
        net.to(memory_format=torch.channels_last)
    return training.fit(
        net,
        images[: size.family_images],
        labels[: size.family_images],
        validation=scene(dataset, "validation", wide=wide),
        epochs=CANVAS_EPOCHS if wide else size.family_epochs,
        batch_size=BATCH,
        lr=LR[model] / 4 if wide else LR[model],
        device=device,
        generator=generator,
        progress=True,
    ).model


@functools.lru_cache(maxsize=3)
def scene(dataset: str, split: str, *, wide: bool) -> tuple[Tensor, Tensor]:
    """Images (N, C, 32, 32) of a split, or canvases (N, C, 32, 64) with one object each, and their labels."""
    images = pictures.load(dataset, split)
    squares = canvas.padded(images.images)
    generator = torch.Generator().manual_seed(0)
    return (canvas.singles(squares, generator=generator) if wide else squares), images.labels


def stale_since(facts: dict[str, object]) -> list[str]:
    """What changed since a net was trained, by the facts in its file: functions, constants, sizes, the net under it."""
    found = provenance.changed(facts["code"]) + presets.changed(facts["preset"], facts.get("sizes"))
    if facts["wide"]:
        where = {key: facts[key] for key in ("model", "dataset", "seed", "preset")}
        base = store.find(net_name(**where, wide=False))
        if base is None or provenance.file_hash(base) != facts["base"] or is_stale(base):
            found.append(f"the net {facts['model']}")
    return found


def net_name(*, model: str, dataset: str, seed: int, preset: str, wide: bool) -> str:
    """The file's name among the results."""
    return f"families/{dataset}-{model}{'-wide' if wide else ''}-{preset}-seed{seed}.safetensors"
