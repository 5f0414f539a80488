"""IG-SUM-NORM: what explains the rise of the loss within the ball shall be small."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets.running import logits_of
from .parts import climb, path_gradients
from .penalised import penalised


@penalised("ig_sum_norm", label="IG-SUM-NORM", cost=22.0, strength="eps")
def ig_sum_norm(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    eps: float = 0.01,
    weight: float = 0.1,
    steps: int = 2,
    points: int = 3,
) -> Tensor:
    """Train for small attributions of a changed loss: max_x' [CE(x') + weight ||IG(x, x')||_1] within `eps`.

    IG(x, x') are the integrated gradients of the cross entropy from x to x', at `points` points; x' is found by `steps`
    steps of ascent on the whole. The authors take 20 steps and 50 points, for which there is no time here.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.ig_sum_norm(nets.ConvNet(), few, eps=0.02, epochs=1).best_epoch
    1

    Source: Chen et al. 2019.
    """

    def objective(z: Tensor) -> Tensor:
        attribution = path_gradients(net, x, z, y, steps=points)
        return F.cross_entropy(logits_of(net, z), y, reduction="none") + weight * attribution.abs().sum((1, 2, 3))

    worst = climb(net, objective, x, eps=eps, steps=steps, generator=generator)
    with torch.enable_grad():
        return objective(worst).mean()
