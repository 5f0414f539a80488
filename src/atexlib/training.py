"""Training a classifier: Adam, a learning rate that falls along a cosine, the epoch best on validation images kept."""

import copy
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from . import checks
from .models import logits_of


class Fitted(NamedTuple):
    """A trained net, its history (one dict an epoch: loss, accuracy) and the epoch that was kept (from 1)."""

    model: nn.Module
    history: list[dict[str, float]]
    best_epoch: int


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    device: str | torch.device = "cpu",
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of `model` with cross entropy; the model handed in stays as it was.

    Args:
        model: net that returns logits (B, C).
        images: (N, C, H, W), floats.
        labels: (N,), whole numbers from 0.
        validation: images and labels that choose the best epoch; without them the last epoch is kept.
        epochs: passes over the images.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        weight_decay: L2 penalty of Adam.
        device: where to train; the trained net stays there.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: images or labels of a wrong shape, type or range; numbers out of range; a loss that is not finite.
    """
    checks.count("epochs", epochs)
    checks.count("batch_size", batch_size)
    checks.number("lr", lr, open_low=True)
    checks.number("weight_decay", weight_decay)
    checks.batch("images", images)
    checks.labels("labels", labels, size=len(images))
    if validation is not None:
        checks.batch("validation images", validation[0])
        checks.labels("validation labels", validation[1], size=len(validation[0]))
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device)
    model = copy.deepcopy(model).to(device)
    classes = predict(model, images[:1]).shape[1]
    for name, given in {"labels": labels, "validation labels": labels if validation is None else validation[1]}.items():
        checks.labels(name, given, size=len(given), classes=classes)
    images, labels = images.to(device), labels.to(device).long()
    steps = math.ceil(len(images) / batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * steps)
    history: list[dict[str, float]] = []
    best, best_epoch = -math.inf, epochs
    best_state = None
    bar = tqdm(total=epochs * steps, desc="training", disable=not progress)
    for epoch in range(1, epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(images), generator=generator).to(device).split(batch_size):
            logits = model(images[rows])
            loss = F.cross_entropy(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
            bar.update()
        entry = {"epoch": epoch, "loss": total.item() / len(images)}
        if not math.isfinite(entry["loss"]):
            raise ValueError(f"the loss of epoch {epoch} is {entry['loss']}; lower lr (now {lr}) or check the images.")
        if validation is not None:
            entry["accuracy"] = accuracy(model, *validation)
            if entry["accuracy"] > best:
                best, best_epoch = entry["accuracy"], epoch
                best_state = copy.deepcopy(model.state_dict())
            bar.set_postfix(validation=f"{entry['accuracy']:.3f}")
        history.append(entry)
    bar.close()
    if best_state is not None:
        model.load_state_dict(best_state)
    return Fitted(model.eval(), history, best_epoch)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 250) -> float:
    """Share of the images whose predicted class is their label, in [0, 1]."""
    checks.batch("images", images)
    checks.labels("labels", labels, size=len(images))
    logits = predict(model, images, batch_size=batch_size)
    checks.labels("labels", labels, size=len(images), classes=logits.shape[1])
    return (logits.argmax(1) == labels.to(logits.device)).double().mean().item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 250) -> Tensor:
    """Logits (N, C) of images (N, C, H, W), in eval mode, batch by batch on the model's device."""
    checks.batch("images", images)
    checks.count("batch_size", batch_size)
    checks.net("model", model)
    device = next(model.parameters(), images).device
    mode = model.training
    model.eval()
    logits = torch.cat([logits_of(model, batch.to(device)) for batch in images.split(batch_size)])
    model.train(mode)
    return logits
