"""R2ET: the top of the map shall stand clear of the rest."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import length_squared, logits_and_map
from .penalised import penalised


def thickness(maps: Tensor, k: int) -> Tensor:
    """How clear the k largest entries stand of the k next (B,): the mean of the i-th minus the (2 k + 1 - i)-th.

    Args:
        maps: g (B, C, H, W), of at least 2 k entries; of fewer, half of them is k.
        k: entries of the top.
    """
    flat = maps.abs().flatten(1)
    k = min(k, flat.shape[1] // 2)
    top = flat.topk(2 * k).values
    return (top[:, :k] - top[:, k:].flip(1)).mean(1)


@penalised("r2et", label="R2ET", cost=4.5, strength="weight")
def r2et(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    weight: float = 5e-4,
    curvature: float = 1.0,
    k: int = 50,
    step: float = 0.01,
) -> Tensor:
    """Train for a thick top: CE(x) + weight [curvature ||g(x + step sign g) - g(x)|| / step - thickness of the top k].

    The authors take k = 100 and ten passes at a rate of 1e-5; here k is that of the measure.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.r2et(nets.ConvNet(), few, weight=0.1, epochs=1).best_epoch
    1

    Source: Chen et al. 2024.
    """
    logits, g = logits_and_map(net, x, y)
    ahead = logits_and_map(net, x + step * g.detach().sign(), y)[1]
    bend = (length_squared(ahead - g) + torch.finfo(g.dtype).tiny).sqrt() / step
    return F.cross_entropy(logits, y) + weight * (curvature * bend - thickness(g, k)).mean()
