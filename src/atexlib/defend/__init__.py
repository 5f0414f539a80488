"""Defences: trainers `NAME(model, data, *, eps, epochs, ...)` that return a `Fitted` copy of the net.

>>> from atexlib import data, defend, nets
>>> few = data.load("digits", "train").first(40)
>>> defend.naive(nets.ConvNet(), few, eps=0.1, epochs=1).best_epoch
1
"""

# The register, and every table that reads it, keeps the order of these lines.
from .plain import anew, smooth, smoothing
from .naive import naive
from .atex import atex, smooth_maps
from .distill import distillation
from .steady import steady
from .adversarial import adversarial_training
from .neighbors import along, orthogonal, orthogonal_ascent, remove_component
from .registry import DEFENSES, Defense, available, defense

__all__ = [
    "DEFENSES",
    "Defense",
    "adversarial_training",
    "along",
    "anew",
    "atex",
    "available",
    "defense",
    "distillation",
    "naive",
    "orthogonal",
    "orthogonal_ascent",
    "remove_component",
    "smooth",
    "smooth_maps",
    "smoothing",
    "steady",
]
