"""Measure a manipulation: attack the images of a net, compare the maps, check the constraints anew."""

from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...explain import Explainer, find
from ...maps import alike, shape
from ...nets import of_class, predict
from ..engine.numbers import plain

BATCH = 64  # images attacked at once: they and what the net makes of them stay in a CPU's cache
K = 50


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

    An image whose predicted class the attack changed is put back: then its map has not changed either. The constraints
    are measured here, by code that did not enforce them: `distance` in L-infinity, `label_kept` before putting back.

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
        z = torch.where(kept.view(-1, 1, 1, 1), z, x)
        clean_map, changed_map = explainer(model, x, target), explainer(model, z, target)
        probability, clean_probability = (
            of_class(logits.softmax(1), target) for logits in (predict(model, z), clean_logits)
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
    return {name: plain(values) for name, values in found.items()}


def _compare(clean: Tensor, changed: Tensor) -> dict[str, Tensor]:
    """Rank correlations, top-50 intersections and SSIM (maps divided by their maximum) of absolute values."""
    a, b = shape.normalize(clean), shape.normalize(changed)
    top = shape.topk_mask(a, K)
    mass = [(shape.normalize(maps, by="l1") * top).sum((1, 2, 3)) for maps in (clean, changed)]
    return {
        "spearman": alike.spearman(a, b),
        "kendall": alike.kendall(a, b),
        "topk": alike.topk_intersection(a, b, K),
        "lens_topk": alike.lens_topk(a, b, K),
        "ssim": alike.ssim(a, b),
        "mass_lost": mass[0] - mass[1],
    }
