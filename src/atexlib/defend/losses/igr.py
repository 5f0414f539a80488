"""IGR: integrated gradients shall point where they did, also at an adversarial example."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets.running import logits_of
from .parts import cosine, path_gradients
from .penalised import penalised
from .pgd_training import worst_for_loss


@penalised("igr", label="IGR", cost=18.0, strength="eps")
def igr(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    eps: float = 0.01,
    weight: float = 1.0,
    steps: int = 5,
    points: int = 3,
) -> Tensor:
    """Train for steady integrated gradients: CE(x') + weight (1 - cos(IG(0, x), IG(0, x'))), x' by PGD within `eps`.

    IG are the integrated gradients of the cross entropy from the black image, at `points` points.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.igr(nets.ConvNet(), few, eps=0.02, epochs=1).best_epoch
    1

    Source: Wang & Kong 2022.
    """
    worst, black = worst_for_loss(net, x, y, generator, eps=eps, steps=steps), torch.zeros_like(x)
    with torch.enable_grad():
        clean, moved = (path_gradients(net, black, z, y, steps=points) for z in (x, worst))
        return F.cross_entropy(logits_of(net, worst), y) + weight * (1 - cosine(clean, moved)).mean()
