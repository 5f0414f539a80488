"""What an audit will try: which explainers take the net, whose slopes are followed, where maps shall go; how long."""

import functools
import inspect
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..attack.guides import smooth_guide
from ..attack.objectives import Score, Targeted
from ..explain.layers import resolved
from ..explain.registry import Explainer, tried
from ..nets import running

TOP = 16  # top-k looks at one in so many entries of a map
PLACES = {  # how far down and how far right a square lies in what it leaves free
    "upper left": (0.0, 0.0), "upper right": (0.0, 1.0), "lower left": (1.0, 0.0), "lower right": (1.0, 1.0),
    "center": (0.5, 0.5),
}  # fmt: skip
LOOKS = 6  # of an attack at the maps, before and after its steps, each as dear as a step
PART = 3  # the square's side in that of the image


@dataclass(frozen=True, eq=False)
class Placing:
    """The objective that brings a map to a place: its share on a mask (1, 1, H, W), which maps of any size get.

    >>> import torch
    >>> from atexlib.judge import plan
    >>> plan.Placing(plan.place_of("lower right", 6, 6)).on(torch.ones(1, 1, 3, 3))[0, 0].int().tolist()
    [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    """

    mask: Tensor

    def on(self, maps: Tensor) -> Tensor:
        """The mask for these maps (B, C, H, W), true on the place; at least one pixel."""
        part = F.interpolate(self.mask.to(maps.device, maps.dtype), maps.shape[2:], mode="area")
        return (part >= min(0.5, part.max().item())).expand_as(maps)

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the share of a map on the mask."""
        return Targeted(self.on(clean_map))(clean_map)


def place_of(place: str | Tensor, height: int, width: int) -> Tensor:
    """The mask (1, 1, H, W), true where maps shall go: a square a third as long as the shorter side, or one's own.

    >>> from atexlib.judge import plan
    >>> plan.place_of("upper left", 3, 4)[0, 0].int().tolist()
    [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]

    Raises:
        ValueError: an unknown word; a mask of another shape, of other values than 0 and 1, or of one of them alone.
    """
    if isinstance(place, Tensor):
        if place.shape != (height, width):
            raise ValueError(f"place has shape {tuple(place.shape)}; pass a mask of the images' ({height}, {width}).")
        mask = place.bool()
        if not torch.equal(mask.to(place.dtype), place) or mask.all() or not mask.any():
            raise ValueError("place is a mask that marks nothing, all, or by halves; pass 1 there and 0 elsewhere.")
        return mask.cpu()[None, None]
    checks.one_of("place", place, PLACES)
    size = max(1, min(height, width) // PART)
    top, left = (round(part * (side - size)) for part, side in zip(PLACES[place], (height, width), strict=True))
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    mask[..., top : top + size, left : left + size] = True
    return mask


def usable(
    model: nn.Module, x: Tensor, chosen: Mapping[str, Explainer], batch_size: int
) -> tuple[dict[str, tuple[Explainer, int]], list[str]]:
    """The explainers that accept the net, each with the k of its top-k; and why the others do not."""
    found, notes = {}, []
    target = running.predict(model, x).argmax(1)
    for name, explainer in chosen.items():
        if "chunk" in inspect.signature(explainer).parameters:  # copies in the net at once: no more than images
            explainer = functools.partial(explainer, chunk=batch_size)
        try:
            explainer = resolved(explainer, model, x)
            found[name] = explainer, max(1, tried(explainer, model, x, target)[0].numel() // TOP)
        except Exception as error:  # an explainer of one's own may fail in any way, and must not end the audit
            notes.append(left_out(name, error))
    if not found:
        raise ValueError(f"no explainer works on this net: {'; '.join(notes)}")
    return found, notes


def left_out(name: str, error: Exception) -> str:
    """Why an explainer is missing."""
    said = str(error) if isinstance(error, ValueError) else f"it failed with {type(error).__name__} ({error})."
    return f"{name} was left out: {said}"


def estimate(
    model: nn.Module,
    twin: nn.Module | None,
    explainers: Mapping[str, tuple[Explainer, int]],
    images: Tensor,
    steps: int,
) -> float:
    """Seconds that so many steps of an attack on each explainer will take, from timing one step on two images.

    A step follows the slopes of the twin, where there is one, and looks at the net's own map.
    """
    guide = model if twin is None else twin
    x, seconds = images[:2], 0.0
    with running.frozen(guide), checks.trusted(), torch.no_grad():
        target = running.logits_of(guide, x).argmax(1)
    for explainer, _ in explainers.values():
        start = time.perf_counter()
        try:
            with running.frozen(guide), checks.trusted(), torch.enable_grad():
                z = x.detach().requires_grad_()
                maps = explainer(guide, z, target, create_graph=True)
                if maps.requires_grad:
                    torch.autograd.grad(maps.square().sum(), z, allow_unused=True)
                if twin is not None:
                    explainer(model, x, target)
        except Exception:  # what fails here is found, told and left out when it is attacked
            continue
        seconds += (time.perf_counter() - start) / len(x) * len(images) * steps
    return seconds


def spelt(seconds: float) -> str:
    """A duration in words.

    >>> from atexlib.judge import plan
    >>> plan.spelt(90), plan.spelt(600), plan.spelt(9000)
    ('90 s', '10 min', '2.5 h')
    """
    if math.isnan(seconds) or seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def surrogate(model: nn.Module, x: Tensor, beta: float) -> tuple[nn.Module | None, list[str]]:
    """The softplus copy of a net with ReLUs, None for a net without any or without a copy; and notes."""
    try:
        twin = smooth_guide(model, x, beta=beta)
    except Exception as error:  # a net of one's own may fail in any way, and must not end the audit
        return None, [f"The attacks followed the net's own gradients, which mislead if it holds ReLU units: {error}"]
    return twin, [f"The attacks were guided by a softplus copy, beta {beta:g}."] if twin is not None else []
