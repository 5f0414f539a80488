"""Measure a manipulation: attack the images of a net, compare the maps, check the constraints anew."""

from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import explainers, metrics, training
from ..explainers import Explainer, normalize
from ..input_manipulation import of_class

BATCH = 64  # images attacked at once: they and what the net makes of them stay in a CPU's cache
K = 50
DIGITS = 5  # significant digits of a number in a card


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
    explainer: Explainer = explainers.gradient,
    progress: bool = False,
) -> dict[str, list[float | None]]:
    """Attack all images and compare their maps before and after; one number an image for each measure.

    An image whose predicted class the attack changed is put back: then its map has not changed either. The constraints
    are measured here, by code that did not enforce them: `distance` in L-infinity, `label_kept` before putting back.

    Raises:
        RuntimeError: an attack that left the ball, which must never happen.
    """
    parts: list[dict[str, Tensor]] = []
    rows = torch.arange(len(images))
    size = len(images) if images.is_cuda else BATCH  # a GPU is fast when it has much to do at once
    batches = list(zip(images.split(size), rows.split(size), strict=True))
    for x, numbers in tqdm(batches, desc="attacking", disable=not progress):
        z = attack(model, x, numbers)
        if (furthest := (z - x).abs().max().item()) > eps * (1 + 1e-6):
            raise RuntimeError(f"an attacked image lies {furthest} from its original, further than eps = {eps}.")
        clean_logits, logits = training.predict(model, x), training.predict(model, z)
        target = clean_logits.argmax(1)
        kept = logits.argmax(1) == target
        z = torch.where(kept.view(-1, 1, 1, 1), z, x)
        clean_map, changed_map = explainer(model, x, target), explainer(model, z, target)
        probability, clean_probability = (
            of_class(logits.softmax(1), target) for logits in (training.predict(model, z), clean_logits)
        )
        parts.append(
            _compare(clean_map, changed_map)
            | {
                "label_kept": kept,
                "prediction_shift": (probability - clean_probability).abs(),
                "distance": (z - x).abs().amax((1, 2, 3)),
            }
        )
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return {name: _plain(values) for name, values in found.items()}


def _compare(clean: Tensor, changed: Tensor) -> dict[str, Tensor]:
    """Rank correlations, top-50 intersections and SSIM (maps divided by their maximum) of absolute values."""
    a, b = normalize(clean), normalize(changed)
    top = metrics.topk_mask(a, K)
    mass = [(normalize(maps, by="l1") * top).sum((1, 2, 3)) for maps in (clean, changed)]
    return {
        "spearman": metrics.spearman(a, b),
        "kendall": metrics.kendall(a, b),
        "topk": metrics.topk_intersection(a, b, K),
        "lens_topk": metrics.lens_topk(a, b, K),
        "ssim": metrics.ssim(a, b),
        "mass_lost": mass[0] - mass[1],
    }


def _plain(values: Tensor) -> list[float | None]:
    """Numbers for JSON: short, and None for nan, which JSON lacks."""
    return [None if value != value else float(f"{value:.{DIGITS}g}") for value in values.double().tolist()]
