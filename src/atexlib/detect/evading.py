"""The attacker who knows the detectors: the map is moved, the class kept, and no alarm raised."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks
from ..attack.ascent import check_effort, holds
from ..attack.ball import Ball
from ..attack.inputs import Manipulation, manipulate, prediction_violation
from ..attack.objectives import Objective, check_objective
from ..nets.running import frozen, logits_of
from .alarms import Alarm, alarm
from .registry import DETECTORS
from .response import LEVELS
from .scene import Look, Scene
from .vote import JOINT, members_of

MARGIN = 0.4  # below the threshold of a detector that draws, in its spread: the next draw shall not flag either
REPEATS = 3  # draws of a single detector in a step, of which the mean counts: one alone may be silent by luck
RINGS = (0, 1, 2, 3, 4, 6)  # pixels around what is not dark that may change, too, while enough windows stay tied
SHAKES = (0.5, 0.2)  # of eps: noise on what was found before, from which each round begins
LIGHT, LEAST, MOST = 0.3, 0.05, 50.0  # weight of the penalty at first, and its limits
HEAVIER, LIGHTER = 1.1, 1 / 1.05  # what the weight is multiplied by after a step near or past a threshold, and else
NEAR, EARLY = 0.1, 0.3  # below the threshold, in its spread: from where on the weight grows, and from where it counts
LABEL, AHEAD = 2.0, 0.05  # weight of the label's penalty, and the lead in logits below which it counts
MOMENTUM = 0.75
STEP, LAST = 0.2, 0.01  # of eps: the first step, and what the last one keeps
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
    generator = checks.generator(generator)
    checks.batch("x", x, bounds=(0, 1))
    check_effort(eps=eps, norm="linf", steps=steps, starts=starts)
    check_objective(objective)
    if batch_size is not None:
        checks.count("batch_size", batch_size)
    fitted, above = _alarms(scene, detectors, repeats=REPEATS, generator=generator)
    search: dict[str, Any] = {
        "eps": eps,
        "explainer": scene.explainer,
        "steps": steps,
        "starts": starts,
        "constraint": lambda z: above(Look(scene, z)),
        "where": _where(scene, x, fitted, eps),
        "batch_size": batch_size,
        "generator": generator,
    }
    found = manipulate(scene.model, x, objective, **search)
    if "quantised" in _heard(scene, fitted):
        found = _better(found, manipulate(scene.model, x, objective, levels=LEVELS, **search))
    return found


@checks.derivatives()
def press_on(
    scene: Scene,
    x: Tensor,
    objective: Objective,
    detectors: Sequence[str],
    *,
    start: Tensor,
    eps: float,
    steps: int = 60,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Search on from what was found, by a penalty: the images (B, C, H, W) that score highest and raise no alarm.

    Where `evade` walks along a threshold, this search crosses it. It climbs the objective minus what lies above the
    threshold, with a weight for each image that grows while the image is near or past it and else falls. Two
    rounds begin near the best so far, the first of them further away. An image for which nothing silent scores
    higher than it does comes back unchanged.

    >>> import torch
    >>> from atexlib import attack, detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(40, 1, 8, 8)
    >>> scene = detect.Scene(net, explain.gradient, known=x[:20], clean=x[20:], steps=2)
    >>> how = {"objective": attack.RankDistance(), "detectors": ["blur"], "eps": 0.1, "steps": 3}
    >>> found = detect.press_on(scene, x[:2], start=detect.evade(scene, x[:2], **how).x, **how)
    >>> bool(((found - x[:2]).abs() <= 0.1).all())
    True

    Args:
        scene: what the detectors know; the attacker knows it, too.
        x: clean images (B, C, H, W) in [0, 1].
        objective: what to maximise, as in `manipulate`; it need not be that of the search before.
        detectors: names of those to escape, all at once.
        start: where to begin, of the shape of x: what `evade` found, or x.
        eps: largest change of a pixel.
        steps: gradient steps of a round.
        generator: CPU generator of the noise between rounds and of the detectors' draws; seed 0 if None.

    Raises:
        ValueError: x, start or a number out of range, an unknown detector, none at all.
    """
    generator = checks.generator(generator)
    checks.batch("x", x, bounds=(0, 1))
    checks.batch("start", start, bounds=(0, 1))
    if start.shape != x.shape:
        raise ValueError(f"start has the shape {tuple(start.shape)}; pass images of the shape of x, {tuple(x.shape)}.")
    check_effort(eps=eps, norm="linf", steps=steps, starts=1)
    check_objective(objective)
    fitted, above = _alarms(scene, detectors, repeats=1, generator=generator)
    ball = Ball(x.detach(), eps, "linf", (0, 1), _where(scene, x, fitted, eps))
    with frozen(scene.model):
        with torch.no_grad():
            clean_logits = logits_of(scene.model, x)
        target = clean_logits.argmax(1)
        clean_map = scene.explainer(scene.model, x, target).detach()
        score = objective(clean_map)
        violation = prediction_violation(clean_logits, target)

        def judged(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            """Score, height above the thresholds, lead of another class, and whether the image counts; (B,) each."""
            look = Look(scene, z)
            height, shift = above(look), violation(look.logits)
            # The map is of the class predicted here: of another one than the target only where z does not count.
            return score(look.map), height, shift, holds(shift, look.logits) & (height <= 0)

        near = ball.project(start.detach())
        with torch.no_grad():
            best_score = score(clean_map)
            value, _, _, counts = judged(near)
        moved = counts & (value > best_score)
        best_score = torch.where(moved, value, best_score)
        best = torch.where(moved.view(-1, 1, 1, 1), near, ball.center)
        for share in SHAKES:
            noise = 2 * torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device) - 1
            z = ball.project(near + share * eps * noise)
            weight, velocity = torch.full_like(value, LIGHT), torch.zeros_like(z)
            for step in range(steps):
                z = z.detach().requires_grad_()
                value, height, shift, counts = judged(z)
                better = counts & (value > best_score)
                moved = moved | better
                best_score = torch.where(better, value, best_score).detach()
                best = torch.where(better.view(-1, 1, 1, 1), z, best).detach()
                goal = value - weight * (height + EARLY).relu() - LABEL * (shift + AHEAD).relu()
                slope = torch.autograd.grad(goal.sum(), z)[0].nan_to_num(0, 0, 0)
                weight = (weight * torch.where(height.detach() > -NEAR, HEAVIER, LIGHTER)).clamp(LEAST, MOST)
                tiny = torch.finfo(slope.dtype).tiny
                velocity = MOMENTUM * velocity + slope / slope.abs().mean((1, 2, 3), keepdim=True).clamp_min(tiny)
                size = eps * (STEP * (1 + math.cos(math.pi * step / steps)) / 2 + LAST)
                z = ball.project(z + size * ball.steepest(velocity))
            near = torch.where(moved.view(-1, 1, 1, 1), best, near)
    return best


def _alarms(
    scene: Scene, detectors: Sequence[str], *, repeats: int, generator: torch.Generator
) -> tuple[list[Alarm], Callable[[Look], Tensor]]:
    """The detectors, and by how much, in its spread, the loudest of them is above where it shall stay (B,).

    Of a single one that draws, the mean of so many draws counts (the joint ones are asked once in each step).
    """
    if isinstance(detectors, str) or not detectors:
        raise ValueError(f"detectors is {detectors!r}; pass a list of names, such as ['noise'].")
    fitted = [alarm(name, scene) for name in detectors]

    def height(detector: Alarm, look: Look) -> Tensor:
        drawn = DETECTORS[detector.name].random
        count = repeats if drawn and detector.name not in JOINT else 1
        score = torch.stack([detector.score(look, generator) for _ in range(count)]).mean(0)
        return (score - detector.threshold) / detector.spread + (MARGIN if drawn else 0)

    return fitted, lambda look: torch.stack([height(detector, look) for detector in fitted]).amax(0)


def _better(a: Manipulation, b: Manipulation) -> Manipulation:
    """Of each image the result that scores higher; one that came back unchanged does not count."""
    wins = ~b.unchanged & ((b.score > a.score) | a.unchanged)
    tensors = {field.name: (getattr(a, field.name), getattr(b, field.name)) for field in fields(a)}
    first, second = tensors.pop("effort")
    effort = replace(first, starts=first.starts + second.starts)
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
