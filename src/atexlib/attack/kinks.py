"""Can an attack see where to step? Second derivatives miss kinks, at which a map changes by jumps."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..explain.registry import Explainer, is_registered
from ..nets.running import logits_of, of_class
from .ball import Ball, gaussian_like

LOOKED_AT = 4  # images whose maps are followed along a line
POINTS = 4  # of the line
NO_GRAPH = "no graph"  # the map was made without create_graph
NO_SLOPE = "no second derivative"  # the map does not change with the image at all
KINKS = "kinks"  # the map changes, but by jumps
ROUNDED = "rounded"  # the logits themselves change by jumps alone, though a gradient is declared
SATURATED = "saturated"  # the map is zero throughout
NUDGE = 1e-3  # of eps, at which logits that are not rounded change
STILL = 1e-6  # of the largest logit, by which those of a saturated net may move


@dataclass(frozen=True, eq=False)
class Slopes:
    """What an attack can follow.

    >>> import torch
    >>> from atexlib import attack, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8, beta=None).eval(), torch.rand(2, 1, 8, 8)
    >>> ball = attack.Ball(x, 0.1, "linf", (0, 1))
    >>> found = attack.slopes(net, ball, net(x).argmax(1), explain.gradient, torch.Generator())
    >>> found.stepped.tolist(), found.why
    ([False, False], 'kinks')
    """

    stepped: Tensor
    """True (B,) where the map changes with the image to first order, so that a step has a direction."""
    why: str
    """What the others lack, `no graph`, `no second derivative`, `kinks`; or what the net is, `rounded`, `saturated`;
    empty where all could step."""
    seen: float
    """The share in [0, 1] of a change of the maps across the ball that the slopes along the way account for."""


def slopes(model: nn.Module, ball: Ball, target: Tensor, explainer: Explainer, generator: torch.Generator) -> Slopes:
    """Look by behaviour, not by the names of layers, whether and how well an attack can see where to step.

    Where a map jumps, at the kink of a ReLU, of `clamp`, of max-pooling, its slope is zero or says nothing of the jump.
    So the change of some maps from a ball's centre to a corner is compared with the integral of their slopes between.

    >>> import torch
    >>> from atexlib import attack, explain, nets
    >>> net, x = nets.with_pooling(nets.ConvNet(side=8, width=4, hidden=8), "average"), torch.rand(2, 1, 8, 8)
    >>> ball = attack.Ball(x, 0.01, "linf", (0, 1))
    >>> attack.slopes(net, ball, net(x).argmax(1), explain.gradient, torch.Generator()).seen > 0.99
    True

    Args:
        model: frozen net that returns logits (B, C).
        ball: where the attack will search.
        target: classes to explain (B,).
        explainer: how maps are made.
        generator: CPU generator of one random direction of the maps.
    """
    x = ball.center.detach().requires_grad_()
    maps = explainer(model, x, target, create_graph=True)
    slope = None
    if maps.requires_grad:
        slope = torch.autograd.grad((maps * gaussian_like(maps, generator)).sum(), x, allow_unused=True)[0]
    stepped = torch.zeros_like(target, dtype=torch.bool) if slope is None else slope.flatten(1).any(1)
    few = min(LOOKED_AT, len(x))
    corner = Ball(ball.center[:few], ball.eps, ball.norm, ball.bounds).corner(torch.Generator().manual_seed(0))
    change = explainer(model, corner, target[:few]).detach() - maps[:few].detach()
    length = change.square().sum((1, 2, 3))
    if stepped.any():
        along = _integral(model, x[:few].detach(), corner, target[:few], change, explainer)
        seen = torch.where(length > 0, along / length, 1.0).clamp(0, 1).mean().item()
    else:
        seen = 0.0
    return Slopes(stepped, _why(model, ball, target, explainer, maps, stepped), seen)


def _why(model: nn.Module, ball: Ball, target: Tensor, explainer: Explainer, maps: Tensor, stepped: Tensor) -> str:
    """What the images lack that cannot step, of which the first few are looked at; empty where all can."""
    if stepped.all():
        return ""
    rows = stepped.int().argsort(stable=True)[:LOOKED_AT]  # those that are stuck first; `nonzero` would ask a GPU
    corner = Ball(ball.center[rows], ball.eps, ball.norm, ball.bounds).corner(torch.Generator().manual_seed(0))
    moved = (explainer(model, corner, target[rows]) != maps[rows].detach()).flatten(1).any(1)
    center, classes = ball.center[rows], target[rows]
    if not (moved & ~stepped[rows]).any():
        known = maps[rows].detach().any() or _has_slope(model, center, classes)
        return NO_SLOPE if known else _flat(model, center, corner)
    with torch.no_grad():
        still = (logits_of(model, center + NUDGE * (corner - center)) == logits_of(model, center)).all(1)
    if still.double().mean() > 0.5:
        return ROUNDED
    keeps = maps.requires_grad or is_registered(explainer)  # those keep it, but a map of pieces depends on nothing
    return KINKS if keeps else NO_GRAPH


def _has_slope(model: nn.Module, x: Tensor, target: Tensor) -> bool:
    """Whether the explained logit has a gradient at any of these images."""
    z = x.detach().requires_grad_()
    score = of_class(logits_of(model, z), target).sum()
    slope = torch.autograd.grad(score, z, allow_unused=True)[0] if score.requires_grad else None
    return slope is not None and bool(slope.any())


@torch.no_grad()
def _flat(model: nn.Module, center: Tensor, corner: Tensor) -> str:
    """Why a net has no slope: it jumps between flat steps, or does not move at all."""
    moved = (logits_of(model, corner) - logits_of(model, center)).abs().max()
    return ROUNDED if moved > STILL * (1 + logits_of(model, center).abs().max()) else SATURATED


def no_step(why: str) -> str:
    """What to tell a caller none of whose images could step, and what to do about it."""
    return f"The attack took no step: {reason(why)}"


def reason(why: str) -> str:
    """What a `Slopes.why` means, in sentences, and what to do about it.

    >>> from atexlib.attack import kinks
    >>> kinks.reason("no second derivative")
    'the map does not change with the input at all.'
    """
    told = {
        KINKS: "the map changes by jumps alone, and its second-order gradient is zero, as in every ReLU net, or where "
        "an explainer cuts the graph. Pass surrogate=nets.with_softplus(model, beta=10), or attack that softplus copy "
        "itself.",
        NO_GRAPH: "the map has no graph; let the explainer heed create_graph=True.",
        NO_SLOPE: "the map does not change with the input at all.",
        ROUNDED: "the net rounds its images, or what it computes of them, so its logits change by jumps alone and the "
        "gradient that it declares is not theirs. No softplus copy mends that; use attack.random_search, which asks "
        "for no slope.",
        SATURATED: "the map is zero throughout: the net is saturated here, so sure that no pixel moves its logits. "
        "Explain logits from before the unit that saturates.",
    }
    return " ".join(told.get(each, "") for each in why.split(", "))


def _integral(
    model: nn.Module, x: Tensor, corner: Tensor, target: Tensor, change: Tensor, explainer: Explainer
) -> Tensor:
    """The maps' change from x to the corner as their slopes tell it, along the true change: (B,)."""
    total = torch.zeros_like(x[:, 0, 0, 0])
    for place, weight in zip(*np.polynomial.legendre.leggauss(POINTS), strict=True):  # over [-1, 1]
        z = (x + (1 + place) / 2 * (corner - x)).requires_grad_()
        maps = explainer(model, z, target, create_graph=True)
        slope = torch.autograd.grad((maps * change).sum(), z, allow_unused=True)[0]
        if slope is not None:
            total = total + weight / 2 * (slope * (corner - x)).sum((1, 2, 3))
    return total
