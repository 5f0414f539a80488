"""The kinds of result, one file a subject; importing this enters them all in the register."""

from . import (
    centred,
    costs,
    definitions,
    efficacy,
    fooling,
    fooling_photographs,
    judged,
    prices,
    repair,
    signs,
    smoothness,
    speed,
    tables,
    trial,
    variants,
    worst,
)

__all__ = [
    "centred",
    "costs",
    "definitions",
    "efficacy",
    "fooling",
    "fooling_photographs",
    "judged",
    "prices",
    "repair",
    "signs",
    "smoothness",
    "speed",
    "tables",
    "trial",
    "variants",
    "worst",
]
