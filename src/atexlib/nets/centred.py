"""The part of a logit that a prediction can see."""

from torch import Tensor, nn

from .running import logits_of, plain


class Centred(nn.Module):
    """A net whose logits are those of another less their mean: the predictions are the same, their maps are not.

    Whatever is added to all logits alike changes no softmax value, and is gone from a centred logit.

    >>> import torch
    >>> from atexlib import nets
    >>> net = nets.Centred(nets.ConvNet(side=8, width=4, hidden=8))
    >>> bool(net(torch.rand(2, 1, 8, 8)).sum(1).abs().max() < 1e-5)
    True

    Args:
        model: a net that returns logits (B, C).

    Raises:
        ValueError: what is no net.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.net = plain(model)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C) whose sum is 0 for each image, of images (B, C, H, W)."""
        logits = logits_of(self.net, x)
        return logits - logits.mean(1, keepdim=True)
