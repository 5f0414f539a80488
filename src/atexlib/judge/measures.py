"""What an audit measures of changed images, by code that did not change them; and what speaks against its numbers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..attack.inputs import SEEN, Effort
from ..attack.kinks import reason
from ..explain.registry import Explainer
from ..maps.shape import mass_on
from ..nets import running
from .card import MEASURES
from .likeness import likeness
from .plan import Placing


def compared(
    model: nn.Module, explainer: Explainer, x: Tensor, z: Tensor, target: Tensor, k: int, placing: Placing
) -> dict[str, Tensor]:
    """Maps of x and z, how alike they are and where, whether the prediction was kept and how far z lies from x."""
    clean, changed = explainer(model, x, target), explainer(model, z, target)
    alike = likeness(clean, changed, k, names=MEASURES)
    logits, place = running.predict(model, z), placing.on(clean)
    return {
        **alike,
        "kept": logits.argmax(1) == target,
        "distance": (z - x).abs().amax((1, 2, 3)),
        "probability": running.of_class(logits.softmax(1), target),
        "in place before": mass_on(clean, place),
        "in place": mass_on(changed, place),
        "clean_map": clean,
        "changed": z,
        "changed_map": changed,
    }


def worst(found: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Each image's lowest value of each measure over several attacks; nan only where all of them are."""
    lowest = {}
    for key in MEASURES:
        values = torch.stack([one[key] for one in found])
        least = values.nan_to_num(nan=torch.inf).amin(0)
        lowest[key] = torch.where(values.isnan().all(0), torch.nan, least)
    return lowest | {
        "kept": torch.stack([one["kept"] for one in found]).all(0),
        "distance": torch.stack([one["distance"] for one in found]).amax(0),
    }


def doubts(name: str, noise: Tensor, worst: Tensor, effort: Effort) -> list[str]:
    """What speaks against an explainer's numbers: Spearman under noise and at the worst (N,), and the effort."""
    notes, constant = [], int(worst.isnan().sum())
    if constant > len(worst) / 2:
        counted = f"{name}: {constant} of {len(worst)} maps are constant, so their entries have no order."
        notes.append(f"{counted} Grad-CAM is constant where the layer that it reads gives 1 x 1 values.")
    if effort.stepped < effort.images:
        share = f"{effort.images - effort.stepped} of {effort.images} attacks could take no step ({effort.why})"
        told = f" There {reason(effort.why)}" if effort.why else ""
        notes.append(f"{name}: the attacks were WEAK, and high numbers mean nothing: {share}.{told}")
    elif effort.seen < SEEN:
        seen = f"slopes see {100 * effort.seen:.0f} % of how its maps change, the rest are jumps at kinks that are left"
        notes.append(f"{name}: {seen}, as of max-pooling; a search that does not follow slopes may find more.")
    if worst.nanmean() > noise.nanmean():
        notes.append(f"{name}: random noise moved the maps further than the attacks, so these were WEAK.")
    return notes
