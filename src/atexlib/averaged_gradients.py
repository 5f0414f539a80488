"""Explainers that average gradients over many copies of an image: SmoothGrad and integrated gradients."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import checks
from .gradients import Target, _variable, gradient
from .models import logits_of


def smoothgrad(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    samples: int = 25,
    sigma: float = 0.1,
    generator: torch.Generator | None = None,
    chunk: int = 1024,
) -> Tensor:
    """SmoothGrad: the mean gradient over `samples` copies of x with Gaussian noise of standard deviation `sigma`.

    All images of a batch get the same draws of noise, so that a map does not depend on its neighbours in the batch. The
    noisy copies are not clipped.

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the class predicted without noise if None.
        create_graph: keep the graph, so that the map can be differentiated.
        samples: number of noisy copies.
        sigma: noise in the units of x.
        generator: CPU generator of the noise; a new one with seed 0 if None, so that the map is a function of x.
        chunk: most images that are in the net at once (at least one copy of the batch). With `create_graph`, what lies
            beyond the first chunk is computed a second time in the backward pass instead of being kept in memory.

    Returns:
        Raw signed map, shape of x.

    Source: Smilkov et al. 2017.
    """
    checks.count("samples", samples)
    checks.number("sigma", sigma)
    checks.batch("x", x)
    generator = checks.generator(generator)
    noise = torch.randn((samples, *x.shape[1:]), generator=generator, dtype=x.dtype).to(x.device) * sigma
    weights = torch.full((samples,), 1 / samples, dtype=x.dtype, device=x.device)

    def noisy(x: Tensor, rows: slice) -> Tensor:
        return x + noise[rows].unsqueeze(1)

    return _mean_gradient(model, x, target, noisy, weights, create_graph=create_graph, chunk=chunk)


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    baseline: float | Tensor = 0.0,
    steps: int = 32,
    chunk: int = 1024,
) -> Tensor:
    """Integrated gradients: (x - x0) times the mean gradient on the straight line from the baseline x0 to x.

    The integral is a Gauss-Legendre sum. The entries sum to f_c(x) - f_c(x0) as far as it is exact (completeness).

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the class predicted at x if None.
        create_graph: keep the graph, so that the map can be differentiated.
        baseline: x0, a number or a tensor that broadcasts to x.
        steps: points on the line.
        chunk: most images that are in the net at once; see `smoothgrad`.

    Returns:
        Raw signed map, shape of x, units of logit.

    Source: Sundararajan et al. 2017.
    """
    checks.count("steps", steps)
    checks.batch("x", x)
    x = _variable(x, create_graph)
    x0 = _baseline(baseline, x)
    points, weights = (
        torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in np.polynomial.legendre.leggauss(steps)
    )
    alphas = (points + 1) / 2  # from [-1, 1] to [0, 1]; the weights, which sum to 2, are halved likewise

    def between(x: Tensor, rows: slice) -> Tensor:
        return x0 + alphas[rows].view(-1, 1, 1, 1, 1) * (x - x0)

    mean = _mean_gradient(model, x, target, between, weights / 2, create_graph=create_graph, chunk=chunk)
    product = (x - x0) * mean
    return product if create_graph else product.detach()


def _mean_gradient(
    model: nn.Module,
    x: Tensor,
    target: Target,
    copies: Callable[[Tensor, slice], Tensor],
    weights: Tensor,
    *,
    create_graph: bool,
    chunk: int,
) -> Tensor:
    """Weighted sum of the gradients at the copies of x; `copies(x, rows)` has the shape (rows, B, C, H, W)."""
    checks.count("chunk", chunk)
    x = _variable(x, create_graph)
    if isinstance(target, Tensor):
        checks.labels("target", target, size=len(x))
    elif target is None:
        with torch.no_grad():
            target = logits_of(model, x).argmax(1)
    repeats = max(1, chunk // len(x))

    def part(x: Tensor, rows: slice) -> Tensor:
        batch = copies(x, rows)
        count = len(batch)
        classes = target.repeat(count) if isinstance(target, Tensor) else target
        maps = gradient(model, batch.flatten(0, 1), classes, create_graph=create_graph)
        return torch.tensordot(weights[rows], maps.unflatten(0, (count, -1)), dims=1)

    total = torch.zeros_like(x)
    for start in range(0, len(weights), repeats):
        rows = slice(start, start + repeats)
        if create_graph and start > 0:
            total = total + checkpoint(part, x, rows, use_reentrant=False)
        else:
            total = total + part(x, rows)
    return total


def _baseline(baseline: float | Tensor, x: Tensor) -> Tensor:
    try:
        x0 = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
        if x0.isfinite().all() and torch.broadcast_shapes(x0.shape, x.shape) == x.shape:
            return x0
    except (TypeError, ValueError, RuntimeError):
        pass  # what torch cannot turn into a tensor, or cannot broadcast, does not fit either
    raise ValueError(f"baseline is {baseline!r}; pass a finite number, or images that fit {tuple(x.shape)}.")
