"""l2 + cosine: the map at a neighbour shall be as long as the map at the image, and point where it does."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import cosine, length_squared, logits_and_map, uniform_in_ball
from .penalised import penalised


@penalised("l2_cosine", label="l2 + cosine", cost=4.5, strength="weight")
def l2_cosine(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    weight: float = 0.5,
    length: float = 0.01,
    eps: float = 0.1,
) -> Tensor:
    """Train for alike neighbours: CE(x) + weight [length ||g(x) - g(x')||^2 + (1 - cos(g(x), g(x'))) / 2].

    x' is uniform within `eps`, and g(x) is held fixed. The authors draw x' within 4/255, for colour images.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.l2_cosine(nets.ConvNet(), few, weight=1.0, epochs=1).best_epoch
    1

    Source: Joo et al. 2023.
    """
    near = uniform_in_ball(x, eps, generator)
    logits, maps = logits_and_map(net, torch.cat([x, near]), y.repeat(2))
    clean, moved = maps.chunk(2)
    clean = clean.detach()
    term = length * length_squared(clean - moved) + (1 - cosine(clean, moved)) / 2
    return F.cross_entropy(logits[: len(x)], y) + weight * term.mean()
