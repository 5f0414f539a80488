"""TRADES: what the net says shall not change within the ball."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets.running import logits_of, predict
from .parts import climb
from .penalised import penalised


@penalised("trades", label="TRADES", cost=6.0, strength="weight")
def trades(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    weight: float = 0.05,
    eps: float = 0.05,
    steps: int = 5,
) -> Tensor:
    """Train for steady predictions: CE(x) + weight max_x' KL(f(x) || f(x')) within `eps`, by `steps` steps of ascent.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.trades(nets.ConvNet(), few, weight=1.0, epochs=1).best_epoch
    1

    Source: Zhang et al. 2019.
    """

    def apart(p: Tensor, z: Tensor) -> Tensor:
        return F.kl_div(logits_of(net, z).log_softmax(1), p, reduction="none", log_target=True).sum(1)

    clean = predict(net, x).log_softmax(1)
    worst = climb(net, lambda z: apart(clean, z), x, eps=eps, steps=steps, generator=generator)
    with torch.enable_grad():
        logits = logits_of(net, x)
        return F.cross_entropy(logits, y) + weight * apart(logits.log_softmax(1), worst).mean()
