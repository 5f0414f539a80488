"""The attacks of the experiments, by name, each a function of a batch."""

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...attack import OBJECTIVES, Ball, Objective, Targeted, manipulate, of_rows
from ...attack.kinks import NO_SLOPE, SATURATED
from ...explain import Explainer
from ...nets import with_beta
from ..engine import results
from ..engine.place import Place
from . import nets
from .measure import Attack, K, stability

REGION = 5  # side of the square that a targeted attack highlights
TOLERANCE = 0.1  # eps2 where the probability must hold too
SURROGATE_BETA = 3.0
SETTINGS = {"k": K, "region": REGION, "tolerance": TOLERANCE, "surrogate beta": SURROGATE_BETA}
# Beside the objectives of the register, whose label alone must hold.
OTHERS = {
    "tolerance": "untargeted, and the probability may shift by 0.1 at most",
    "blunt distance": "like distance, guided as surrogate",
    "surrogate": "untargeted, guided by a copy of the net with blunter softplus units, for gradients that mislead",
    "transfer": "untargeted, made on the undefended net of another seed",
    "noise": "a random corner of the ball, no search",
}
# The worst case of an image is its lowest value over these; two of them, by which validation images choose.
SEVEN = ("untargeted", "distance", "center_mass", "target_map", "surrogate", "blunt distance", "rank_distance")
TWO = SEVEN[:2]
GUIDED = {"surrogate": "untargeted", "blunt distance": "distance"}
COMPARED = ("spearman", "kendall", "topk", "lens_topk", "ssim", "dithered")
ATTACKS: ChainMap[str, Any] = ChainMap(OTHERS, OBJECTIVES)


def make(
    name: str,
    place: Place,
    images: Tensor,
    *,
    eps: float,
    steps: int,
    starts: int,
    explainer: str | Explainer = "gradient",
) -> Attack:
    """The attack of this name on these images: an objective of the register, or one of OTHERS."""
    generator = place.generator()
    if name == "noise":
        return lambda model, x, rows: Ball(x, eps, "linf", (0, 1)).corner(generator)
    aim = objective(GUIDED.get(name, "untargeted" if name in OTHERS else name), images)
    other = None
    if name == "transfer":
        other = results.net_of(
            nets.elsewhere({"dataset": place.dataset, "seed": place.seed, "preset": place.preset}), place
        )

    def attack(model: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
        found = manipulate(
            model if other is None else other,
            x,
            of_rows(aim, rows),
            eps=eps,
            explainer=explainer,
            steps=steps,
            starts=starts,
            prediction_tolerance=TOLERANCE if name == "tolerance" else None,
            surrogate=with_beta(model, SURROGATE_BETA) if name in GUIDED else None,
            generator=generator,
        )
        if found.effort.why not in ("", NO_SLOPE, SATURATED):  # a map that nothing moves needs no step
            raise ValueError(f"no table may show what an attack leaves that could not step: {found.effort}.")
        return found.x

    return attack


def each(model: nn.Module, images: Tensor, place: Place, *, eps: float, names: Iterable[str]) -> dict[str, Any]:
    """Each measure (N,), nan where it has no value, after each attack, by its name, and the `furthest` distance."""
    found: dict[str, Any] = {"furthest": 0.0}
    for name in names:
        attack = make(name, place, images, eps=eps, steps=place.size.steps, starts=place.size.starts)
        measured = stability(model, images, attack, eps=eps, progress=place.progress)
        found["furthest"] = max(found["furthest"], *measured["distance"])
        numbers = {key: [math.nan if v is None else v for v in measured[key]] for key in COMPARED}
        found[name] = {key: torch.tensor(values) for key, values in numbers.items()}
    return found


def lowest(found: Mapping[str, Any], names: Sequence[str], measured: str) -> Tensor:
    """Each image's lowest value (N,) of a measure over several attacks; where one has none the attacker won nothing."""
    if len(names) == 1:
        return found[names[0]][measured]
    return torch.stack([found[name][measured] for name in names]).nan_to_num(1.0).amin(0)


def objective(name: str, images: Tensor) -> Objective:
    """The objective of this name for these images, its random choices drawn once, the same for every net."""
    generator = torch.Generator().manual_seed(0)
    if name == "targeted":
        return Targeted.random_region(images, REGION, generator=generator)
    return OBJECTIVES[name](images, K, generator)
