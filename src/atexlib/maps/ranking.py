"""How well a number tells two groups apart: the area under the ROC curve, a threshold for false alarms, the curve."""

import math

import torch
from torch import Tensor

from .. import checks
from .intervals import NORMAL, Interval


def auc(positive: Tensor, negative: Tensor) -> Interval:
    """The chance that a positive has the larger number of the two, a tie counting half; with its 95 % interval.

    DeLong's variance, put into Wilson's interval of a share, so that groups that are quite apart have an interval too:
    there the smaller group counts.

    >>> import torch
    >>> from atexlib import maps
    >>> print(maps.auc(torch.tensor([2.0, 3.0, 4.0]), torch.tensor([0.0, 1.0, 3.0])))
    0.833 [0.350, 0.979]

    Args:
        positive: the numbers (M,) of those to be found, at least two.
        negative: the numbers (N,) of the others, at least two.

    Raises:
        ValueError: fewer than two numbers, or nan among them.

    Source: DeLong, DeLong and Clarke-Pearson 1988; Wilson 1927.
    """
    positive, negative = _numbers("positive", positive), _numbers("negative", negative)
    above = (positive[:, None] > negative).double() + (positive[:, None] == negative).double() / 2
    share = above.mean().item()
    variance = (above.mean(1).var() / len(positive) + above.mean(0).var() / len(negative)).item()
    count = share * (1 - share) / variance if variance > 0 else min(len(positive), len(negative))
    square = NORMAL**2 / count
    middle = (share + square / 2) / (1 + square)
    half = NORMAL / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def threshold(negative: Tensor, *, rate: float = 0.05) -> float:
    """The lowest of the numbers (N,) that at most this share of them exceeds: an alarm is what lies above it.

    >>> import torch
    >>> from atexlib import maps
    >>> maps.threshold(torch.arange(100.0)), maps.threshold(torch.arange(4.0))
    (94.0, 3.0)

    Raises:
        ValueError: fewer than two numbers, or nan among them; a rate out of [0, 1].
    """
    checks.number("rate", rate, high=1.0)
    negative = _numbers("negative", negative)
    allowed = min(int(rate * len(negative) + 1e-9), len(negative) - 1)
    return negative.sort(descending=True).values[allowed].item()


def roc(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """False alarms and hits, both (K,), at every threshold from the highest to the lowest, from (0, 0) to (1, 1).

    >>> import torch
    >>> from atexlib import maps
    >>> maps.roc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0]))[1].tolist()
    [0.0, 0.5, 0.5, 1.0, 1.0]
    """
    positive, negative = _numbers("positive", positive), _numbers("negative", negative)
    steps = torch.cat([positive, negative]).unique().flip(0)
    alarms, hits = ((group >= steps[:, None]).double().mean(1) for group in (negative, positive))
    start = torch.zeros(1, dtype=torch.float64)
    return torch.cat([start, alarms]), torch.cat([start, hits])


def _numbers(name: str, values: Tensor) -> Tensor:
    if not isinstance(values, Tensor) or values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{name} is {values!r}; pass a tensor of at least two numbers, shape (N,).")
    values = values.detach().double().cpu()
    if values.isnan().any():
        raise ValueError(f"{name} holds nan; drop those, and say how many there were.")
    return values
