"""Steady maps (ours): smooth pooling, the naive defence for long, and the undefended net as a teacher."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import checks
from ..nets.training import Examples, Fitted, check_schedule
from .naive import naive
from .plain import smoothed, smoothing
from .registry import defense

SETTINGS: Mapping[str, Any] = {
    "eps": 0.1,
    "weight": 3.0,
    "fidelity": 0.7,
    "pooling": "average",
    "plain_epochs": 8,
    "epochs": 4,
}
LONGER: Mapping[str, Any] = {"weight": 6.0, "epochs": 8}


@defense("own_long", label="steady, longer (ours)", settings={**SETTINGS, **LONGER}, shape=smoothed)
@defense("own", label="steady (ours)", settings=SETTINGS, shape=smoothed)
def steady(
    model: nn.Module,
    data: Examples,
    *,
    eps: float,
    epochs: int,
    pooling: str | float = "average",
    plain_epochs: int = 8,
    fidelity: float = 0.7,
    weight: float = 3.0,
    validation: Examples | None = None,
    batch_size: int = 100,
    lr: float = 1e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Put smooth pooling into a copy of a trained net, and train it on by the naive defence with the net as teacher.

    Not part of any paper. Each part mends what another one spoils: without ties a map has no leaps that training could
    not take away; the naive term straightens what still bends; the teacher keeps the accuracy that both cost.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.steady(nets.ConvNet(), few, eps=0.1, epochs=1, batch_size=20).model.pool
    AvgPool2d(kernel_size=2, stride=2, padding=0)

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats in [0, 1], and labels (N,) from 0.
        eps: radius of the L-infinity ball of the neighbours.
        epochs: passes over the images by the naive defence.
        pooling: see `nets.with_pooling`.
        plain_epochs: passes with cross entropy before, in which the weights get used to the pooling; 0 for none.
        fidelity: the teacher's part of the labels, in [0, 1].
        weight: weight of the distance between the maps.
        validation: images and labels that choose the best epoch, see `naive`.
        batch_size: images in a batch.
        lr: first learning rate of Adam, of either part; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator of the order and of all samples; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; an unknown word; a net without max-pooling; a loss that is not finite.
    """
    checks.number("eps", eps, open_low=True)
    checks.number("weight", weight)
    checks.number("fidelity", fidelity, high=1)
    checks.count("plain_epochs", plain_epochs, low=0)
    check_schedule(epochs, batch_size, lr)
    checks.batch("images", checks.examples("data", data)[0], bounds=(0, 1))
    run: dict[str, Any] = {"validation": validation, "batch_size": batch_size, "lr": lr, "device": device}
    run |= {"generator": checks.generator(generator), "progress": progress}
    student = smoothing(model, data, pooling=pooling, epochs=plain_epochs, **run).model
    teacher = model if fidelity else None
    return naive(student, data, eps=eps, epochs=epochs, weight=weight, teacher=teacher, fidelity=fidelity, **run)
