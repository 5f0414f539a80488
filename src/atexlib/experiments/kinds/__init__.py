"""The kinds of result, one file a subject; importing this enters them all in the register."""

from . import (
    centred,
    costs,
    definitions,
    detection,
    efficacy,
    fooling,
    fooling_photographs,
    prices,
    repair,
    smoothness,
    speed,
    tables,
    variants,
    worst,
)

__all__ = [
    "centred",
    "costs",
    "definitions",
    "detection",
    "efficacy",
    "fooling",
    "fooling_photographs",
    "prices",
    "repair",
    "smoothness",
    "speed",
    "tables",
    "variants",
    "worst",
]
