"""Known images before and after one attack: what a detector may learn from."""

import warnings

from torch import Tensor

from ..attack.inputs import manipulate
from ..attack.objectives import Distance
from .scene import Scene

MOST = 128  # images that are attacked


def known_pair(scene: Scene) -> tuple[Tensor, Tensor]:
    """The first known images (N, C, H, W), and the same manipulated by `Distance` at the scene's radius.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(8, 1, 8, 8)
    >>> clean, attacked = detect.known_pair(detect.Scene(net, explain.gradient, known=x, clean=x, steps=2))
    >>> bool(((attacked - clean).abs() <= 0.1).all())
    True
    """

    def make() -> tuple[Tensor, Tensor]:
        images = scene.known[:MOST].detach()
        options = {"eps": scene.eps, "explainer": scene.explainer, "steps": scene.steps, "batch_size": 64}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that no image could step: then both are alike
            return images, manipulate(scene.model, images, Distance(), **options).x  # type: ignore[arg-type]

    return scene.keep("pair", make)
