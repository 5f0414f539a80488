"""Confidence intervals by the bootstrap: how sure is a mean over images, or over seeds and images?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import checks

CHUNK = 200  # resamples drawn at once


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
    _check(level, resamples)
    if not isinstance(values, Tensor) or values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values is {values!r}; pass a tensor of at least two numbers, shape (N,).")
    values = values.detach().double().cpu()
    if not values.isfinite().all():
        raise ValueError("values holds nan or infinite numbers; drop those images, and say how many there were.")
    generator = checks.generator(generator)
    rows = torch.randint(len(values), (resamples, len(values)), generator=generator)
    return _percentiles(values.mean(), values[rows].mean(1), level)


def two_level(
    values: Tensor,
    *,
    statistic: Callable[[Tensor], Tensor] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    generator: torch.Generator | None = None,
) -> Interval:
    """Percentile bootstrap interval over seeds and images: seeds are drawn again, then images within each of them.

    >>> import torch
    >>> from atexlib import maps
    >>> found = maps.two_level(torch.arange(30.0).view(3, 10))
    >>> found.mean, found.low < 14.5 < found.high
    (14.5, True)

    Args:
        values: (S, N), one number for each seed and image, or (S, N, K) for K quantities measured on the same images;
            nan where there is none. A seed with nothing but nan, of one quantity or of all, is left out.
        statistic: means (..., K) -> (...), needed for K quantities: what shall be estimated from their means.
        level: probability that such an interval covers the true value, above 0 and at most 0.9999.
        resamples: number of times that seeds and images are drawn again.
        generator: CPU generator; a new one with seed 0 if None.

    Raises:
        ValueError: values of another shape, infinite, or nan throughout; numbers out of range.

    Source: Davison and Hinkley 1997, section 3.8.
    """
    _check(level, resamples)
    if not isinstance(values, Tensor) or values.ndim != (2 if statistic is None else 3) or values.numel() == 0:
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"values has shape {shape}; pass (S, N), or (S, N, K) and a statistic of the K means.")
    values = values.detach().double().cpu()
    if statistic is None:
        values, statistic = values.unsqueeze(2), lambda means: means[..., 0]
    values = values[~values.isnan().all(1).any(1)]
    if values.isinf().any() or len(values) == 0:
        raise ValueError("values holds infinite numbers, or nothing but nan; drop those images, and say how many.")
    generator = checks.generator(generator)
    count, size = values.shape[:2]
    known, numbers = (~values.isnan()).double().flatten(0, 1), values.nan_to_num(0).flatten(0, 1)
    means = []
    for part in torch.arange(resamples).split(CHUNK):
        seeds = torch.randint(count, (len(part), count, 1), generator=generator)
        rows = torch.randint(size, (len(part), count, size), generator=generator)
        # How often each image was drawn: then a mean is a product of matrices, and nothing is gathered.
        drawn = torch.zeros(len(part), count * size, dtype=torch.float64)
        drawn.scatter_add_(
            1, (seeds * size + rows).flatten(1), torch.ones(len(part), count * size, dtype=torch.float64)
        )
        means.append((drawn @ numbers) / (drawn @ known))
    draws = statistic(torch.cat(means))
    told = draws[~draws.isnan()]
    return _percentiles(statistic(values.nanmean((0, 1))), told if len(told) else draws, level)


def _check(level: float, resamples: int) -> None:
    checks.number("level", level, open_low=True, high=0.9999)
    checks.count("resamples", resamples)


def _percentiles(mean: Tensor, draws: Tensor, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(mean.item(), low, high)
