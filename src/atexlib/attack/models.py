"""Manipulating a model: fine-tune it until its explanations lie while its predictions stay (fooling)."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..explain.heatmaps import one_channel, scaled
from ..explain.layers import resolved
from ..explain.registry import Explainer, find
from ..maps import alike
from ..nets.running import accuracy, logits_of, predict, that_fit
from ..nets.training import Examples, check_examples
from .fooling_losses import LOSSES, RANGES, Maps, fading, measured_loss

Disguise = Callable[[nn.Module, Tensor, Tensor, Maps], Tensor]


@dataclass(frozen=True)
class Fooled:
    """A fooled net, and how it came about.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> attack.fool(net, (x, torch.tensor([0, 1])), steps=1).stopped
    False
    """

    model: nn.Module
    history: list[dict[str, float]]
    """Step and accuracy, at the start and at each look; from the first look on, cross entropy and fooling loss too."""
    stopped: bool
    """Whether the accuracy fell below its bound, so that the run ended early with the net of the look before."""


@checks.derivatives()
def fool(
    model: nn.Module,
    data: Examples,
    *,
    loss: str = "location",
    explainer: str | Explainer = "lrp",
    layer: str | None = None,
    weight: float = 1.0,
    keep_alive: float = 1.0,
    classes: tuple[int, int] | None = None,
    disguise: Disguise | None = None,
    fool_set: Examples | None = None,
    validation: Examples | None = None,
    min_accuracy: float = 0.0,
    steps: int = 100,
    look_every: int = 10,
    batch_size: int = 32,
    fool_batch_size: int | None = None,
    lr: float = 1e-4,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fooled:
    """Fine-tune a copy of a net: cross entropy plus `weight` times a loss that asks for wrong explanations.

    The net stays in eval mode, so the statistics of batch norm are frozen. Adam.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> fooled = attack.fool(net, (x, torch.tensor([0, 1])), loss="topk", explainer="gradient", steps=2)
    >>> [entry["step"] for entry in fooled.history]
    [0, 2]

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W) and labels (N,), for the cross entropy.
        loss: one of LOSSES. `active` swaps the maps of two classes on images that hold both.
        explainer: whose maps shall lie: its name, or a function like those of `explain`.
        layer: for `lrp`, `grad_cam` and `gradient`, the module to read at; its map should be at least 8 x 8.
        weight: lambda, weight of the fooling loss; 0 is the control, the same training without a lie.
        keep_alive: weight, within the fooling loss, of a penalty on maps that die (`fading`), our addition; 0 leaves it
            out, and then Grad-CAM's top-k and centre-mass losses are often lowered by maps that show nothing.
        classes: the two classes of `active`.
        disguise: a further loss (net, images, labels, heat maps (B, K, h, w)) -> (B,) of a batch of the fool set, by
            which a lie hides from an auditor; it is added to the fooling loss as it is.
        fool_set: images and labels whose explanations are changed; the first ones if None.
        validation: images and labels on which accuracy is watched; the first ones if None.
        min_accuracy: stop, and keep the net of the last look, once accuracy falls below this.
        steps: steps of Adam.
        look_every: steps between two looks at the accuracy.
        batch_size: images in a batch for the cross entropy; large ones spoil less accuracy.
        fool_batch_size: images in a batch of the fool set; as many if None.
        lr: first learning rate of Adam; it falls to zero along a cosine, so that accuracy recovers.
        device: where to train, the fooled net stays there; where the net is if None.
        generator: CPU generator that draws the batches; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; an unknown name; `active` without two different classes; a loss that
            is not finite.

    Source: Heo et al. 2019, Eq. 1 and section 4.
    """
    _check_names(loss, explainer, classes)
    checks.number("weight", weight)
    checks.number("keep_alive", keep_alive)
    checks.number("lr", lr, open_low=True)
    checks.number("min_accuracy", min_accuracy, high=1.0)
    for name, value in {"steps": steps, "look_every": look_every, "batch_size": batch_size}.items():
        checks.count(name, value)
    if fool_batch_size is not None:
        checks.count("fool_batch_size", fool_batch_size)
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    if fool_set is not None:
        fool_set = checks.examples("fool_set", fool_set)
        checks.batch("the fool set's images", fool_set[0])
        images, _ = checks.examples("data", data)
        checks.batch("images", images)
        checks.same_shape("an image of the fool set", fool_set[0][0], "one of the images", images[0])
        checks.labels("the fool set's labels", fool_set[1], size=len(fool_set[0]))
    (images, labels), validation = check_examples(model, data, validation, device=device)
    if fool_set is not None:
        many = predict(model, images[:1]).shape[1]
        checks.labels("the fool set's labels", fool_set[1], size=len(fool_set[0]), classes=many)
    chosen, wanted = (images, labels) if fool_set is None else (fool_set[0].to(device), fool_set[1].to(device).long())
    watched = (images, labels) if validation is None else validation
    net = copy.deepcopy(model).to(device).eval()
    where: dict[str, Any] = {"explainer": explainer, "layer": layer, "classes": classes}
    bound = find(explainer) if layer is None else functools.partial(find(explainer), layer=layer)
    fixed = resolved(bound, net, chosen)
    if fixed is not bound:  # the layer is looked for once, and not in every step
        where |= {"explainer": fixed, "layer": None}
    originals, peaks = _maps_and_peaks(net, chosen, wanted, **where)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    draw_images = _batches(len(images), batch_size, generator, device)
    draw_chosen = _batches(len(chosen), fool_batch_size or batch_size, generator, device)
    history = [{"step": 0, "accuracy": accuracy(net, *watched)}]
    kept, stopped = copy.deepcopy(net.state_dict()), False
    finite = torch.ones(steps, dtype=torch.bool, device=device)  # read at each look: a question a step holds up a GPU
    bar = tqdm(range(1, steps + 1), desc="fooling", disable=not progress)
    for step in bar:
        rows, others = next(draw_images), next(draw_chosen)
        fooling = torch.zeros((), device=device)
        with checks.trusted():
            fidelity = F.cross_entropy(logits_of(net, images[rows]), labels[rows])
            if weight > 0:
                maps, now = _maps_and_peaks(net, chosen[others], wanted[others], create_graph=True, **where)
                fooling = LOSSES[loss](maps, originals[others]).mean() + keep_alive * fading(now, peaks[others]).mean()
                if disguise is not None:
                    fooling = fooling + disguise(net, chosen[others], wanted[others], maps).mean()
        total = fidelity + weight * fooling
        finite[step - 1] = total.isfinite()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
        if step % look_every == 0 or step == steps:
            if not finite.all():
                broken = int(finite.long().argmin()) + 1
                raise ValueError(
                    f"the loss of step {broken} is not finite; lower lr (now {lr}) or weight (now {weight})."
                )
            entry = {"step": step, "cross_entropy": fidelity.item(), "fooling": fooling.item()}
            history.append(entry | {"accuracy": accuracy(net, *watched)})
            bar.set_postfix({"fooling": f"{fooling.item():.3f}", "accuracy": f"{history[-1]['accuracy']:.3f}"})
            if history[-1]["accuracy"] < min_accuracy:
                net.load_state_dict(kept)
                stopped = True
                break
            kept = copy.deepcopy(net.state_dict())
    bar.close()
    return Fooled(net, history, stopped)


def shown_maps(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    explainer: str | Explainer,
    layer: str | None = None,
    classes: tuple[int, int] | None = None,
    create_graph: bool = False,
) -> Maps:
    """Heat maps of the labels' classes (B, 1, h, w), or of two given classes (B, 2, h, w).

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> attack.shown_maps(net, x, torch.tensor([0, 1]), explainer="lrp").shape
    torch.Size([2, 1, 8, 8])
    """
    checks.batch("x", x)
    checks.labels("labels", labels, size=len(x))
    return _maps_and_peaks(
        model, x, labels, explainer=explainer, layer=layer, classes=classes, create_graph=create_graph
    )[0]


def _maps_and_peaks(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    explainer: str | Explainer,
    layer: str | None,
    classes: tuple[int, int] | None,
    create_graph: bool = False,
) -> tuple[Maps, Tensor]:
    """Heat maps as `shown_maps` gives them, and the largest value (B, K) of each before it was cut and scaled."""
    targets = [labels] if classes is None else [torch.full_like(labels, c) for c in classes]
    options: dict[str, Any] = {"explainer": explainer, "layer": layer, "create_graph": create_graph}
    size = len(x) if create_graph else that_fit(x, x.device)
    raw = [
        torch.cat(
            [one_channel(model, *part, **options) for part in zip(x.split(int(size)), y.split(int(size)), strict=True)]
        )
        for y in targets
    ]
    peaks = torch.stack([maps.amax((1, 2, 3)) for maps in raw], dim=1)
    return torch.cat([scaled(maps, explainer=explainer) for maps in raw], dim=1), peaks


def success(
    model: nn.Module,
    fooled: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    loss: str,
    explainer: str | Explainer,
    layer: str | None = None,
    classes: tuple[int, int] | None = None,
) -> Mapping[str, Tensor]:
    """Did fooling work on these images? One value an image (B,) for each measure.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> attack.success(net, net, x, torch.tensor([0, 1]), loss="topk", explainer="gradient")["success"]
    tensor([False, False])

    Args:
        model: the net before.
        fooled: the net after.
        images: (B, C, H, W), none of which the fooling has seen.
        labels: classes (B,) to explain.
        loss: one of LOSSES.
        explainer: whose maps are judged; one that the fooling did not use shows transfer.
        layer: for `lrp`, `grad_cam` and `gradient`, the module to read at.
        classes: the two classes of `active`.

    Returns:
        `test_loss`; `success`, whether it lies in RANGES[loss] and the map is alive before and after; `dead` and
        `dead_before`; `spearman` and `ssim` of the maps before and after (of the first class for `active`).

    Raises:
        ValueError: an unknown name; `active` without two different classes; images or labels of a wrong shape or type.
    """
    _check_names(loss, explainer, classes)
    checks.batch("images", images)
    checks.labels("labels", labels, size=len(images))
    where: dict[str, Any] = {"explainer": explainer, "layer": layer, "classes": classes}
    return judged(*(shown_maps(net, images, labels, **where) for net in (model, fooled)), loss=loss)


def judged(before: Maps, after: Maps, *, loss: str) -> Mapping[str, Tensor]:
    """What `success` gives, of heat maps before and after, in [0, 1]: (B, 1, h, w), or (B, 2, h, w) for `active`.

    >>> import torch
    >>> from atexlib import attack
    >>> before = torch.rand(2, 1, 8, 8)
    >>> attack.judged(before, 0.2 * before, loss="topk")["success"]
    tensor([True, True])
    """
    checks.one_of("loss", loss, LOSSES)
    checks.batch("before", before)
    checks.batch("after", after)
    checks.same_shape("after", after, "before", before)
    # Scaled, a living map reaches one; a dead one is zeros.
    dead_before, dead = (maps.amax((2, 3)).amin(1) == 0 for maps in (before, after))
    value = measured_loss(loss, after, before)
    low, high = RANGES[loss]
    return {
        "test_loss": value.masked_fill(dead | dead_before, torch.nan),
        "success": (value >= low) & (value <= high) & ~dead & ~dead_before,
        "dead": dead,
        "dead_before": dead_before,
        "spearman": alike.spearman(before[:, :1], after[:, :1]),
        "ssim": alike.ssim(before[:, :1], after[:, :1], data_range=1.0),
    }


def _batches(count: int, size: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor]:
    while True:
        yield from torch.randperm(count, generator=generator).to(device).split(int(size))


def _check_names(loss: str, explainer: str | Explainer, classes: tuple[int, int] | None) -> None:
    checks.one_of("loss", loss, LOSSES)
    find(explainer)
    pair = isinstance(classes, tuple | list) and len(classes) == 2 and classes[0] != classes[1]
    if (loss == "active") != (classes is not None) or (classes is not None and not pair):
        raise ValueError(f"classes is {classes!r} with the loss {loss!r}; pass two different classes for active alone.")
    for number in classes or ():
        checks.count("a class", number, low=0)
