"""The attackers of the judge, fixed by version, so that nets judged at different times can be compared."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..attack.ball import Ball
from ..attack.blackbox import random_search, universal
from ..attack.inputs import Effort, manipulate
from ..attack.objectives import OBJECTIVES, of_rows
from ..explain.registry import Explainer

TOP = 50 / 784  # share of a map's entries that top-k looks at


@dataclass(frozen=True)
class Suite:
    """How hard a version of the suite tries."""

    steps: int
    starts: int
    draws: int
    """Random corners of the control, of which an image's worst counts."""
    queries: int
    """Trials of the search without slopes."""

    @property
    def short(self) -> int:
        """Steps of the run that shows whether three times as many still help."""
        return max(1, self.steps // 3)


# `v1-long` has six times the budget, to see whether that of v1 is enough. `smoke` shows in seconds that everything
# runs; its numbers mean nothing.
SUITES = {"v1": Suite(60, 2, 32, 300), "v1-long": Suite(180, 4, 192, 1800), "smoke": Suite(3, 1, 2, 5)}


@dataclass(frozen=True, eq=False)
class Case:
    """A net's maps before the court: everything that an attacker may know."""

    model: nn.Module
    suite: Suite
    images: Tensor
    """All images (N, C, H, W) in [0, 1]."""
    explainer: Explainer
    k: int
    """Entries of a map that count as its top."""
    eps: float
    smooth: nn.Module | None
    """The softplus copy that guides attacks on a net with kinks; None where the net guides itself."""
    blunt: nn.Module | None
    """A blunter copy with average pooling; None where none can be made."""
    sibling: nn.Module | None
    """Another net of the same kind, on which an attack may be made that then has to carry over."""
    generator: torch.Generator


Attacker = Callable[[Case, Tensor], tuple[Tensor, Effort | None] | None]
ATTACKERS: dict[str, Attacker] = {}
SLOPES = "slopes of the net"
NO_SLOPES = "no slopes of the net"
FOLLOWS: dict[str, str] = {}


def attacker(name: str, *, follows: str) -> Callable[[Attacker], Attacker]:
    """Enter the decorated function in the suite: (case, rows) -> changed images (R, C, H, W), and its effort, or None.

    `follows` says whether it takes its direction from the net's own slopes: what does not is a check on what does.
    """

    def enter(function: Attacker) -> Attacker:
        ATTACKERS[name], FOLLOWS[name] = function, follows
        return function

    return enter


def searched(case: Case, rows: Tensor, objective: str, **options: Any) -> tuple[Tensor, Effort]:
    """The images of these rows manipulated by an objective of the register, with the suite's steps and starts."""
    aim = OBJECTIVES[objective](case.images, case.k, torch.Generator().manual_seed(0))
    sizes = {"steps": case.suite.steps, "starts": case.suite.starts}
    options = {**sizes, "surrogate": case.smooth, "model": case.model, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no image could step becomes a flag
        found = manipulate(
            options.pop("model"),
            case.images[rows],
            of_rows(aim, rows),
            eps=case.eps,
            explainer=case.explainer,
            generator=case.generator,
            **options,
        )
    return found.x, found.effort


@attacker("distance", follows=SLOPES)
def distance(case: Case, rows: Tensor) -> tuple[Tensor, Effort]:
    """The whole map, by its correlation."""
    return searched(case, rows, "distance")


@attacker("blunt distance", follows=NO_SLOPES)
def blunt_distance(case: Case, rows: Tensor) -> tuple[Tensor, Effort] | None:
    """The same, guided by a blunter copy: past kinks, and past slopes that are too flat or too sharp to follow."""
    return None if case.blunt is None else searched(case, rows, "distance", surrogate=case.blunt)


@attacker("rank distance", follows=SLOPES)
def rank_distance(case: Case, rows: Tensor) -> tuple[Tensor, Effort]:
    """The order of the map's entries, by soft ranks."""
    return searched(case, rows, "rank_distance")


@attacker("untargeted", follows=SLOPES)
def untargeted(case: Case, rows: Tensor) -> tuple[Tensor, Effort]:
    """The mass on the map's top entries."""
    return searched(case, rows, "untargeted")


@attacker("blunt untargeted", follows=NO_SLOPES)
def blunt_untargeted(case: Case, rows: Tensor) -> tuple[Tensor, Effort] | None:
    """The same, guided by a blunter copy."""
    return None if case.blunt is None else searched(case, rows, "untargeted", surrogate=case.blunt)


@attacker("center mass", follows=SLOPES)
def center_mass(case: Case, rows: Tensor) -> tuple[Tensor, Effort]:
    """The map's centre of mass."""
    return searched(case, rows, "center_mass")


@attacker("target map", follows=SLOPES)
def target_map(case: Case, rows: Tensor) -> tuple[Tensor, Effort]:
    """Likeness to another image."""
    return searched(case, rows, "target_map")


@attacker("random search", follows=NO_SLOPES)
def by_trial(case: Case, rows: Tensor) -> tuple[Tensor, None]:
    """The whole map, by trial alone."""
    found = random_search(
        case.model,
        case.images[rows],
        OBJECTIVES["distance"](case.images, case.k, case.generator),
        eps=case.eps,
        explainer=case.explainer,
        queries=case.suite.queries,
        generator=case.generator,
    )
    return found, None


@attacker("universal", follows=SLOPES)
def one_for_all(case: Case, rows: Tensor) -> tuple[Tensor, None]:
    """One shift for all images of a half, fitted on the other half."""
    shifts = []
    for start in (1, 0):  # even rows are shifted by what odd ones were fitted to
        shift = universal(
            case.model,
            case.images[start::2],
            OBJECTIVES["distance"](case.images, case.k, case.generator),
            eps=case.eps,
            explainer=case.explainer,
            surrogate=case.smooth,
            steps=case.suite.steps,
            generator=case.generator,
        )
        shifts.append(shift)
    ball = Ball(case.images[rows], case.eps, "linf", (0, 1))
    return ball.project(ball.center + torch.cat(shifts)[rows.to(ball.center.device) % 2]), None


@attacker("transfer", follows=NO_SLOPES)
def transfer(case: Case, rows: Tensor) -> tuple[Tensor, Effort] | None:
    """The whole map of a sibling, in the hope that this net's moves with it."""
    return None if case.sibling is None else searched(case, rows, "distance", model=case.sibling, surrogate=None)


def shorter(case: Case) -> Tensor:
    """All images after a third of the steps, to see whether the curve of the budget still falls."""
    return searched(case, torch.arange(len(case.images)), "distance", steps=case.suite.short)[0]


def corners(case: Case) -> list[Tensor]:
    """The control: random corners of the ball, nothing aimed."""
    ball = Ball(case.images, case.eps, "linf", (0, 1))
    return [ball.corner(case.generator) for _ in range(case.suite.draws)]
