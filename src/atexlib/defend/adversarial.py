"""Adversarial training: the defence of predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..attack.predictions import fgsm
from ..nets.running import logits_of
from ..nets.training import Examples, Fitted, check_examples, check_schedule, optimize, working_copy


def adversarial_training(
    model: nn.Module,
    data: Examples,
    *,
    eps: float,
    count: int | None = None,
    refresh: bool = False,
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of `model` on its training images and on FGSM images of them, with the true labels.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.adversarial_training(nets.ConvNet(), few, eps=0.1, epochs=1).best_epoch
    1

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats in [0, 1], and labels (N,) from 0.
        eps: largest change of a pixel in an FGSM image.
        count: how many FGSM images are added, made of the first images; of all of them if None.
        refresh: make the FGSM images anew in each batch, of the net as it then is. Else they are made once, of the net
            handed in, as in the paper.
        epochs: passes over the images and the FGSM images.
        batch_size: images in a batch; with `refresh` each brings its FGSM image along.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: images or labels of a wrong shape, type or range; numbers out of range; `count` above N, or
            together with `refresh`; a loss that is not finite.

    Source: Goodfellow et al. 2015; Tang et al. 2022, section 5.4.
    """
    checks.number("eps", eps)
    check_schedule(epochs, batch_size, lr)
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    images, _ = checks.examples("data", data)
    checks.batch("images", images, bounds=(0.0, 1.0))
    if count is not None:
        checks.count("count", count, high=len(images))
        if refresh:
            raise ValueError(f"count is {count} with refresh=True, which makes an FGSM image of each image; drop one.")
    (images, labels), _ = check_examples(model, data, device=device)
    if not refresh:
        made = fgsm(working_copy(model, device), images[:count], labels[:count], eps=eps)
        images, labels = torch.cat([images, made]), torch.cat([labels, labels[:count]])

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        x, y = images[rows], labels[rows]
        if refresh:
            x, y = torch.cat([x, fgsm(net, x, y, eps=eps)]), y.repeat(2)
        return F.cross_entropy(logits_of(net, x), y)

    return optimize(
        model,
        loss,
        count=len(images),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        generator=generator,
        progress=progress,
    )
