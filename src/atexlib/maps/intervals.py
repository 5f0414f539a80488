"""Confidence intervals: how sure is a mean over images, or over seeds and images?"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from scipy.special import stdtrit
from torch import Tensor

from .. import checks

NORMAL = 1.96  # standard errors on each side of a mean that 95 % of a normal distribution lie within
ROUNDING = 1e-6  # a standard error below this is rounding: the values are equal


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval.

    >>> from atexlib import maps
    >>> print(maps.Interval(0.5, 0.25, 0.75))
    0.500 [0.250, 0.750]
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:  # a worst case, say, is no mean of anything
            return f"{self.mean:.3f}"
        if math.isinf(self.high):
            return f"{self.mean:.3f} [no interval]"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: Tensor, *, level: float = 0.95, resamples: int = 5000, generator: torch.Generator | None = None
) -> Interval:
    """Percentile bootstrap interval of the mean of per-image values (N,).

    For a paired comparison, pass the differences: the same images measured under two conditions.

    >>> import torch
    >>> from atexlib import maps
    >>> found = maps.bootstrap(torch.arange(10.0))
    >>> found.mean, found.low < 4.5 < found.high
    (4.5, True)

    Args:
        values: one number an image, none of them nan.
        level: probability that such an interval covers the true mean, above 0 and at most 0.9999.
        resamples: number of times the images are drawn again, with replacement.
        generator: CPU generator; a new one with seed 0 if None.

    Raises:
        ValueError: fewer than two values, nan among them, a level out of range.

    Source: Efron and Tibshirani 1993.
    """
    checks.number("level", level, open_low=True, high=0.9999)
    checks.count("resamples", resamples)
    if not isinstance(values, Tensor) or values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values is {values!r}; pass a tensor of at least two numbers, shape (N,).")
    values = values.detach().double().cpu()
    if not values.isfinite().all():
        raise ValueError("values holds nan or infinite numbers; drop those images, and say how many there were.")
    generator = checks.generator(generator)
    rows = torch.randint(len(values), (resamples, len(values)), generator=generator)
    return _percentiles(values.mean(), values[rows].mean(1), level)


def wilson(hits: int, count: int) -> Interval:
    """Wilson's 95 % interval of a share: so many hits among so many images; honest where there are few, or no hits.

    >>> from atexlib import maps
    >>> print(maps.wilson(9, 10), maps.wilson(0, 10))
    0.900 [0.596, 0.982] 0.000 [0.000, 0.278]

    Args:
        hits: how many, at most `count`.
        count: of how many, at least one.

    Raises:
        ValueError: numbers that are not whole, or out of range.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001.
    """
    checks.count("count", count)
    checks.count("hits", hits, low=0, high=count)
    return _wilson(hits / count, count, NORMAL)


def two_level(values: Tensor, *, statistic: Callable[[Tensor], Tensor] | None = None, level: float = 0.95) -> Interval:
    """Interval over seeds and images, which are crossed: Student's t on seed means, widened by the choice of images.

    Every net is measured on the same images. So the variance of the mean is `(MS_seeds + MS_images - MS_rest) / (S N)`
    of the two-way analysis of variance (images that differ by less than the rest add nothing), and t has the degrees of
    freedom of Satterthwaite: S - 1 where seeds decide, up to N - 1 where images do. With one seed the interval is over
    images alone, with one value a seed over seeds alone, with one number altogether there is none: its ends are
    infinite.

    A statistic of several means is replaced by its tangent (delta method). Shares, all of whose values are 0 or 1, get
    Wilson's interval at the same variance. Where all values are equal, `3 / N` each way (the rule of three): so many of
    N images may behave unlike those seen.

    >>> import torch
    >>> from atexlib import maps
    >>> found = maps.two_level(torch.arange(30.0).view(3, 10))
    >>> found.mean, found.low < 14.5 < found.high
    (14.5, True)

    Args:
        values: (S, N), one number for each seed and image, or (S, N, K) for K quantities measured on the same images;
            nan where there is none. A seed with nothing but nan, of one quantity or of all, is left out.
        statistic: means (..., K) -> (...), differentiable, needed for K quantities: what shall be estimated from their
            means.
        level: probability that such an interval covers the true value, above 0 and at most 0.9999.

    Raises:
        ValueError: values of another shape, infinite, or nan throughout; a level out of range.

    Source: Searle, Casella and McCulloch 1992, section 4.7 (crossed variances); Brown, Cai and DasGupta 2001 (Wilson).
    """
    checks.number("level", level, open_low=True, high=0.9999)
    if not isinstance(values, Tensor) or values.ndim != (2 if statistic is None else 3) or values.numel() == 0:
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"values has shape {shape}; pass (S, N), or (S, N, K) and a statistic of the K means.")
    values = values.detach().double().cpu()
    share = statistic is None and bool(((values == 0) | (values == 1) | values.isnan()).all())
    if statistic is None:
        values, statistic = values.unsqueeze(2), lambda means: means[..., 0]
    values = values[~values.isnan().all(1).any(1)]
    if values.isinf().any() or len(values) == 0:
        raise ValueError("values holds infinite numbers, or nothing but nan; drop those images, and say how many.")
    means = values.nanmean((0, 1)).requires_grad_()
    with torch.enable_grad():
        estimate = statistic(means)
        slope = torch.autograd.grad(estimate, means)[0]
    # What each number adds to the estimate; one that is missing adds nothing, and the others weigh more.
    known = (~values.isnan()).double().mean((0, 1))
    parts = ((values - means.detach()) * slope / known).nan_to_num(0).sum(2)
    variance, freedom = _variance(parts)
    middle = estimate.item()
    if variance is None:
        return Interval(middle, -math.inf, math.inf)
    variance = 0.0 if variance < ROUNDING**2 else variance
    quantile = float(stdtrit(freedom, (1 + level) / 2))
    count = values.shape[1]
    if share and count > 1:
        return _wilson(
            middle, middle * (1 - middle) / variance if variance else count, quantile if variance else NORMAL
        )
    half = quantile * math.sqrt(variance) if variance else 3 / count
    return Interval(middle, middle - half, middle + half)


def _variance(parts: Tensor) -> tuple[float | None, float]:
    """Variance of the mean of numbers (S, N) that have seeds and images in common, and its degrees of freedom."""
    seeds, images = parts.shape
    by_seed, by_image = parts.mean(1), parts.mean(0)
    if seeds == 1 or images == 1:
        line, count = (by_seed, seeds) if images == 1 else (by_image, images)
        return (None, 0) if count == 1 else (line.var().item() / count, count - 1)
    rest = parts - by_seed[:, None] - by_image + parts.mean()
    of_rest = rest.square().sum() / ((seeds - 1) * (images - 1))
    of_seeds, of_images = images * by_seed.var(), seeds * by_image.var()
    added = torch.where(of_images > of_rest, 1.0, 0.0)  # a variance is not below zero
    total = of_seeds + added * (of_images - of_rest)
    spread = of_seeds**2 / (seeds - 1) + added * (
        of_images**2 / (images - 1) + of_rest**2 / ((seeds - 1) * (images - 1))
    )
    freedom = (total**2 / spread).item() if spread > 0 else 0.0
    return total.item() / (seeds * images), max(seeds - 1.0, freedom)


def _wilson(share: float, count: float, quantile: float) -> Interval:
    """Wilson's interval of a share among so many images."""
    square = quantile**2 / count
    middle = (share + square / 2) / (1 + square)
    half = quantile / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def _percentiles(mean: Tensor, draws: Tensor, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(mean.item(), low, high)
