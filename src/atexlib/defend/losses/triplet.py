"""ART: the map of the class shall lie nearer to the image than that of its rival."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import climb, cosine, logits_and_map
from .penalised import penalised


@penalised("triplet", label="ART (triplet)", cost=12.0, strength="eps")
def triplet(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    eps: float = 0.01,
    weight: float = 0.5,
    steps: int = 3,
) -> Tensor:
    """Train maps towards the image: CE(x') + weight log(1 + exp(d(g_y, x') - d(g_rival, x'))), d = 1 - cosine.

    The rival is the other class with the largest logit; x' climbs the second term within `eps` by `steps` steps.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.triplet(nets.ConvNet(), few, eps=0.02, epochs=1).best_epoch
    1

    Source: Singh et al. 2020.
    """

    def parts_at(z: Tensor) -> tuple[Tensor, Tensor]:
        logits, own = logits_and_map(net, z, y)
        other = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
        rival = logits_and_map(net, z, other)[1]
        return logits, F.softplus(cosine(rival, z) - cosine(own, z))

    worst = climb(net, lambda z: parts_at(z)[1], x, eps=eps, steps=steps, generator=generator)
    with torch.enable_grad():
        logits, term = parts_at(worst)
        return F.cross_entropy(logits, y) + weight * term.mean()
