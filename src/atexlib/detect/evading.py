"""The attacker who knows the detectors: the map is moved, the class kept, and no alarm raised."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks
from ..attack.ascent import check_effort
from ..attack.ball import Ball
from ..attack.inputs import Manipulation, manipulate
from ..attack.objectives import Objective, check_objective
from .alarms import Alarm, alarm
from .registry import DETECTORS
from .response import LEVELS
from .scene import Look, Scene
from .vote import JOINT, members_of

MARGIN = 0.4  # below the threshold of a detector that draws, in its spread: the next draw shall not flag either
REPEATS = 3  # draws of a single detector in a step, of which the mean counts: one alone may be silent by luck
RINGS = (0, 1, 2, 3, 4, 6)  # pixels around what is not dark that may change, too, while enough windows stay tied
SAFE = 1e-3  # of the windows, by which the tied ones stay on the silent side


def evade(
    scene: Scene,
    x: Tensor,
    objective: Objective,
    detectors: Sequence[str],
    *,
    eps: float,
    steps: int = 100,
    starts: int = 1,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
) -> Manipulation:
    """Manipulate maps under the eyes of detectors that are known: ball, class, and every score below its threshold.

    As in `manipulate`, with all scores as one more constraint: a step climbs the objective, near a threshold along it,
    and past it back. What draws random numbers is asked anew in each step, so that the slope is the mean one, and held
    a little further away. Detectors that count or round lend the slope of a smooth stand-in, but are themselves
    obeyed. Where ties are counted, what breaks them is spared: see `spared`. Where grey levels are taken away, a second
    search keeps to the levels that stay, so that taking them away changes nothing; of both each image's best counts.

    An image for which nothing silent is found comes back unchanged. Whether a fresh look by the detector stays silent
    is for the caller to measure.

    >>> import torch
    >>> from atexlib import attack, detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(40, 1, 8, 8)
    >>> scene = detect.Scene(net, explain.gradient, known=x[:20], clean=x[20:], steps=2)
    >>> found = detect.evade(scene, x[:2], attack.Distance(), ["blur", "noise"], eps=0.1, steps=3)
    >>> bool(found.label_kept.all()), bool((found.distance <= 0.1).all())
    (True, True)

    Args:
        scene: what the detectors know; the attacker knows it, too.
        x: clean images (B, C, H, W) in [0, 1].
        objective: what to maximise, as in `manipulate`.
        detectors: names of those to escape, all at once.
        eps: largest change of a pixel.
        steps: gradient steps from each start.
        starts: number of starts.
        batch_size: images attacked at once; all of them if None.
        generator: CPU generator of starts and of the detectors' draws; a new one with seed 0 if None.

    Raises:
        ValueError: x or a number out of range, an unknown detector, none at all.
    """
    if isinstance(detectors, str) or not detectors:
        raise ValueError(f"detectors is {detectors!r}; pass a list of names, such as ['noise'].")
    generator = checks.generator(generator)
    checks.batch("x", x, bounds=(0, 1))
    check_effort(eps=eps, norm="linf", steps=steps, starts=starts)
    check_objective(objective)
    if batch_size is not None:
        checks.count("batch_size", batch_size)
    fitted = [alarm(name, scene) for name in detectors]
    limits = [d.threshold - (MARGIN * d.spread if DETECTORS[d.name].random else 0) for d in fitted]

    def excess(z: Tensor) -> Tensor:
        look = Look(scene, z)
        return torch.stack(
            [(_mean(d, look, generator) - limit) / d.spread for d, limit in zip(fitted, limits, strict=True)]
        ).amax(0)

    search: dict[str, Any] = {
        "eps": eps,
        "explainer": scene.explainer,
        "steps": steps,
        "starts": starts,
        "constraint": excess,
        "where": _where(scene, x, fitted, eps),
        "batch_size": batch_size,
        "generator": generator,
    }
    found = manipulate(scene.model, x, objective, **search)
    if "quantised" in _heard(scene, fitted):
        found = _better(found, manipulate(scene.model, x, objective, levels=LEVELS, **search))
    return found


def _mean(detector: Alarm, look: Look, generator: torch.Generator) -> Tensor:
    """A detector's score, of a single one that draws the mean of several (the joint ones are asked in each step)."""
    repeats = REPEATS if DETECTORS[detector.name].random and detector.name not in JOINT else 1
    return torch.stack([detector.score(look, generator) for _ in range(repeats)]).mean(0)


def _better(a: Manipulation, b: Manipulation) -> Manipulation:
    """Of each image the result that scores higher; one that came back unchanged does not count."""
    wins = ~b.unchanged & ((b.score > a.score) | a.unchanged)
    tensors = {field.name: (getattr(a, field.name), getattr(b, field.name)) for field in fields(a)}
    effort = tensors.pop("effort")[0]
    chosen = {n: torch.where(wins.view(-1, *[1] * (v.ndim - 1)), w, v) for n, (v, w) in tensors.items()}
    return Manipulation(**chosen, effort=effort)


def _heard(scene: Scene, fitted: Sequence[Alarm]) -> dict[str, Alarm]:
    """The detectors that must stay silent, and those that the joint ones among them listen to, by name."""
    joint = any(d.name in JOINT for d in fitted)
    return {d.name: d for d in (*(members_of(scene) if joint else ()), *fitted)}


def _where(scene: Scene, x: Tensor, fitted: Sequence[Alarm], eps: float) -> Tensor | None:
    """Where to change images if the detector of ties is heard, but for the vote, which no single one decides."""
    heard = _heard(scene, [d for d in fitted if d.name != "vote"])
    return spared(x, heard["ties"], eps) if "ties" in heard else None


def spared(x: Tensor, ties: Alarm, eps: float) -> Tensor:
    """The pixels (B, C, H, W) that may all change without an alarm of the detector of ties.

    Of each image all of them if that stays silent, else those that are not black and a ring of the largest width that
    stays silent. Tried by a random corner of the ball, as ties break whatever the change.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(40, 1, 8, 8)
    >>> ties = detect.alarm("ties", detect.Scene(net, explain.gradient, known=x[:20], clean=x[20:], steps=2))
    >>> detect.spared(x[:2], ties, 0.1).shape
    torch.Size([2, 1, 8, 8])
    """
    lit = (x > 0).any(1, keepdim=True).to(x.dtype)
    found = (lit > 0).expand_as(x)
    everything = torch.ones_like(found)
    calm = ties.scores(x).clamp_min(ties.threshold - SAFE)  # where a change breaks no ties at all, it breaks no rule
    for ring in (*RINGS, None):
        free = everything if ring is None else (F.max_pool2d(lit, 2 * ring + 1, 1, ring) > 0).expand_as(x)
        corner = Ball(x, eps, "linf", (0, 1), free).corner(torch.Generator().manual_seed(0))
        silent = (ties.scores(corner) <= calm).to(x.device)
        found = torch.where(silent.view(-1, 1, 1, 1), free, found)
    return found
