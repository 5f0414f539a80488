"""Explaining a prediction: `NAME(model, x, target=None, *, create_graph=False, ...)` gives raw signed maps.

>>> import torch
>>> from atexlib import explain, nets
>>> explain.heatmap(nets.ConvNet(), torch.rand(2, 1, 28, 28), 3, explainer="grad_cam").shape
torch.Size([2, 1, 28, 28])
"""

from .gradients import Target, grad_cam, gradient, gradient_x_input, integrated_gradients, smoothgrad
from .heatmaps import DEAD, heatmap, is_dead, one_channel, scaled
from .layers import Reading, reading
from .lrp import lrp
from .registry import (
    EXPLAINERS,
    TRAITS,
    Explainer,
    Traits,
    available,
    described,
    explainer,
    find,
    traits,
)

__all__ = [
    "DEAD",
    "EXPLAINERS",
    "TRAITS",
    "Explainer",
    "Reading",
    "Target",
    "Traits",
    "available",
    "described",
    "explainer",
    "find",
    "grad_cam",
    "gradient",
    "gradient_x_input",
    "heatmap",
    "integrated_gradients",
    "is_dead",
    "lrp",
    "one_channel",
    "reading",
    "scaled",
    "smoothgrad",
    "traits",
]
