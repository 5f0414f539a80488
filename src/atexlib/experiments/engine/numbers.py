"""Numbers as cards hold them: short, with intervals over images, null where there is none."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...maps.intervals import bootstrap

DIGITS = 5  # significant digits of a number in a card


def plain(values: Tensor) -> list[float | None]:
    """Numbers for JSON: short, and None for nan, which JSON lacks."""
    return [None if value != value else float(f"{value:.{DIGITS}g}") for value in values.double().tolist()]


def summary(values: Sequence[float | None], *, decimals: int | None = None) -> dict[str, Any]:
    """Per-image values, their mean and 95 % interval over images, and how many have no value; rounded if asked for."""
    if decimals is not None:
        values = [None if value is None else round(value, decimals) for value in values]
    known = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    interval = bootstrap(known)._asdict() if len(known) > 1 else {}
    return {**interval, "missing": len(values) - len(known), "values": values}
