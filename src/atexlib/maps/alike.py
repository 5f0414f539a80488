"""How alike are two maps? Five measures, each for a batch of pairs (B, C, H, W), each returning (B,) in float64.

All work on the values as they are handed in: the caller takes absolute values and normalises (`shape.normalize`).
On the CPU NumPy sorts and partitions: its vectorised code is several times as fast as torch's there.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks
from .shape import at_least_float32, topk_mask, topk_places

LEAST_SPAN = 0.1  # of a range of 1 that maps must use, and one through the most that they may span
WINDOW = 7  # side of the windows of SSIM


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman rank correlation of each pair of maps over all C*H*W entries, in [-1, 1].

    Tied entries share their average rank. A constant map has no ranks to compare and gives nan, as SciPy does.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.arange(9.0).view(1, 1, 3, 3)
    >>> maps.spearman(a, a.exp()), maps.spearman(a, -a)
    (tensor([1.], dtype=torch.float64), tensor([-1.], dtype=torch.float64))

    Args:
        a: maps (B, C, H, W), floats.
        b: maps of the same shape.

    Raises:
        ValueError: shapes that differ, empty maps, nan or infinite values.

    Source: Spearman 1904.
    """
    a, b = _check(a, b)
    ranks = average_ranks(torch.cat([a.detach(), b.detach()]).flatten(1))
    ranks -= (ranks.shape[1] + 1) / 2  # the mean rank, ties or not
    first, second = _exact(ranks).chunk(2)
    lengths = first.square().sum(1) * second.square().sum(1)  # 0 for a constant map: 0 / 0 = nan
    return ((first * second).sum(1) / lengths.sqrt()).clamp(-1, 1)


def average_ranks(values: Tensor) -> Tensor:
    """Ranks, from 1, of each row of values (B, N); ties share the mean of the ranks that they cover."""
    if values.device.type == "cpu":
        return torch.from_numpy(ranks_by_numpy(values.numpy()))
    return ranks_by_torch(values)


def ranks_by_torch(values: Tensor) -> Tensor:
    """The same on the device where the values are."""
    order = values.argsort(1)
    ordered = values.gather(1, order)
    dtype = torch.float32 if values.shape[1] < 2**22 else torch.float64  # halves of whole numbers, exact up to there
    place = torch.arange(1, values.shape[1] + 1, device=values.device, dtype=dtype).expand(values.shape)
    tied = ordered[:, 1:] == ordered[:, :-1]
    if tied.any():
        edge = torch.ones_like(ordered[:, :1], dtype=torch.bool)
        start = torch.where(torch.cat([edge, ~tied], 1), place, 0).cummax(1).values
        stop = torch.where(torch.cat([~tied, edge], 1), place, values.shape[1]).flip(1).cummin(1).values.flip(1)
        place = (start + stop) / 2
    return torch.empty_like(place).scatter_(1, order, place)


def ranks_by_numpy(values: np.ndarray) -> np.ndarray:
    """The same with NumPy. Of float32 numbers the bits are sorted together with their places: one sort, no look-up."""
    rows, size = values.shape
    if values.dtype == np.float32 and size < 2**32:
        bits = (values + 0).view(np.int32)  # + 0: the two zeros are equal
        rising = np.where(bits < 0, ~bits, bits | np.int32(-(2**31))).view(np.uint32)  # in the order of the numbers
        keys = np.sort((rising.astype(np.uint64) << np.uint64(32)) | np.arange(size, dtype=np.uint64), axis=1)
        order, ordered = (keys & np.uint64(2**32 - 1)).astype(np.int64), keys >> np.uint64(32)
    else:
        order = np.argsort(values, axis=1)
        ordered = np.take_along_axis(values, order, axis=1)
    opens = np.ones(values.shape, dtype=bool)  # where a group of equal numbers begins
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=opens[:, 1:])
    starts = np.flatnonzero(opens)
    counts = np.diff(starts, append=opens.size)
    dtype = np.float32 if size < 2**22 else np.float64  # halves of whole numbers, exact up to there
    means = (starts % size + (counts + 1) / 2).astype(dtype)
    ranks = np.empty(values.shape, dtype=dtype)
    np.put_along_axis(ranks, order, np.repeat(means, counts).reshape(rows, size), axis=1)
    return ranks


def kendall(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b of each pair of maps over all C*H*W entries, in [-1, 1]; a constant map gives nan, as SciPy does.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    >>> maps.kendall(a, torch.tensor([[[[1.0, 2.0, 4.0, 3.0]]]]))
    tensor([0.6667], dtype=torch.float64)

    Args:
        a: maps (B, C, H, W), floats.
        b: maps of the same shape.

    Raises:
        ValueError: shapes that differ, empty maps, nan or infinite values.

    Source: Kendall 1945. Discordant pairs are counted one binary digit of the ranks at a time, in O(N log N).
    """
    a, b = _check(a, b)
    first, second = (_dense_ranks(maps.detach().flatten(1)) for maps in (a, b))
    size = first.shape[1]
    both = (first * (size + 1) + second).argsort(1)  # by a, among its ties by b: pairs that a ties are no inversions
    ranks = second.gather(1, both)
    discordant = torch.zeros(len(ranks), dtype=torch.long, device=ranks.device)
    for digit in range(size.bit_length()):
        # Pairs that differ first in this digit are those in one group of equal higher digits, a one before a zero.
        order = (ranks >> (digit + 1)).argsort(dim=1, stable=True)
        one = (ranks.gather(1, order) >> digit) & 1
        group = ranks.gather(1, order) >> (digit + 1)
        ones = one.cumsum(1)
        opens = torch.cat([torch.ones_like(group[:, :1], dtype=torch.bool), group[:, 1:] != group[:, :-1]], 1)
        before = torch.where(opens, ones - one, 0).cummax(1).values  # ones in the groups before this one
        discordant += ((ones - before) * (1 - one)).sum(1)
    pairs = size * (size - 1) // 2
    tied_a, tied_b, tied_both = (_tied_pairs(v) for v in (first, second, first * (size + 1) + second))
    concordant_less = pairs - tied_a - tied_b + tied_both - 2 * discordant
    return (_exact(concordant_less) / (_exact(pairs - tied_a) * _exact(pairs - tied_b)).sqrt()).clamp(-1, 1)


def _dense_ranks(values: Tensor) -> Tensor:
    """Whole-number ranks from 0 of each row (B, N), equal for equal entries."""
    ordered, order = values.sort(1)
    rises = torch.cat([torch.zeros_like(order[:, :1]), (ordered[:, 1:] != ordered[:, :-1]).long()], 1).cumsum(1)
    return torch.empty_like(rises).scatter_(1, order, rises)


def _tied_pairs(values: Tensor) -> Tensor:
    """How many pairs of entries of each row (B, N) are equal (B,)."""
    ranks = _dense_ranks(values)
    counts = torch.zeros_like(ranks).scatter_add_(1, ranks, torch.ones_like(ranks))
    return (counts * (counts - 1) // 2).sum(1)


def topk_intersection(a: Tensor, b: Tensor, k: int = 50) -> Tensor:
    """Share of the k largest entries that each pair of maps has in common, in [0, 1].

    Which of several equal entries counts as one of the k largest is arbitrary: a map with fewer than k distinct
    non-zero entries has no clear answer.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[9.0, 8.0, 0.0, 0.0]]]])
    >>> maps.topk_intersection(a, a.roll(1, 3), k=2)
    tensor([0.5000], dtype=torch.float64)

    Args:
        a: maps (B, C, H, W), floats.
        b: maps of the same shape.
        k: number of entries, at most C*H*W.

    Raises:
        ValueError: shapes that differ, empty maps, nan or infinite values, k out of range.

    Source: Ghorbani et al. 2019; Tang et al. 2022, section 5.
    """
    a, b = _check(a, b)
    checks.count("k", k, high=a[0].numel())
    return _exact(topk_mask(b, k).flatten(1).gather(1, topk_places(a, k)).sum(1)) / k


def lens_topk(a: Tensor, b: Tensor, k: int = 50, *, window: int = 1) -> Tensor:
    """Share of the k largest entries of `a` that lie within `window` pixels of one of `b`'s, in [0, 1].

    The distance is the larger of that in rows and that in columns, within one channel; 0 is `topk_intersection`. A map
    that moved by a pixel counts as kept, so that random noise no longer looks as strong as an attack.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.tensor([[[[9.0, 8.0, 0.0, 0.0]]]])
    >>> maps.lens_topk(a, a.roll(1, 3), k=2), maps.lens_topk(a, a.roll(1, 3), k=2, window=0)
    (tensor([1.], dtype=torch.float64), tensor([0.5000], dtype=torch.float64))

    Args:
        a: maps (B, C, H, W), floats: the clean ones.
        b: maps of the same shape.
        k: number of entries, at most C*H*W.
        window: pixels.

    Raises:
        ValueError: shapes that differ, empty maps, nan or infinite values, k or window out of range.

    Source: Kamath et al. 2024 (LENS-recall@k; their window for small images is 1).
    """
    a, b = _check(a, b)
    checks.count("k", k, high=a[0].numel())
    checks.count("window", window, low=0)
    near = F.max_pool2d(topk_mask(b, k).float(), 2 * window + 1, stride=1, padding=window)
    return _exact(near.flatten(1).gather(1, topk_places(a, k)).sum(1)) / k


def ssim(a: Tensor, b: Tensor, *, data_range: float | None = None) -> Tensor:
    """Structural similarity of each pair of maps, in [-1, 1]: 7x7 uniform window, mean over pixels and channels.

    The value depends on how the maps were normalised, so a figure should say how.

    >>> import torch
    >>> from atexlib import maps
    >>> a = torch.eye(8)[None, None]
    >>> bool(maps.ssim(a, a) == 1), bool(maps.ssim(a, 1 - a) < 0)
    (True, True)

    Args:
        a: maps (B, C, H, W), floats, H and W at least 7.
        b: maps of the same shape.
        data_range: largest minus smallest value that a map can take; if None it is 1, and maps that hardly use it or go
            far beyond it are refused: in so wide a range any two of them look alike.

    Raises:
        ValueError: shapes that differ, maps smaller than the window, nan or infinite values, data_range not above 0,
            maps of tiny or large values without a data_range.

    Source: Wang et al. 2004; the conventions of scikit-image's `structural_similarity`.
    """
    a, b = _check(a, b)
    if data_range is None:
        data_range = 1.0
        span = (torch.maximum(a.max(), b.max()) - torch.minimum(a.min(), b.min())).item()
        if 0 < span < LEAST_SPAN or span > 1 / LEAST_SPAN:
            raise ValueError(
                f"the maps span {span:.3g}, {'next to nothing of' if span < 1 else 'far more than'} a range of 1; "
                "normalise them (maps.normalize), or pass the data_range that is meant."
            )
    checks.number("data_range", data_range, open_low=True)
    if min(a.shape[2:]) < WINDOW:
        raise ValueError(f"the maps are {tuple(a.shape[2:])} pixels; SSIM needs at least {WINDOW} x {WINDOW}.")
    a, b = _exact(a.detach()), _exact(b.detach())  # variances are differences of near numbers: float32 loses them
    moments = _window_mean(torch.stack([a, b, a * b, a * a + b * b]))
    mean_a, mean_b, product, squares = moments
    means, mean_squares = 2 * mean_a * mean_b, mean_a**2 + mean_b**2
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    covariance = unbiased * (2 * product - means)  # twice the covariance, and the sum of the two variances
    variance = unbiased * (squares - mean_squares)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (means + c1) * (covariance + c2) / ((mean_squares + c1) * (variance + c2))
    return similarity.mean((1, 2, 3))


def _window_mean(maps: Tensor) -> Tensor:
    """Means over all windows of seven pixels a side that lie inside the maps: sums of 2, 4 and 7 along each axis."""
    for axis in (-1, -2):
        size = maps.shape[axis] - WINDOW + 1
        two = maps.narrow(axis, 0, maps.shape[axis] - 1) + maps.narrow(axis, 1, maps.shape[axis] - 1)
        four = two.narrow(axis, 0, size) + two.narrow(axis, 2, size)
        maps = four.add_(two.narrow(axis, 4, size)).add_(maps.narrow(axis, 6, size))
    return maps.div_(WINDOW**2)


def _exact(values: Tensor) -> Tensor:
    """The values in float64, on a CPU unless they are on a GPU that has such numbers."""
    return (values if values.is_cuda else values.cpu()).double()


def _check(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The two maps, in float32 at least."""
    checks.batch("a", a)
    checks.batch("b", b)
    checks.same_shape("a", a, "b", b)
    return at_least_float32(a), at_least_float32(b)
