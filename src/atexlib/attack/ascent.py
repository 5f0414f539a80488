"""Projected ascent on a score of the map: inside a ball, under a constraint on the logits, the best iterate kept."""

import functools
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..explain.registry import Explainer
from ..nets.running import logits_of, watching
from .ball import NORMS, Ball, gaussian_like
from .kinks import Slopes, slopes

MOMENTUM = 0.5  # of the gradient, as in momentum iterative FGSM
PROBES = 8  # random images of which the best becomes a start: where maps jump, luck finds what slopes do not show
FLAT = 8  # rounding steps of the score: a slope that promises no more within the ball is rounding itself
SLACK = 64  # rounding steps of the largest logit by which a constraint must hold: so it also holds in another batch


@checks.trusted()
def ascend(
    model: nn.Module,
    target: Tensor,
    score: Callable[[Tensor], Tensor],
    ball: Ball,
    *,
    explainer: Explainer,
    steps: int,
    step_size: float | None = None,
    starts: int = 1,
    violation: Callable[[Tensor], Tensor] | None = None,
    surrogate: nn.Module | None = None,
    guide_violation: Callable[[Tensor], Tensor] | None = None,
    constraint: Callable[[Tensor], Tensor] | None = None,
    edge: float | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> tuple[Tensor, Tensor, Slopes]:
    """Search the ball for the images whose maps score highest; return them, their scores (B,), and what could be seen.

    Each step moves along the sign (L-infinity) or the direction (L2) of the gradient with momentum; the step size falls
    to zero along a cosine. An image that breaks the constraint climbs back instead: for it the step lowers the
    violation. With an `edge`, score and constraint are looked at together: near the border a step follows what of the
    slope does not raise the violation, its part in the border's tangent; that part also goes into each step back. Where
    the slope is no more than the rounding of the score, as that of a distance is at its start, the step goes in a
    random direction, which is drawn at a start. What is returned is, per image, the best iterate on which the
    constraint holds, or the centre.

    Args:
        model: frozen net that returns logits (B, C).
        target: classes to explain (B,).
        score: maps (B, C, H, W) -> (B,), differentiable.
        ball: where to search; the first start is its centre, each other one the best of some random corners.
        explainer: how maps are made, called as `explainer(model, x, target, create_graph=...)`.
        steps: gradient steps from each start.
        step_size: first step, in the norm's units; eps if None.
        starts: number of starts.
        violation: logits (B, C) -> (B,), below zero where the constraint holds.
        surrogate: net whose gradients guide the steps; scores and constraint are the model's own.
        guide_violation: the violation as a function of the surrogate's logits, whose gradient leads back.
        constraint: images (B, C, H, W) -> (B,), at most zero where they may be what is sought; its gradient leads back.
        edge: how near to zero a violation is near the border, for constraints that bind all the time; None steps
            straight on until the constraint breaks.
        generator: CPU generator of the random starts; a new one with seed 0 if None.
        progress: show a progress bar.
    """
    generator = checks.generator(generator)
    if edge is not None:
        checks.number("edge", edge)
    ahead = slopes(model if surrogate is None else surrogate, ball, target, explainer, generator)
    if not ahead.stepped.any():
        steps = 0
    first = ball.eps if step_size is None else step_size
    best, best_score = ball.center, torch.full_like(ball.center[:, 0, 0, 0], -math.inf)
    look = functools.partial(
        _look, model, surrogate, target, score, violation, guide_violation, constraint, edge, explainer
    )
    bar = tqdm(total=starts * (steps + 1), desc="manipulating", disable=not progress)
    for start in range(starts):
        z = ball.center if start == 0 else _best_corner(look, ball, generator)
        velocity, push = torch.zeros_like(z), torch.zeros_like(z)
        for step in range(steps + 1):
            value, feasible, slope = look(z, with_slope=step < steps)
            better = feasible & (value > best_score)
            best_score = torch.where(better, value, best_score)
            best = torch.where(_column(better), z, best)
            bar.update()
            if slope is None:
                break
            rounding = FLAT * torch.finfo(value.dtype).eps * value.abs().clamp_min(1)
            flat = ball.reach(slope) <= rounding
            if step == 0 and flat.any():  # asked once a start: a question in every step would hold up a GPU
                push = gaussian_like(slope, generator)
            slope = torch.where(_column(flat), push, slope)
            slope = slope / slope.abs().sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
            velocity = torch.where(_column(feasible), MOMENTUM * velocity, 0) + slope
            size = first * (1 + math.cos(math.pi * step / steps)) / 2
            z = ball.project(z + size * ball.steepest(velocity))
    bar.close()
    return best, best_score, ahead


def _look(
    model: nn.Module,
    surrogate: nn.Module | None,
    target: Tensor,
    score: Callable[[Tensor], Tensor],
    violation: Callable[[Tensor], Tensor] | None,
    guide_violation: Callable[[Tensor], Tensor] | None,
    constraint: Callable[[Tensor], Tensor] | None,
    edge: float | None,
    explainer: Explainer,
    z: Tensor,
    *,
    with_slope: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Score (B,), feasibility (B,) and, if asked for, the gradient to follow (B, C, H, W) at z."""
    if surrogate is None and with_slope:
        z = z.detach().requires_grad_()
        maps, logits = _map_and_logits(model, z, target, explainer)
        value, excess, feasible = _judge(score(maps), logits, violation, z, constraint)
        near = None if edge is None else excess > -edge
        return value.detach(), feasible, _slope(value, excess, feasible, near, z)
    maps = explainer(model, z.detach(), target)
    with torch.no_grad():
        value, excess, feasible = _judge(score(maps), logits_of(model, z), violation, z, constraint)
        near = None if edge is None else excess > -edge
    if not with_slope:
        return value, feasible, None
    z = z.detach().requires_grad_()
    maps, logits = _map_and_logits(cast("nn.Module", surrogate), z, target, explainer)
    guide, excess, _ = _judge(score(maps), logits, guide_violation, z, constraint)
    return value, feasible, _slope(guide, excess, feasible, near, z)


def _judge(
    value: Tensor,
    logits: Tensor,
    violation: Callable[[Tensor], Tensor] | None,
    z: Tensor,
    constraint: Callable[[Tensor], Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The score, by how much the constraints are broken, and whether they hold; (B,) each."""
    excess, feasible = torch.zeros_like(value), torch.ones_like(value, dtype=torch.bool)
    if violation is not None:
        excess = violation(logits)
        feasible = holds(excess, logits)
    if constraint is not None:
        other = constraint(z)
        excess = other if violation is None else torch.maximum(excess, other)
        feasible = feasible & (other <= 0)
    return value, excess, feasible


def _slope(value: Tensor, excess: Tensor, feasible: Tensor, near: Tensor | None, z: Tensor) -> Tensor:
    """The gradient to follow (B, C, H, W): up the score where the constraint holds, else down the violation.

    With `near`, which images are near the border, the score's part along the border counts for them and for the others.
    """
    if near is None or not excess.requires_grad:
        climb = torch.where(feasible, value, -excess)
        return torch.autograd.grad(climb.sum(), z)[0].nan_to_num(0, 0, 0)
    up, out = (torch.autograd.grad(part.sum(), z, retain_graph=True)[0].nan_to_num(0, 0, 0) for part in (value, excess))
    tiny = torch.finfo(up.dtype).tiny
    share = (up * out).sum((1, 2, 3)) / out.square().sum((1, 2, 3)).clamp_min(tiny)
    along = up - _column(share.clamp_min(0)) * out
    back = along / along.abs().sum((1, 2, 3), keepdim=True).clamp_min(tiny)
    back = back - out / out.abs().sum((1, 2, 3), keepdim=True).clamp_min(tiny)
    return torch.where(_column(feasible), torch.where(_column(near), along, up), back)


def _best_corner(look: Callable[..., tuple], ball: Ball, generator: torch.Generator) -> Tensor:
    """For each image the random corner with the highest score among those on which the constraint holds."""
    z = ball.corner(generator)
    best = torch.full_like(z[:, 0, 0, 0], -math.inf)
    for probe in range(PROBES):
        corner = z if probe == 0 else ball.corner(generator)
        value, feasible, _ = look(corner, with_slope=False)
        better = feasible & (value > best)
        best = torch.where(better, value, best)
        z = torch.where(_column(better), corner, z)
    return z


def _map_and_logits(model: nn.Module, z: Tensor, target: Tensor, explainer: Explainer) -> tuple[Tensor, Tensor]:
    """The map with its graph, and the logits that the explainer computed at z on its way (or else one more pass)."""
    with watching(model, z) as seen:
        maps = explainer(model, z, target, create_graph=True)
    seen = [logits for logits in seen if logits.requires_grad]
    return maps, seen[0] if seen else logits_of(model, z)


def holds(violation: Tensor, logits: Tensor) -> Tensor:
    """Whether a constraint on logits (B, C), below zero where it holds, does so by more than rounding (B,)."""
    return violation < -SLACK * torch.finfo(logits.dtype).eps * (1 + logits.detach().abs().amax(1))


def check_effort(*, eps: float, norm: str, steps: int, starts: int, step_size: float | None = None) -> None:
    """Raise unless a search's radius and effort are such as they can be."""
    checks.number("eps", eps)
    checks.one_of("norm", norm, NORMS)
    checks.count("steps", steps)
    checks.count("starts", starts)
    if step_size is not None:
        checks.number("step_size", step_size, open_low=True)


def _column(per_image: Tensor) -> Tensor:
    return per_image.view(-1, 1, 1, 1)
