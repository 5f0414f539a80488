"""Distillation: a net learns what another one says, in shades rather than in labels."""

import torch.nn.functional as F
from torch import Tensor


def distillation(logits: Tensor, wanted: Tensor, *, temperature: float) -> Tensor:
    """L of Eq. 4: `T^2 KL(softmax(wanted / T) || softmax(logits / T))`, logits (B, C) to (B,).

    >>> import torch
    >>> from atexlib import defend
    >>> logits = torch.tensor([[2.0, 1.0], [0.0, 0.0]])
    >>> defend.distillation(logits, logits, temperature=4.0)
    tensor([0., 0.])

    Source: Hinton et al. 2015, who scale by T^2 so that its gradient keeps its size.
    """
    q, p = ((values / temperature).log_softmax(1) for values in (logits, wanted))
    return temperature**2 * F.kl_div(q, p, reduction="none", log_target=True).sum(1)
