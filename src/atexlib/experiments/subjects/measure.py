"""Measure a manipulation: attack the images of a net, compare the maps, check the constraints anew."""

from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...attack import Ball
from ...explain import Explainer, find
from ...maps import alike, shape
from ...nets import of_class, predict
from ..engine.numbers import plain

BATCH = 64  # images attacked at once: they and what the net makes of them stay in a CPU's cache
K = 50
DITHER = 0.001  # of the noise that breaks ties, below what a screen can show


class Attack(Protocol):
    """Manipulates a batch; `rows` are the numbers of its images, so that per-image settings can be looked up."""

    def __call__(self, model: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
        """Manipulated images of x's shape."""


def stability(
    model: nn.Module,
    images: Tensor,
    attack: Attack,
    *,
    eps: float,
    explainer: str | Explainer = "gradient",
    progress: bool = False,
) -> dict[str, list[float | None]]:
    """Attack all images and compare their maps before and after; one number an image for each measure.

    An image whose predicted class the attack changed is no manipulation of the map: its measures are missing, and
    `label_kept` counts it. The constraints are measured here, by code that did not enforce them: `distance` in
    L-infinity, and the label. `dithered` is Spearman against the map of the image with noise of a thousandth: without
    the leaps of a map at ties, which any noise sets off.

    Raises:
        RuntimeError: an attack that left the ball, which must never happen.
    """
    explainer = find(explainer)
    parts: list[dict[str, Tensor]] = []
    rows = torch.arange(len(images))
    size = len(images) if images.is_cuda else BATCH  # a GPU is fast when it has much to do at once
    batches = list(zip(images.split(size), rows.split(size), strict=True))
    for x, numbers in tqdm(batches, desc="attacking", disable=not progress):
        z = attack(model, x, numbers)
        if (furthest := (z - x).abs().max().item()) > eps * (1 + 1e-6):
            raise RuntimeError(f"an attacked image lies {furthest} from its original, further than eps = {eps}.")
        clean_logits, logits = predict(model, x), predict(model, z)
        target = clean_logits.argmax(1)
        kept = logits.argmax(1) == target
        dither = Ball(x, DITHER, "linf", (0, 1)).corner(torch.Generator().manual_seed(0))
        clean_map, changed_map, dithered_map = (explainer(model, images, target) for images in (x, z, dither))
        probability, clean_probability = (of_class(values.softmax(1), target) for values in (logits, clean_logits))
        parts.append(
            {name: v.where(kept, torch.nan) for name, v in _compare(clean_map, changed_map, dithered_map).items()}
            | {
                "label_kept": kept,
                "prediction_shift": (probability - clean_probability).abs(),
                "distance": (z - x).abs().amax((1, 2, 3)),
            }
        )
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: plain(values) for name, values in found.items()}


def _compare(clean: Tensor, changed: Tensor, dithered: Tensor) -> dict[str, Tensor]:
    """Rank correlations, top-50 intersections and SSIM (maps divided by their maximum) of absolute values."""
    a, b = shape.normalize(clean), shape.normalize(changed)
    top = shape.topk_mask(a, K)
    mass = [(shape.normalize(maps, by="l1") * top).sum((1, 2, 3)) for maps in (clean, changed)]
    return {
        "spearman": alike.spearman(a, b),
        "kendall": alike.kendall(a, b),
        "topk": alike.topk_intersection(a, b, K),
        "lens_topk": alike.lens_topk(a, b, K),
        "ssim": alike.ssim(a, b, data_range=1.0),
        "mass_lost": mass[0] - mass[1],
        "dithered": alike.spearman(shape.normalize(dithered), b),
    }
