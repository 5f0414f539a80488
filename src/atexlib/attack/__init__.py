"""Attacks: on explanations by changing the input or the model, and on predictions.

>>> import torch
>>> from atexlib import attack, nets
>>> net, x = nets.ConvNet(), torch.rand(2, 1, 28, 28)
>>> attack.fgsm(net, x, torch.tensor([0, 1]), eps=0.1).shape
torch.Size([2, 1, 28, 28])
"""

from . import aims, disguises
from .backdoor import Trigger, backdoor
from .ball import NORMS, Ball
from .blackbox import random_search, universal
from .decorated import STYLES, Decorated
from .fairwash import fairwash
from .fooling_losses import LOSSES, RANGES
from .guides import blunt_guide, smooth_guide
from .inputs import Effort, Manipulation, manipulate
from .kinks import Slopes, slopes
from .models import Fooled, fool, judged, shown_maps, success
from .objectives import (
    OBJECTIVES,
    CenterMass,
    Distance,
    Objective,
    RankDistance,
    Targeted,
    TargetMap,
    Untargeted,
    available,
    objective,
    of_rows,
)
from .predictions import fgsm, loss_gradient, margin, pgd

__all__ = [
    "LOSSES",
    "NORMS",
    "OBJECTIVES",
    "RANGES",
    "STYLES",
    "Ball",
    "CenterMass",
    "Decorated",
    "Distance",
    "Effort",
    "Fooled",
    "Manipulation",
    "Objective",
    "RankDistance",
    "Slopes",
    "TargetMap",
    "Targeted",
    "Trigger",
    "Untargeted",
    "aims",
    "available",
    "backdoor",
    "blunt_guide",
    "disguises",
    "fairwash",
    "fgsm",
    "fool",
    "judged",
    "loss_gradient",
    "manipulate",
    "margin",
    "objective",
    "of_rows",
    "pgd",
    "random_search",
    "shown_maps",
    "slopes",
    "smooth_guide",
    "success",
    "universal",
]
