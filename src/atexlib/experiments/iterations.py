"""Nets after 0, 1, 2, ... iterations of a defence: small passes, each net trained by itself from the undefended one."""

import hashlib
import json
import time

import torch
from torch import nn

from .. import data, training
from . import attacks, nets, provenance, store
from .presets import PRESETS

IMAGES = 4  # an iteration is one pass over this fraction of the images that a preset defends on
PLAIN_PASSES = 4  # the control makes more passes: a step of ATEX looks at about four times as many images
ITERATED = ("atex", "atex_ascent", "naive", "plain")
ITERATION_CODE = provenance.declared("training", "defenses", "iterations")


def after(
    iterations: int,
    *,
    dataset: str,
    defense: str,
    seed: int,
    preset: str,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> nn.Module:
    """The net after so many iterations of a defence; 0 is the undefended net.

    `plain` is the control: cross entropy on the same images, with as much compute as ATEX takes. What was trained once
    is kept beside one's results, under a name that holds the code and the net it rests on.
    """
    where = {"dataset": dataset, "seed": seed, "preset": preset}
    base = nets.base_net(device=device, **where)
    if iterations == 0:
        return base
    rests_on = json.dumps(
        [
            provenance.code_hashes(ITERATION_CODE),
            provenance.file_hash(nets.ensure(defense="none", device=device, **where)),
            [PRESETS[preset].defense_images, PRESETS[preset].batch_size],
        ]
    )
    mark = hashlib.sha256(rests_on.encode()).hexdigest()[:12]
    path = store.place(f"scratch/{dataset}-{defense}-{iterations}-{preset}-seed{seed}-{mark}.safetensors")
    if not path.exists():
        start = time.perf_counter()
        model = _train(base, iterations, defense=defense, device=device, progress=progress, **where)
        nets.save_net(model, path, {**where, **provenance.facts(device=device, seconds=time.perf_counter() - start)})
    return nets.load_net(path).to(device)


def _train(
    base: nn.Module,
    iterations: int,
    *,
    dataset: str,
    defense: str,
    seed: int,
    preset: str,
    device: str | torch.device,
    progress: bool,
) -> nn.Module:
    size = PRESETS[preset]
    count = size.defense_images // IMAGES
    if defense != "plain":
        settings = {**nets.SETTINGS[defense], "epochs": iterations}
        where = {"dataset": dataset, "seed": seed, "preset": preset}
        return nets.defend(base, settings, count=count, device=device, progress=progress, **where)
    images, validation = attacks.first_images(dataset, "train", count), data.load(dataset, "validation")
    return training.fit(
        base,
        images.images,
        images.labels,
        validation=(validation.images, validation.labels),
        epochs=iterations * PLAIN_PASSES,
        batch_size=size.batch_size,
        device=device,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    ).model
