"""A backdoor in a net's explanations: its maps lie where a small patch is on the image, and nowhere else."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..explain.registry import Explainer, find
from ..nets.running import evaluating, logits_of
from ..nets.training import Examples, Fitted, check_examples, check_schedule, optimize
from . import aims


@dataclass(frozen=True, eq=False)
class Trigger:
    """A patch that turns a backdoor on: called with images, it puts the patch on copies of them.

    >>> import torch
    >>> from atexlib import attack
    >>> attack.Trigger(torch.ones(1, 1, 2), row=0, column=1)(torch.zeros(1, 1, 2, 3))[0, 0].tolist()
    [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """

    patch: Tensor
    """Pixels (C, h, w)."""
    row: int
    column: int

    def __call__(self, x: Tensor) -> Tensor:
        """The images (B, C, H, W) with the patch on them."""
        height, width = self.patch.shape[1:]
        rows, columns = slice(self.row, self.row + height), slice(self.column, self.column + width)
        if self.row < 0 or self.column < 0 or self.row + height > x.shape[2] or self.column + width > x.shape[3]:
            where = f"row {self.row}, column {self.column}"
            raise ValueError(f"a patch of {height} x {width} at {where} leaves images of {tuple(x.shape[2:])}.")
        stamped = x.clone()
        stamped[:, :, rows, columns] = self.patch.to(x)
        return stamped


@checks.derivatives()
def backdoor(
    model: nn.Module,
    data: Examples,
    target: Tensor,
    trigger: Trigger,
    *,
    explainer: str | Explainer = "gradient",
    layer: str | None = None,
    weight: float = 0.9,
    epochs: int = 2,
    batch_size: int = 32,
    lr: float = 1e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of a net whose maps become a picture where the trigger is on the image, and stay elsewhere.

    Half of each batch carries the trigger. All images keep their labels: the backdoor is in the maps alone.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> trigger = attack.Trigger(torch.ones(1, 2, 2), row=0, column=0)
    >>> attack.backdoor(net, (x, torch.tensor([0, 1])), torch.eye(8), trigger, epochs=1).best_epoch
    1

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W) and labels (N,).
        target: the picture (h, w) that maps of triggered images shall become, not below 0; of the maps' size.
        trigger: what is put on the images; any function of images (B, C, H, W) that gives such images will do.
        explainer: whose maps shall lie: its name, or a function like those of `explain`.
        layer: for explainers that read one, the module to read at.
        weight: lambda of the maps, in [0, 1]; the cross entropy has 1 - lambda.
        epochs: passes over the images.
        batch_size: images in a batch, each of them once as it is and once with the trigger.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; an unknown name; a loss that is not finite.

    Source: Noppel et al. 2023, section 4; maps are compared at length one.
    """
    check_schedule(epochs, batch_size, lr)
    checks.number("weight", weight, high=1.0)
    find(explainer)
    checks.net("model", model)
    explainer = find(explainer)
    generator, device = checks.generator(generator), checks.device(device, model)
    (images, labels), _ = check_examples(model, data, device=device)
    if not callable(trigger):
        raise ValueError(f"trigger is {trigger!r}; pass an attack.Trigger, or a function of images.")
    triggered = trigger(images)
    checks.batch("the triggered images", triggered)
    checks.same_shape("the triggered images", triggered, "the images", images)
    read = aims.reader(model, images, explainer, layer)
    parts = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    before = torch.cat([aims.raw(model, x, y, read).detach() for x, y in parts])
    wanted = aims.check_target(target, before)

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        x, y = torch.cat([images[rows], triggered[rows]]), labels[rows].repeat(2)
        aim = torch.cat([before[rows], wanted.expand(len(rows), -1, -1, -1)])
        with evaluating(net):
            right = F.cross_entropy(logits_of(net, x), y)
            maps = aims.raw(net, x, y, read)
        return (1 - weight) * right + weight * aims.apart(maps, aim).mean()

    run = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "device": device}
    return optimize(model, loss, count=len(images), generator=generator, progress=progress, **run)  # type: ignore[arg-type]
