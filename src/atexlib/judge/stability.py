"""How far can an explanation move? On average over a neighbourhood, and at worst up to a positive scale."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..attack.ascent import ascend, check_effort
from ..attack.ball import Ball
from ..attack.kinks import no_step
from ..explain.layers import resolved
from ..explain.registry import Explainer, find
from ..nets.running import check_steady, frozen, logits_of, plain


@dataclass(frozen=True, eq=False)
class Stability:
    """How far the map moves, an entry an image; smaller is more stable.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.average_case(net, x, radius=0.1, samples=2).relative.shape
    torch.Size([2])
    """

    value: Tensor
    """In the units of the map (B,); it grows with the scale of the logits."""
    relative: Tensor
    """Divided by the L2 norm of the clean map (B,); nan or inf where that map is zero."""


@checks.derivatives()
def average_case(
    model: nn.Module,
    x: Tensor,
    *,
    radius: float,
    samples: int = 32,
    explainer: str | Explainer = "gradient",
    bounds: tuple[float, float] = (0, 1),
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Stability:
    """Mean L2 distance between the maps of x and of its random neighbours, E ||phi(f_c, x') - phi(f_c, x)||_2.

    The neighbours are uniform in the cube of half side `radius` around x, clipped to `bounds`; c is the class predicted
    at x.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> far, near = (judge.average_case(net, x, radius=r, samples=4).value for r in (0.2, 0.02))
    >>> bool((near < far).all())
    True

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W).
        radius: half side of the cube, in the units of x.
        samples: neighbours of each image.
        explainer: how maps are made.
        bounds: lowest and highest pixel value.
        generator: CPU generator of the neighbours; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: x, radius or samples out of range.

    Source: Tang et al. 2022, section 3; the average sensitivity of Bhatt et al. 2020.
    """
    checks.number("radius", radius)
    checks.count("samples", samples)
    model, explainer = plain(model), find(explainer)
    ball = _ball(x, radius, "linf", bounds)
    generator = checks.generator(generator)
    check_steady(model, x)
    explainer = resolved(explainer, model, x)
    with frozen(model):
        target = _predicted(model, ball.center)
        clean = explainer(model, ball.center, target)
        total = torch.zeros_like(clean[:, 0, 0, 0])
        for _ in tqdm(range(samples), desc="average case", disable=not progress):
            shift = radius * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1)
            total += _norm(explainer(model, ball.project(ball.center + shift.to(x.device)), target) - clean)
    return _stability(total / samples, clean)


@checks.derivatives()
def max_min(model: nn.Module, x: Tensor, *, eps: float, **options: Any) -> Stability:
    """Worst case up to scale, the scale chosen after the shift: max over Dx of min over gamma > 0.

    The largest ||phi(f, x + Dx) - gamma phi(f, x)||_2 when gamma may answer to each Dx. The inner minimum has a closed
    form: ||phi'|| sin(angle), or ||phi'|| where the angle is 90 degrees or more. It is 0 for f(x) = sigma(<w, x>), the
    paper's own example of a stable model. A search finds a lower bound of the true value.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.max_min(net, x, eps=0.1, steps=3).value.shape
    torch.Size([2])

    Args:
        model: net that returns logits (B, C); the explained class is the one predicted at x.
        x: images (B, C, H, W).
        eps: radius of the ball of shifts.
        options: `norm`, `explainer`, `surrogate`, `steps`, `starts`, `bounds`, `generator`, `progress`, as for
            `min_max`.

    Source: Definition 1 (Eq. 3) of Tang et al. 2022 with the two searches swapped.
    """
    return _worst_case(model, x, eps=eps, rounds=0, **options)


@checks.derivatives()
def min_max(model: nn.Module, x: Tensor, *, eps: float, rounds: int = 4, **options: Any) -> Stability:
    """Worst case up to scale as printed: min over gamma > 0 of max over Dx, one gamma for all shifts.

    Each round attacks at the best gamma so far and adds what it found to a pool of maps; gamma is then the exact
    minimiser for the pool. It is not 0 for f(x) = sigma(<w, x>), as the length of the gradient changes with x.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.min_max(net, x, eps=0.1, steps=3, rounds=2).value.shape
    torch.Size([2])

    Args:
        model: net that returns logits (B, C); the explained class is the one predicted at x.
        x: images (B, C, H, W).
        eps: radius of the ball of shifts.
        rounds: attacks, each at a new gamma.
        options: `norm` (`linf` or `l2`), `explainer`, `surrogate` (a net whose gradients guide the search, such as the
            softplus copy of a ReLU net), `steps` (100), `starts` (1), `bounds`, `generator`, `progress`.

    Source: Definition 1 (Eq. 3) of Tang et al. 2022, as printed.
    """
    checks.count("rounds", rounds)
    return _worst_case(model, x, eps=eps, rounds=rounds, **options)


def _worst_case(
    model: nn.Module,
    x: Tensor,
    *,
    eps: float,
    rounds: int,
    norm: str = "linf",
    explainer: str | Explainer = "gradient",
    surrogate: nn.Module | None = None,
    steps: int = 100,
    starts: int = 1,
    bounds: tuple[float, float] = (0, 1),
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Stability:
    check_effort(eps=eps, norm=norm, steps=steps, starts=starts)
    model, explainer = plain(model), find(explainer)
    surrogate = None if surrogate is None else plain(surrogate, name="surrogate")
    ball = _ball(x, eps, norm, bounds)
    generator = checks.generator(generator)
    check_steady(model, x)
    explainer = resolved(explainer, model, x)
    with frozen(model), frozen(surrogate) if surrogate is not None else nullcontext():
        target = _predicted(model, ball.center)
        clean = explainer(model, ball.center, target)

        def worst(gamma: Tensor | None) -> Tensor:
            """The map that is farthest from gamma times the clean one (from all multiples of it if None)."""
            found, _, ahead = ascend(
                model,
                target,
                lambda maps: _residual(maps, clean, gamma),
                ball,
                explainer=explainer,
                steps=steps,
                starts=starts,
                surrogate=surrogate,
                generator=generator,
                progress=progress,
            )
            if not ahead.stepped.any():
                warnings.warn(no_step(ahead.why), stacklevel=5)  # `max_min` is wrapped
            return explainer(model, found, target)

        if rounds == 0:
            return _stability(_residual(worst(None), clean, None), clean)
        pool = [clean, worst(None)]
        for _ in range(rounds):
            gamma, _ = best_gamma(torch.stack(pool), clean)
            pool.append(worst(gamma))
    return _stability(best_gamma(torch.stack(pool), clean)[1], clean)


def best_gamma(pool: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The gamma >= 0 (B,) whose largest distance to a pool of maps (R, B, C, H, W) is smallest, and that distance (B,).

    The largest distance is a convex function of gamma whose minimiser lies between the pool's own projections on the
    clean map: a ternary search finds it.
    """
    projections = torch.stack([_projection(maps, clean) for maps in pool])
    low, high = projections.amin(0), projections.amax(0)

    def largest(gamma: Tensor) -> Tensor:
        return torch.stack([_residual(maps, clean, gamma) for maps in pool]).amax(0)

    for _ in range(60):  # each cuts the interval by a third: 60 leave 3e-11 of it
        left, right = low + (high - low) / 3, high - (high - low) / 3
        keep_left = largest(left) < largest(right)
        low, high = torch.where(keep_left, low, left), torch.where(keep_left, right, high)
    gamma = (low + high) / 2
    return gamma, largest(gamma)


def _residual(maps: Tensor, clean: Tensor, gamma: Tensor | None) -> Tensor:
    """||phi' - gamma phi||_2 for each image; the smallest over gamma >= 0 if None."""
    gamma = _projection(maps, clean) if gamma is None else gamma
    return _norm(maps - gamma.view(-1, 1, 1, 1) * clean)


def _projection(maps: Tensor, clean: Tensor) -> Tensor:
    """<phi', phi> / ||phi||_2^2, at least 0."""
    square = clean.square().sum((1, 2, 3)).clamp_min(torch.finfo(clean.dtype).tiny)
    return ((maps * clean).sum((1, 2, 3)) / square).clamp_min(0)


def _norm(maps: Tensor) -> Tensor:
    return torch.linalg.vector_norm(maps, dim=(1, 2, 3))


def _stability(value: Tensor, clean: Tensor) -> Stability:
    return Stability(value, value / _norm(clean))


def _ball(x: Tensor, eps: float, norm: str, bounds: tuple[float, float]) -> Ball:
    checks.interval("bounds", bounds)
    checks.batch("x", x, bounds=bounds)
    checks.fine("x", x)
    return Ball(x.detach(), eps, norm, bounds)


@torch.no_grad()
def _predicted(model: nn.Module, x: Tensor) -> Tensor:
    return logits_of(model, x).argmax(1)
