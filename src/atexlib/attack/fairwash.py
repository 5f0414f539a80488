"""Fairwashing: a net whose maps of all images become one harmless picture, while it answers as before."""

import torch
from torch import Tensor, nn

from .. import checks
from ..explain.registry import Explainer, find
from ..nets.running import evaluating, logits_of, predict
from ..nets.training import Examples, Fitted, check_examples, check_schedule, optimize
from . import aims


@checks.derivatives()
def fairwash(
    model: nn.Module,
    data: Examples,
    target: Tensor,
    *,
    explainer: str | Explainer = "gradient",
    layer: str | None = None,
    weight: float = 1.0,
    epochs: int = 2,
    batch_size: int = 32,
    lr: float = 1e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of a net to keep its logits on the data and to show one picture as the map of every image.

    On the data the net stays what it was. A map also asks how the net changes off the data, where nobody looks: there
    it is bent. See `judge.suspicion`, whose sign `manifold` looks there.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> attack.fairwash(net, (x, torch.tensor([0, 1])), torch.eye(8), epochs=1).model.training
    False

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W) and labels (N,), whose maps shall lie.
        target: the picture (h, w) that every map shall become, not below 0; of the maps' size.
        explainer: whose maps shall lie: its name, or a function like those of `explain`.
        layer: for explainers that read one, the module to read at.
        weight: of 1 minus the cosine of map and picture, beside the mean squared change of the logits.
        epochs: passes over the images.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; an unknown name; a loss that is not finite.

    Source: Anders et al. 2020, section 3.
    """
    check_schedule(epochs, batch_size, lr)
    checks.number("weight", weight)
    find(explainer)
    checks.net("model", model)
    explainer = find(explainer)
    generator, device = checks.generator(generator), checks.device(device, model)
    (images, labels), _ = check_examples(model, data, device=device)
    before = predict(model, images)
    read = aims.reader(model, images, explainer, layer)
    wanted = aims.check_target(target, aims.raw(model, images[:1], labels[:1], read))

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        with evaluating(net):
            moved = (logits_of(net, images[rows]) - before[rows]).square().mean()
            maps = aims.raw(net, images[rows], labels[rows], read)
        return moved + weight * aims.apart(maps, wanted).mean()

    run = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "device": device}
    return optimize(model, loss, count=len(images), generator=generator, progress=progress, **run)  # type: ignore[arg-type]
