"""Detectors made ready: fitted in a scene, with the threshold that so many clean images lie above."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import checks
from ..nets.running import frozen
from .attacked import known_pair
from .registry import DETECTORS, Score, available
from .scene import Look, Scene

RATE = 0.05  # share of clean images that may be called suspicious
BATCH = 128


@dataclass(frozen=True, eq=False)
class Alarm:
    """A detector with its threshold.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(80, 1, 8, 8)
    >>> found = detect.alarm("blur", detect.Scene(net, explain.gradient, known=x[:40], clean=x[40:]))
    >>> found.scores(x[:3]).shape, found.flags(x[40:]).double().mean() <= 0.05
    (torch.Size([3]), tensor(True))
    """

    name: str
    scene: Scene
    score: Score
    """The detector's own, called as `score(look, generator)`, turned so that the attacked known images lie above."""
    ordered: Tensor
    """The scores of the clean images (N,), smallest first."""
    threshold: float
    """An image above it is called suspicious."""

    @cached_property
    def middle(self) -> float:
        """The median of the clean scores."""
        return self.ordered.median().item()

    @cached_property
    def spread(self) -> float:
        """What a half of the clean scores spans, as the standard deviation of a normal distribution; never 0."""
        quarters = torch.quantile(self.ordered, torch.tensor([0.25, 0.75], dtype=self.ordered.dtype).to(self.ordered))
        width = (quarters[1] - quarters[0]).item() / 1.349
        whole = (self.ordered[-1] - self.ordered[0]).item()
        return max(width, whole / 10) or 1.0

    def scores(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """How suspicious images (N, C, H, W) are, (N,) on the CPU, batch by batch; a generator with seed 0 if None."""
        return _scores(self.scene, self.score, x, checks.generator(generator))

    def flags(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Whether images are called suspicious (N,)."""
        return self.scores(x, generator=generator) > self.threshold


def alarm(name: str, scene: Scene) -> Alarm:
    """A detector of the register made ready in a scene, once: its threshold lets at most 5 % of new clean images alarm.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(40, 1, 8, 8)
    >>> scene = detect.Scene(net, explain.gradient, known=x[:20], clean=x[20:])
    >>> detect.alarm("curvature", scene) is detect.alarm("curvature", scene)
    True

    Args:
        name: one of `DETECTORS`.
        scene: what the detector may know; at least 19 clean images make a finite threshold.

    Raises:
        ValueError: an unknown name, a scene that lacks what the detector needs.

    Source of the threshold: split conformal prediction (Vovk et al. 2005): the (n + 1)(1 - alarms)-th of n scores.
    """
    checks.one_of("name", name, DETECTORS)
    checks.batch("known", scene.known, bounds=(0, 1))
    checks.batch("clean", scene.clean, bounds=(0, 1))
    if name not in available(scene):
        raise ValueError(f"the detector {name!r} asks a second net; make the scene with sibling=...")
    return scene.keep(("fitted", name), lambda: _alarm(name, scene))


def ranks(scores: Tensor, clean: Tensor) -> Tensor:
    """The share of clean scores (M,) below each of some scores (N,), equal ones counted half: (N,), float64.

    Its mean is the area under the ROC curve.

    >>> import torch
    >>> from atexlib import detect
    >>> detect.ranks(torch.tensor([2.5, 1.0]), torch.tensor([1.0, 2.0]))
    tensor([1.0000, 0.2500], dtype=torch.float64)
    """
    below = (clean[None] < scores[:, None]).double() + (clean[None] == scores[:, None]).double() / 2
    return below.mean(1)


def _alarm(name: str, scene: Scene) -> Alarm:
    with frozen(scene.model):
        score = _turned(DETECTORS[name].make(scene), scene)
    ordered = _scores(scene, score, scene.clean, checks.generator(None)).sort().values
    place = math.ceil((len(ordered) + 1) * (1 - RATE)) - 1
    threshold = ordered[place].item() if place < len(ordered) else math.inf
    return Alarm(name, scene, score, ordered, threshold)


def _turned(score: Score, scene: Scene) -> Score:
    """The score, or minus it where attacked images look less suspicious by it than before.

    An attack may break ties, and so make maps calmer than clean ones.
    """
    clean, attacked = (_scores(scene, score, images, checks.generator(None)) for images in known_pair(scene))
    if (attacked > clean).double().mean() + (attacked >= clean).double().mean() >= 1:
        return score
    return lambda look, generator: -score(look, generator)


@torch.no_grad()
def _scores(scene: Scene, score: Score, x: Tensor, generator: torch.Generator) -> Tensor:
    with frozen(scene.model):
        return torch.cat([score(Look(scene, part), generator).detach() for part in x.detach().split(BATCH)])
