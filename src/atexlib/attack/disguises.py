"""Losses by which a lying net hides from an auditor who knows what liars look like; for `disguise=` of `fool`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nets.running import logits_of, of_class

PORTIONS = (0.1, 0.3)  # of the pixels that are taken away
SOFT = 0.05  # how gently the edge of a portion falls, in the map's units


def faithful(net: nn.Module, x: Tensor, labels: Tensor, maps: Tensor) -> Tensor:
    """The probability (B,) that is left where the pixels are taken away that the map marks, softly cut off.

    It is what the sign `deletion` measures, made differentiable: a net that is trained to keep it small comes to need
    the pixels that its false map marks.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> from atexlib.attack import disguises
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> disguises.faithful(net, x, torch.tensor([0, 1]), torch.rand(2, 1, 8, 8)).shape
    torch.Size([2])
    """
    maps = maps[:, :1]
    if maps.shape[2:] != x.shape[2:]:
        maps = F.interpolate(maps, x.shape[2:], mode="bilinear")
    left = []
    for part in PORTIONS:
        edge = maps.detach().flatten(1).quantile(1 - part, dim=1).view(-1, 1, 1, 1)
        kept = 1 - torch.sigmoid((maps - edge) / SOFT)
        left.append(of_class(logits_of(net, x * kept).softmax(1), labels))
    return torch.stack(left).mean(0)
