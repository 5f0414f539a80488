"""What a manipulation maximises: d(phi(x'), phi(x)) of Eq. 1.

An objective is called with the clean maps (B, C, H, W) and returns the function that scores manipulated maps: one
differentiable number an image, (B,), the larger the better for the attacker. All of them look at absolute values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checks
from ..maps.shape import center_of_mass, normalize, topk_mask

Score = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor], Score]
Default = Callable[[Tensor, int, torch.Generator], Objective]
OBJECTIVES: dict[str, Default] = {}
ROUNDING = 8  # rounding steps of a pixel's place by which two centres of mass may differ by chance


def objective(name: str, *, default: Default) -> Callable[[type], type]:
    """Enter the decorated class in the register.

    `default(images, k, generator)` makes the instance that tables, audits and tests take for these images (B, C, H, W):
    `k` entries of a map count as its top, random choices are drawn from the generator. A class whose instances hold a
    tensor for each image has a method `of_rows(rows)` that gives the instance for some of them.

    >>> import dataclasses
    >>> from atexlib import attack
    >>> @attack.objective("fade", default=lambda images, k, generator: Fade())
    ... @dataclasses.dataclass(frozen=True)
    ... class Fade:
    ...     def __call__(self, clean_map):
    ...         return lambda maps: -maps.abs().sum((1, 2, 3))
    >>> attack.OBJECTIVES.pop("fade")(None, 5, None)
    Fade()
    """

    def enter(kind: type) -> type:
        OBJECTIVES[name] = default
        return kind

    return enter


def check_objective(chosen: Objective) -> None:
    """Raise unless this is the instance of an objective, or a function of one's own."""
    if not callable(chosen) or isinstance(chosen, type):
        raise ValueError(f"objective is {chosen!r}; pass an instance, for example Untargeted(k=50).")


def available() -> tuple[str, ...]:
    """The names of all objectives.

    >>> from atexlib import attack
    >>> attack.available()
    ('untargeted', 'targeted', 'center_mass', 'target_map', 'distance', 'rank_distance')
    """
    return tuple(OBJECTIVES)


def of_rows(chosen: Objective, rows: Tensor) -> Objective:
    """The objective for the images of these numbers (N,) alone.

    >>> import torch
    >>> from atexlib import attack
    >>> square = attack.Targeted.random_region(torch.rand(4, 1, 8, 8), size=3)
    >>> attack.of_rows(square, torch.tensor([0, 2])).mask.shape
    torch.Size([2, 1, 8, 8])
    """
    return chosen.of_rows(rows) if hasattr(chosen, "of_rows") else chosen


@objective("untargeted", default=lambda images, k, generator: Untargeted(k=k))
@dataclass(frozen=True)
class Untargeted:
    """Take importance away from the k pixels that matter most: minus their share of the map, in [-1, 0].

    The k entries are fixed by the clean map.

    Source: Tang et al. 2022, section 3; Ghorbani et al. 2019 (top-k attack).
    """

    k: int = 50

    def __post_init__(self) -> None:
        checks.count("k", self.k)

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the mass on the clean map's k largest entries."""
        checks.count("k", self.k, high=clean_map[0].numel())
        top = topk_mask(clean_map.abs(), self.k)
        return lambda maps: -_mass(maps, top)


@objective("targeted", default=lambda images, k, generator: _square(images, generator))
@dataclass(frozen=True, eq=False)
class Targeted:
    """Bring importance to the pixels of a mask: their share of the map, in [0, 1].

    `mask` has the shape (B, 1, H, W), or another of four axes that broadcasts to the maps', and is true (1) on the
    pixels to highlight.

    >>> import torch
    >>> from atexlib import attack
    >>> top = torch.tensor([[[[1, 1], [0, 0]]]])
    >>> attack.Targeted(top)(torch.ones(1, 1, 2, 2))(torch.tensor([[[[3.0, 3.0], [1.0, 1.0]]]]))
    tensor([0.7500])

    Source: Tang et al. 2022, section 3.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        checks.batch("mask", self.mask.float() if isinstance(self.mask, Tensor) else self.mask, bounds=(0, 1))

    @classmethod
    def random_region(cls, x: Tensor, size: int = 5, *, generator: torch.Generator | None = None) -> "Targeted":
        """One square of `size` x `size` pixels for each image of x, at a place drawn from the generator (seed 0)."""
        checks.batch("x", x)
        height, width = x.shape[2:]
        checks.count("size", size, high=min(height, width))
        generator = checks.generator(generator)
        top = torch.randint(height - size + 1, (len(x), 1), generator=generator)
        left = torch.randint(width - size + 1, (len(x), 1), generator=generator)
        rows, columns = torch.arange(height), torch.arange(width)
        in_rows = (rows >= top) & (rows < top + size)
        in_columns = (columns >= left) & (columns < left + size)
        return cls((in_rows[:, :, None] & in_columns[:, None, :]).unsqueeze(1).to(x.device))

    def of_rows(self, rows: Tensor) -> "Targeted":
        """The same for the images of these numbers; a mask for all of them stays."""
        return self if len(self.mask) == 1 else Targeted(self.mask[rows.to(self.mask.device)])

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the mass inside the mask."""
        mask = self.mask.to(clean_map.device, clean_map.dtype)
        _broadcasts("mask", mask, clean_map)
        return lambda maps: _mass(maps, mask)


@objective("center_mass", default=lambda images, k, generator: CenterMass())
@dataclass(frozen=True)
class CenterMass:
    """Move the map's centre of mass as far as possible: its Euclidean distance from the clean one, in pixels.

    >>> import torch
    >>> from atexlib import attack
    >>> maps = torch.eye(4)[:, None, None]  # four maps of one row, each with one pixel
    >>> attack.CenterMass()(maps[:1])(maps)
    tensor([0., 1., 2., 3.])

    Source: Ghorbani et al. 2019 (mass-centre attack).
    """

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the distance from the clean map's centre."""
        clean = center_of_mass(clean_map)
        rounding = ROUNDING * torch.finfo(clean.dtype).eps * max(clean_map.shape[2:])

        def score(maps: Tensor) -> Tensor:
            length = torch.linalg.vector_norm(center_of_mass(maps) - clean, dim=1)
            # A length has a slope of one however short it is: what is rounding must not point anywhere.
            return torch.where(length > rounding, length, 0 * length)

        return score


# The map shall look like another image of the batch.
@objective("target_map", default=lambda images, k, generator: TargetMap(images.flip(0).mean(1, keepdim=True)))
@dataclass(frozen=True, eq=False)
class TargetMap:
    """Make the map look like a given one: the correlation of the absolute values with it, in [-1, 1].

    `map` has the shape (B, C, H, W) or (1, C, H, W).

    >>> import torch
    >>> from atexlib import attack
    >>> wanted = torch.rand(1, 1, 8, 8)
    >>> attack.TargetMap(wanted)(torch.rand(1, 1, 8, 8))(3 * wanted).round(decimals=3)
    tensor([1.])

    Source: after Dombrowski et al. 2019, who minimise the squared error of normalised maps; a correlation has no scale
    to choose.
    """

    map: Tensor

    def __post_init__(self) -> None:
        checks.batch("map", self.map)

    def of_rows(self, rows: Tensor) -> "TargetMap":
        """The same for the images of these numbers; a map for all of them stays."""
        return self if len(self.map) == 1 else TargetMap(self.map[rows.to(self.map.device)])

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the correlation with the wanted map."""
        wanted = self.map.to(clean_map.device, clean_map.dtype)
        _broadcasts("map", wanted, clean_map)
        wanted = wanted.expand_as(clean_map)
        return lambda maps: _correlation(maps, wanted)


@objective("distance", default=lambda images, k, generator: Distance())
@dataclass(frozen=True)
class Distance:
    """Make the map unlike the clean one, in any way: one minus the correlation of the absolute values, in [0, 2].

    >>> import torch
    >>> from atexlib import attack
    >>> maps = torch.eye(3)[:2, None, None]  # two maps of one row, each with one pixel
    >>> attack.Distance()(maps)(maps.flip(0))
    tensor([1.5000, 1.5000])
    """

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the distance from the clean map."""
        return lambda maps: 1 - _correlation(maps, clean_map)


KNOTS = 32  # places of the map's own values between which a soft rank counts


@objective("rank_distance", default=lambda images, k, generator: RankDistance())
@dataclass(frozen=True)
class RankDistance:
    """Disorder the map: one minus the correlation of soft ranks with the clean map's, in [0, 2].

    The soft rank of an entry is the share of some quantiles of its map that lie below it, each counted by a sigmoid as
    wide as the gap around it. So an entry counts by its place, not by its size, as it does in Spearman's correlation.

    >>> import torch
    >>> from atexlib import attack
    >>> maps = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
    >>> attack.RankDistance()(maps)(maps**3).round(decimals=1), attack.RankDistance()(maps)(1 / maps).round(decimals=1)
    (tensor([0.]), tensor([2.]))

    Source: a smooth form of Spearman 1904; soft ranks by sigmoids after Qin et al. 2010.
    """

    def __call__(self, clean_map: Tensor) -> Score:
        """Score by the distance from the clean map's order."""
        clean = _soft_ranks(clean_map)
        return lambda maps: 1 - torch.cosine_similarity(_soft_ranks(maps), clean, dim=1)


def _soft_ranks(maps: Tensor) -> Tensor:
    """Centred soft ranks (B, N) of the absolute values of maps (B, C, H, W)."""
    sizes = maps.abs().flatten(1)
    places = torch.linspace(0, sizes.shape[1] - 1, min(KNOTS, sizes.shape[1]), device=sizes.device).round().long()
    knots = sizes.sort(1).values[:, places]
    ends = torch.cat([knots[:, :1], knots, knots[:, -1:]], 1)
    gaps = (ends[:, 2:] - ends[:, :-2]) / 2
    gaps = gaps.clamp_min(torch.finfo(gaps.dtype).eps * knots[:, -1:].clamp_min(torch.finfo(gaps.dtype).tiny))
    ranks = torch.stack(
        [torch.sigmoid((sizes - knots[:, j, None]) / gaps[:, j, None]) for j in range(len(places))]
    ).mean(0)
    return ranks - ranks.mean(1, keepdim=True)


def _square(images: Tensor, generator: torch.Generator) -> Targeted:
    """A square of a sixth of the side at a random place of each image."""
    return Targeted.random_region(images, max(2, min(images.shape[2:]) // 6), generator=generator)


def _mass(maps: Tensor, mask: Tensor) -> Tensor:
    """Relative importance of the entries inside the mask: sum over t in T of |phi_t| / ||phi||_1."""
    return (normalize(maps, by="l1") * mask).sum((1, 2, 3))


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (maps.abs().flatten(1) for maps in (a, b))
    return torch.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), dim=1)


def _broadcasts(name: str, value: Tensor, maps: Tensor) -> None:
    try:
        fits = torch.broadcast_shapes(value.shape, maps.shape) == maps.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, which does not fit maps of {tuple(maps.shape)}.")
