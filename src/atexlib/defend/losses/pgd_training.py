"""Adversarial training by PGD: the defence of predictions, each image at its worst."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets.running import logits_of
from .parts import climb
from .penalised import penalised


def worst_for_loss(
    net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, eps: float, steps: int
) -> Tensor:
    """Images x' of the ball where the cross entropy is large."""

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(logits_of(net, z), y, reduction="none")

    return climb(net, loss, x, eps=eps, steps=steps, generator=generator)


@penalised("at", label="adversarial training", cost=5.0, strength="eps")
def pgd_training(
    net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, eps: float = 0.01, steps: int = 5
) -> Tensor:
    """Train on attacked images: CE(x'), x' by `steps` steps of PGD on the cross entropy within `eps`.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.pgd_training(nets.ConvNet(), few, eps=0.02, epochs=1).best_epoch
    1

    Source: Madry et al. 2018.
    """
    worst = worst_for_loss(net, x, y, generator, eps=eps, steps=steps)
    with torch.enable_grad():
        return F.cross_entropy(logits_of(net, worst), y)
