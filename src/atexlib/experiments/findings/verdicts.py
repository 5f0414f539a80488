"""What the cards say: numbers over seeds and images, paired differences, and verdicts by a rule fixed beforehand."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import checks
from ...maps.intervals import Interval, two_level
from ..engine import store
from ..engine.kinds import KINDS, check
from ..engine.presets import PRESETS
from ..engine.results import Card, grid, read

SEEDS = tuple(range(5))


def in_order(kind: str) -> list[str]:
    """The presets, that at which most cells of a kind were run first, whatever their seeds; the larger of two alike.

    So a table whose cells were not all run at the largest preset stays at the one below, and compares like with like.
    """
    checks.one_of("kind", kind, KINDS)
    names = [re.sub(r"-seed[0-9]+-", "-", Path(name).stem) for name in store.names(kind, KINDS[kind].suffix)]
    cells = {preset: len({name for name in names if name.endswith(f"-{preset}")}) for preset in PRESETS}
    return sorted(PRESETS, key=lambda preset: (cells[preset], list(PRESETS).index(preset)), reverse=True)


def largest_preset(**spec: Any) -> str | None:
    """The first preset, `in_order`, at which there is a card of this spec, for any seed unless it has one; or None."""
    return common_preset([spec])


def common_preset(specs: Iterable[dict[str, Any]]) -> str | None:
    """The first preset, `in_order`, at which each of these specs has a card, for any seed unless it has one."""
    specs = list(specs)

    def has_all(preset: str) -> bool:
        return all(_cards(**{**spec, "preset": preset}) for spec in specs)

    return next((preset for preset in in_order(specs[0]["kind"]) if has_all(preset)), None)


def found(**spec: Any) -> list[Card]:
    """The cards of a spec, for the seed and the preset given, or for all seeds and the largest preset there is."""
    if "preset" not in spec:
        spec["preset"] = largest_preset(**spec)
    return _cards(**spec) if spec["preset"] else []


def _cards(**spec: Any) -> list[Card]:
    """The cards of a spec, for all seeds unless it has one."""
    specs = grid(**{"seed": SEEDS, **spec})
    paths = (store.find(kind.file(its)) for kind, its in map(check, specs))
    return [_read(path, path.stat().st_mtime_ns) for path in paths if path is not None]


def every(kind: str) -> list[Card]:
    """All cards of a kind, in the order of their names: where a key of the spec holds numbers that nobody lists."""
    paths = (store.find(name) for name in store.names(kind, KINDS[kind].suffix))
    return [_read(path, path.stat().st_mtime_ns) for path in paths if path is not None]


@functools.lru_cache(maxsize=2048)
def _read(path: Path, _written: int) -> Card:
    """A card, read again only if its file was written anew."""
    return read(path)


def per_image(metric: str, **spec: Any) -> dict[int, Tensor]:
    """A metric's values (N,) for each seed of which there is a card; nan where an image has none.

    Raises:
        ValueError: an unknown metric.
    """
    values = {}
    for card in found(**spec):
        checks.one_of("metric", metric, card["metrics"])
        value = card["metrics"][metric]
        numbers = value["values"] if isinstance(value, dict) else [value]
        values[card["spec"]["seed"]] = torch.tensor([float("nan") if v is None else float(v) for v in numbers])
    return values


def mean(metric: str, **spec: Any) -> Interval | None:
    """The mean over seeds and images with its 95 % interval; None where there is no card."""
    values = per_image(metric, **spec)
    return two_level(torch.stack(list(values.values()))) if values else None


def together(metric: str, specs: Iterable[dict[str, Any]]) -> Tensor | None:
    """Values (S, N, K) of K specs on the same seeds and images, for the seeds that all have; None if there are none.

    Unless the specs name a preset, it is the largest at which all of them have a card.
    """
    specs = list(specs)
    preset = common_preset(specs)
    if preset is None:
        return None
    columns = [per_image(metric, **{"preset": preset, **spec}) for spec in specs]
    seeds = sorted(set.intersection(*(set(column) for column in columns)))
    if not seeds:
        return None
    return torch.stack([torch.stack([column[seed] for seed in seeds]) for column in columns], dim=2)


def difference(metric: str, first: dict[str, Any], second: dict[str, Any]) -> Interval | None:
    """The mean of `first` minus `second`, image by image, with its 95 % interval; None where a card lacks."""
    values = together(metric, [first, second])
    return None if values is None else two_level(values[..., 0] - values[..., 1])


def gap_closed(metric: str, base: dict[str, Any], defended: dict[str, Any]) -> Interval | None:
    """The share of the gap between a net's stability and 1 that a defence closes; None where a card lacks."""
    values = together(metric, [base, defended])
    if values is None:
        return None
    return two_level(values, statistic=lambda mean: (mean[..., 1] - mean[..., 0]) / (1 - mean[..., 0]))


def verdict(cells: Iterable[Interval | None]) -> str:
    """The verdict on a claim that says of every cell that it is above 0.

    `reproduced`: the interval lies above 0 in every cell. `not reproduced`: it does so in none, and below 0 in some.
    `mixed`: above 0 in some cells, below 0 in others. `open`: anything else: what was measured does not settle it, or a
    cell that could has no card yet.
    """
    cells = list(cells)
    above, below, _ = count(cells)
    if above and below:
        return "mixed"
    if below and not above and not any(cell is None for cell in cells):
        return "not reproduced"
    return "reproduced" if above and above == len(cells) else "open"


def count(cells: Iterable[Interval | None]) -> tuple[int, int, int]:
    """How many cells lie above 0, how many below, how many across it; those without a card are not counted."""
    known = [cell for cell in cells if cell is not None]
    above, below = sum(cell.low > 0 for cell in known), sum(cell.high <= 0 for cell in known)
    return above, below, len(known) - above - below
