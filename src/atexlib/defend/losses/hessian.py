"""Hessian norm: the map shall not turn when the image moves."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attack.ball import gaussian_like
from .parts import length_squared, logits_and_map, variable
from .penalised import penalised


@penalised("hessian", label="Hessian norm", cost=5.0, strength="weight")
def hessian(net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, weight: float = 5e-5) -> Tensor:
    """Train for little curvature: CE(x) + weight ||H(x) v||^2, v normal.

    H is the second derivative of the class's logit. The mean over v is its squared Frobenius norm (Hutchinson); each
    step draws one v an image.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.hessian(nets.ConvNet(), few, weight=1e-4, epochs=1).best_epoch
    1

    Source: Dombrowski et al. 2022.
    """
    x = variable(x)
    logits, g = logits_and_map(net, x, y)
    v = gaussian_like(g, generator)
    with torch.enable_grad():
        turned = torch.autograd.grad((v * g).sum(), x, create_graph=True, materialize_grads=True)[0]
    return F.cross_entropy(logits, y) + weight * length_squared(turned).mean()
