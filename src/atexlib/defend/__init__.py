"""Defences: trainers `NAME(model, data, *, eps, epochs, ...)` that return a `Fitted` copy of the net.

>>> from atexlib import data, defend, nets
>>> few = data.load("digits", "train").first(40)
>>> defend.naive(nets.ConvNet(), few, eps=0.1, epochs=1).best_epoch
1
"""

# The register, and every table that reads it, keeps the order of these lines.
from .plain import anew, averaged, smooth, smoothing
from .naive import naive
from .atex import atex, smooth_maps
from .losses.gradient_norm import gradient_norm
from .losses.hessian import hessian
from .losses.cure import cure
from .losses.pgd_training import pgd_training
from .losses.trades import trades
from .losses.ig_norm import ig_sum_norm
from .losses.triplet import triplet
from .losses.surface import ssr
from .losses.l2_cosine import l2_cosine
from .losses.r2et import r2et
from .losses.aat import aat, adv_aat
from .losses.igr import igr
from .losses.feature_smoothing import feature_smoothing
from .losses.low_curvature import low_curvature
from .distill import distillation
from .steady import steady
from .adversarial import adversarial_training
from .neighbors import along, orthogonal, orthogonal_ascent, remove_component
from .registry import DEFENSES, Defense, available, defense

__all__ = [
    "DEFENSES",
    "Defense",
    "aat",
    "adv_aat",
    "adversarial_training",
    "along",
    "anew",
    "atex",
    "available",
    "averaged",
    "cure",
    "defense",
    "distillation",
    "feature_smoothing",
    "gradient_norm",
    "hessian",
    "ig_sum_norm",
    "igr",
    "l2_cosine",
    "low_curvature",
    "naive",
    "orthogonal",
    "orthogonal_ascent",
    "pgd_training",
    "r2et",
    "remove_component",
    "smooth",
    "smooth_maps",
    "smoothing",
    "ssr",
    "steady",
    "trades",
    "triplet",
]
