"""Attacks that follow no slope of the image at hand: random search, and one shift for all images."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..explain.layers import resolved
from ..explain.registry import Explainer, find
from ..nets.running import check_steady, frozen, logits_of, plain
from .ascent import MOMENTUM, SLACK
from .ball import Ball
from .inputs import prediction_violation
from .objectives import Objective, check_objective

LARGEST = 0.5  # side of the first windows, as a share of the image's side
LEAD = 0.05  # of the largest logit that a shift for all images leaves to each label while it is sought


@checks.derivatives()
def random_search(
    model: nn.Module,
    x: Tensor,
    objective: Objective,
    *,
    eps: float,
    explainer: str | Explainer = "gradient",
    queries: int = 300,
    bounds: tuple[float, float] = (0, 1),
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """Search each image's L-infinity ball by trial alone, for nets whose slopes mislead; images (B, C, H, W).

    Each trial moves one random window of an image, all of it, to a side of the ball drawn for each channel. It stays
    where the map then scores higher and the label is kept. The windows shrink as the search goes on. An image for which
    nothing better is found comes back as it was.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> z = attack.random_search(net, x, attack.Distance(), eps=0.1, queries=5)
    >>> bool(((z - x).abs() <= 0.1).all())
    True

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), float32 or float64, inside `bounds`.
        objective: what to maximise, as in `manipulate`.
        eps: largest change of a pixel.
        explainer: its name, or a function with the same arguments.
        queries: trials for each image.
        bounds: lowest and highest pixel value.
        generator: CPU generator of the windows; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: x or a number out of range, an objective that does not fit the maps.

    Source: after Andriushchenko et al. 2020 (Square attack), with a score of the map in place of a loss.
    """
    checks.count("queries", queries)
    generator = checks.generator(generator)
    model, explainer = _checked(model, x, objective, explainer, eps=eps, bounds=bounds)
    ball = Ball(x.detach(), eps, "linf", bounds)
    with frozen(model), torch.no_grad():
        look = _judged(model, ball, objective, explainer)
        best = ball.center
        best_score, _ = look(best)
        for trial in tqdm(range(queries), desc="searching", disable=not progress):
            side = max(1, round(LARGEST * min(x.shape[2:]) * (1 - trial / queries) ** 2))
            z = ball.project(_moved(best, ball, side, generator))
            score, kept = look(z)
            better = (kept & (score > best_score)).view(-1, 1, 1, 1)
            best_score = torch.where(better.flatten(), score, best_score)
            best = torch.where(better, z, best)
    return best


def _checked(
    model: nn.Module,
    x: Tensor,
    objective: Objective,
    explainer: str | Explainer,
    *,
    eps: float,
    bounds: tuple[float, float],
) -> tuple[nn.Module, Explainer]:
    """The net itself and its explainer, once all that both searches are given has been looked at."""
    checks.interval("bounds", bounds)
    checks.batch("x", x, bounds=bounds)
    checks.fine("x", x)
    checks.number("eps", eps)
    check_objective(objective)
    explainer = find(explainer)
    model = plain(model)
    check_steady(model, x)
    return model, resolved(explainer, model, x)


def _judged(
    model: nn.Module, ball: Ball, objective: Objective, explainer: Explainer
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function: images -> scores of their maps, and whether their labels are kept."""
    clean = logits_of(model, ball.center)
    target = clean.argmax(1)
    violation = prediction_violation(clean, target)
    score = objective(explainer(model, ball.center, target))

    def look(z: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits_of(model, z)
        slack = SLACK * torch.finfo(logits.dtype).eps * (1 + logits.abs().amax(1))
        return score(explainer(model, z, target)), violation(logits) < -slack

    return look


def _moved(z: Tensor, ball: Ball, side: int, generator: torch.Generator) -> Tensor:
    """Images with one window each at a side of the ball, at a random place, of random sign for each channel."""
    count, channels, height, width = z.shape
    inside = []
    for length in (height, width):
        first = torch.randint(length - side + 1, (count, 1), generator=generator)
        place = torch.arange(length)
        inside.append((place >= first) & (place < first + side))
    window = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(z.device)
    sign = 2.0 * torch.randint(2, (count, channels, 1, 1), generator=generator) - 1
    return torch.where(window, ball.center + ball.eps * sign.to(z), z)


@checks.derivatives()
def universal(
    model: nn.Module,
    x: Tensor,
    objective: Objective,
    *,
    eps: float,
    explainer: str | Explainer = "gradient",
    surrogate: nn.Module | None = None,
    steps: int = 60,
    bounds: tuple[float, float] = (0, 1),
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Tensor:
    """One shift (1, C, H, W) that moves the maps of all images at once, and of others: add it and clip to the bounds.

    The mean score climbs; images whose label is lost, or nearly, pull the shift back instead. What it does to the label
    of another image is not held: look before you count.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> shift = attack.universal(net, x, attack.Distance(), eps=0.1, steps=3)
    >>> shift.shape, bool((shift.abs() <= 0.1).all())
    (torch.Size([1, 1, 8, 8]), True)

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W) to fit the shift on, float32 or float64, inside `bounds`.
        objective: what to maximise, as in `manipulate`.
        eps: largest change of a pixel.
        explainer: its name, or a function with the same arguments.
        surrogate: net whose second derivatives guide the search; the model's own if None.
        steps: gradient steps.
        bounds: lowest and highest pixel value.
        generator: CPU generator of the first shift; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: x or a number out of range, an objective that does not fit the maps.

    Source: after Moosavi-Dezfooli et al. 2017 (universal perturbations), for maps as Ehsani Oskouie and Farnia 2023.
    """
    checks.count("steps", steps)
    generator = checks.generator(generator)
    surrogate = None if surrogate is None else plain(surrogate, name="surrogate")
    model, explainer = _checked(model, x, objective, explainer, eps=eps, bounds=bounds)
    guide = model if surrogate is None else surrogate
    ball = Ball(torch.zeros_like(x[:1]), eps, "linf", (-eps, eps))
    x = x.detach()
    with frozen(model), frozen(guide):
        with torch.no_grad():
            clean = logits_of(guide, x)
        target = clean.argmax(1)
        violation = prediction_violation(clean, target)
        score = objective(explainer(guide, x, target))
        shift = ball.corner(generator)
        velocity = torch.zeros_like(shift)
        for step in tqdm(range(steps), desc="one shift for all", disable=not progress):
            shift = shift.detach().requires_grad_()
            z = (x + shift).clamp(*bounds)
            logits = logits_of(guide, z)
            excess = violation(logits)
            held = excess < -LEAD * logits.detach().abs().amax(1)
            climb = torch.where(held, score(explainer(guide, z, target, create_graph=True)), -excess)
            slope = torch.autograd.grad(climb.mean(), shift)[0].nan_to_num(0, 0, 0)
            slope = slope / slope.abs().sum().clamp_min(torch.finfo(slope.dtype).tiny)
            velocity = MOMENTUM * velocity + slope
            size = eps * (1 + math.cos(math.pi * step / steps)) / 2
            shift = ball.project(shift.detach() + size * ball.steepest(velocity))
    return shift.detach()
