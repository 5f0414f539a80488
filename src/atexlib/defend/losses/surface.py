"""SSR: the loss shall bend little in the direction in which it bends most."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets.running import predict
from .parts import logits_and_map
from .penalised import penalised


def largest_curvature(logits: Tensor, jacobian: Tensor) -> Tensor:
    """Largest eigenvalue (B,) of W (diag p - p p') W', the part of the loss's Hessian that the net's slopes make.

    It is that of a matrix as small as the number of classes: A' W' W A, with A A' = diag p - p p'.

    Args:
        logits: of the images (B, C).
        jacobian: W', the gradient of each logit by the image (B, C, D).
    """
    p = logits.softmax(1)
    root = p.sqrt()
    a = root.diag_embed() - p[:, :, None] * root[:, None, :]
    turned = a.mT @ jacobian
    return torch.linalg.eigvalsh(turned @ turned.mT)[:, -1]


@penalised("ssr", label="SSR", cost=34.0, strength="weight")
def ssr(net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, weight: float = 0.1) -> Tensor:
    """Train for a smooth surface: CE(x) + weight lambda_max(W (diag p - p p') W'), W the Jacobian of the logits.

    The authors write (1 - a) CE + a s lambda_max with a = .3 and s = 1e6 on other images; one weight stands for both.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.ssr(nets.ConvNet(), few, weight=0.1, epochs=1).best_epoch
    1

    Source: Wang et al. 2020.
    """
    classes = predict(net, x[:1]).shape[1]
    many = torch.arange(classes, device=x.device).repeat(len(x))
    logits, slopes = logits_and_map(net, x.repeat_interleave(classes, 0), many)
    logits, jacobian = logits[::classes], slopes.flatten(1).unflatten(0, (len(x), classes))
    return F.cross_entropy(logits, y) + weight * largest_curvature(logits, jacobian).mean()
