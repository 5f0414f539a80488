"""Training a classifier: Adam, a learning rate that falls along a cosine, the epoch best on validation images kept."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from .running import accuracy, check_steady, logits_of, plain, predict

Examples = object  # an ImageSet, a pair (images, labels) or a TensorDataset: see `checks.examples`
EVALUATED = 500  # images at which is looked: by a defence's own loss, which chooses the epoch; at logits, at the start


@dataclass(frozen=True)
class Fitted:
    """A trained net, its history (one dict an epoch: loss, what was validated) and the epoch that was kept (from 1).

    >>> from atexlib import nets
    >>> nets.Fitted(nets.ConvNet(), [{"epoch": 1, "loss": 0.5}], 1).history[-1]["loss"]
    0.5
    """

    model: nn.Module
    history: list[dict[str, float]]
    best_epoch: int


def fit(
    model: nn.Module,
    data: Examples,
    *,
    validation: Examples | None = None,
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of `model` with cross entropy; the model handed in stays as it was.

    >>> from atexlib import data, nets
    >>> fitted = nets.fit(nets.ConvNet(), data.load("digits", "train").first(100), epochs=1, batch_size=20)
    >>> fitted.best_epoch, fitted.model.training
    (1, False)

    Args:
        model: net that returns logits (B, C).
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats, and labels (N,) from 0.
        validation: images and labels that choose the best epoch; without them the last epoch is kept.
        epochs: passes over the images.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        weight_decay: L2 penalty of Adam.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: images or labels of a wrong shape, type or range; numbers out of range; a loss that is not finite.
    """
    check_schedule(epochs, batch_size, lr, weight_decay)
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    (images, labels), validation = check_examples(model, data, validation, device=device)
    return optimize(
        model,
        lambda model, rows: F.cross_entropy(logits_of(model, images[rows]), labels[rows]),
        count=len(images),
        validate=None if validation is None else lambda model: {"accuracy": accuracy(model, *validation)},
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        device=device,
        generator=generator,
        progress=progress,
    )


@checks.derivatives()
def optimize(
    model: nn.Module,
    loss: Callable[[nn.Module, Tensor], Tensor],
    *,
    count: int,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    epochs: int,
    batch_size: int = 100,
    steps_per_batch: int = 1,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    device: torch.device,
    generator: torch.Generator,
    progress: bool = False,
) -> Fitted:
    """Minimise `loss(model, rows)`, rows being the numbers of a batch's images, on a copy of `model`.

    Args:
        model: net to start from.
        loss: mean loss of a batch, differentiable.
        count: number of images; their order is shuffled in each epoch.
        validate: what to measure after each epoch, called with the net in eval mode; the epoch with the largest first
            value is kept. The last epoch without it.
        epochs: passes over the images.
        batch_size: images in a batch.
        steps_per_batch: steps of the optimiser on a batch before the next one.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        weight_decay: L2 penalty of Adam.
        device: where to train; the trained net stays there.
        generator: CPU generator that shuffles the images.
        progress: show a progress bar.

    Raises:
        ValueError: a loss that is not finite.
    """
    model = copy.deepcopy(plain(model)).to(device)
    steps = epochs * len(_batches(torch.arange(count), int(batch_size))) * steps_per_batch
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    history: list[dict[str, float]] = []
    best, best_epoch = -math.inf, epochs
    best_state = None
    bar = tqdm(total=steps, desc="training", disable=not progress)
    for epoch in range(1, epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        for rows in _batches(torch.randperm(count, generator=generator).to(device), int(batch_size)):
            for _ in range(steps_per_batch):
                with checks.trusted():
                    value = loss(model, rows)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
                total += value.detach() * len(rows) / steps_per_batch
                bar.update()
        entry = {"epoch": epoch, "loss": total.item() / count}
        if not math.isfinite(entry["loss"]):
            raise ValueError(
                f"the loss of epoch {epoch} is {entry['loss']}; lower lr (now {lr}), or see by nets.predict(model, "
                "images) for which images the logits are not finite."
            )
        if validate is not None:
            measured = validate(model.eval())
            entry |= measured
            score = next(iter(measured.values()))
            if score > best:
                best, best_epoch = score, epoch
                best_state = copy.deepcopy(model.state_dict())
            bar.set_postfix({name: f"{value:.3f}" for name, value in measured.items()})
        history.append(entry)
    bar.close()
    if best_state is not None:
        model.load_state_dict(best_state)
    return Fitted(model.eval(), history, best_epoch)


def _batches(order: Tensor, size: int) -> tuple[Tensor, ...]:
    """Batches of numbers; a single one that is left joins the batch before, as batch norm cannot train on one image."""
    batches = order.split(size)
    if size == 1 or len(batches) == 1 or len(batches[-1]) > 1:
        return batches
    return (*batches[:-2], torch.cat(batches[-2:]))


def validate_by(
    loss: Callable[..., Tensor], validation: tuple[Tensor, ...] | None
) -> Callable[[nn.Module], dict[str, float]] | None:
    """What `optimize` shall validate: minus a loss, which decides, and accuracy; None without images.

    `validation` holds images, labels and what else the loss needs of each image: it is called with the net and the
    first of all these.
    """
    if validation is None:
        return None
    first = [values[:EVALUATED] for values in validation]
    images, labels = validation[:2]

    def validate(net: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            score = -loss(net, *first).item()
        return {"score": score, "accuracy": accuracy(net, images, labels)}

    return validate


def working_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy in eval mode, channels last, which is nearly twice as fast on the CPU."""
    return copy.deepcopy(plain(model)).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def check_schedule(
    epochs: int, batch_size: int, lr: float, weight_decay: float = 0.0, steps_per_batch: int = 1
) -> None:
    """Raise unless the numbers of a training are such as they can be."""
    for name, value in {"epochs": epochs, "batch_size": batch_size, "steps_per_batch": steps_per_batch}.items():
        checks.count(name, value)
    checks.number("lr", lr, open_low=True)
    checks.number("weight_decay", weight_decay)


def drawing_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """The generator itself on a CPU; else one on the device, seeded by it: what it draws there need not be copied."""
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def check_examples(
    model: nn.Module, data: Examples, validation: Examples | None = None, *, device: torch.device
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor] | None]:
    """Images and labels, and those for validation, on a device; raise unless the net can be trained on such ones."""
    images, labels = checks.examples("data", data)
    validation = None if validation is None else checks.examples("validation", validation)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("every weight of the model is frozen; call model.requires_grad_() before you train it.")
    pairs = {"": (images, labels)} | ({} if validation is None else {"validation ": validation})
    for prefix, (x, y) in pairs.items():
        checks.batch(f"{prefix}images", x)
        checks.fine(f"{prefix}images", x)
        checks.labels(f"{prefix}labels", y, size=len(x))
    if validation is not None:
        checks.same_shape("a validation image", validation[0][0], "one of the images", images[0])
    check_steady(model, images)
    classes = predict(model, images[:EVALUATED]).shape[1]
    for prefix, (x, y) in pairs.items():
        checks.labels(f"{prefix}labels", y, size=len(x), classes=classes)
    moved = [(x.to(device), y.to(device).long()) for x, y in pairs.values()]
    return moved[0], moved[1] if validation is not None else None
