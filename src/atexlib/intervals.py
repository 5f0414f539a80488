"""Confidence intervals by the bootstrap: how sure is a mean over images?"""

from typing import NamedTuple

import torch
from torch import Tensor

from . import checks


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval."""

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
    means = values[rows].mean(1)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(values.mean().item(), low, high)
