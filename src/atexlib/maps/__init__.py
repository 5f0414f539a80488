"""What is said of maps without a net: how alike two are, what shape one has, how sure a mean is.

>>> import torch
>>> from atexlib import maps
>>> a = torch.rand(2, 1, 28, 28)
>>> maps.spearman(a, a)
tensor([1., 1.], dtype=torch.float64)
"""

from .alike import kendall, lens_topk, spearman, ssim, topk_intersection
from .intervals import Interval, bootstrap, two_level, wilson
from .ranking import auc, roc, threshold
from .shape import center_of_mass, mass_on, normalize, topk_mask, total_variation

__all__ = [
    "Interval",
    "auc",
    "bootstrap",
    "center_of_mass",
    "kendall",
    "lens_topk",
    "mass_on",
    "normalize",
    "roc",
    "spearman",
    "ssim",
    "threshold",
    "topk_intersection",
    "topk_mask",
    "total_variation",
    "two_level",
    "wilson",
]
