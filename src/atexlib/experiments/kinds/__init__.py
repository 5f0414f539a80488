"""The kinds of result, one file a subject; importing this enters them all in the register."""

from . import costs, efficacy, fooling, prices, repair, smoothness, speed, tables, variants, worst

__all__ = ["costs", "efficacy", "fooling", "prices", "repair", "smoothness", "speed", "tables", "variants", "worst"]
