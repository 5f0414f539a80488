"""The cheapest rivals, which know nothing of explanations: other units, other pooling, more passes or fewer."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import checks
from ..nets.convnet import with_beta
from ..nets.pooling import check_pooling, with_pooling
from ..nets.running import logits_of
from ..nets.training import Examples, Fitted, check_examples, check_schedule, fit, optimize, working_copy
from .registry import defense


def smooth(model: nn.Module, *, beta: float | None = None, pooling: str | float | None = None) -> nn.Module:
    """A copy of a net whose softplus units are blunter, whose max-pooling is smooth, or both; the weights stay.

    >>> from atexlib import defend, nets
    >>> defend.smooth(nets.ConvNet(), beta=3, pooling="average").act1
    Softplus(beta=3, threshold=20.0)
    """
    if beta is None and pooling is None:
        raise ValueError("beta and pooling are both None; say which of them shall be smoother.")
    model = model if beta is None else with_beta(model, beta)
    return model if pooling is None else with_pooling(model, pooling)


def smoothed(model: nn.Module, settings: Mapping[str, Any]) -> nn.Module:
    """The architecture that `beta` and `pooling` among the settings of a defence make of a net."""
    return smooth(model, beta=settings.get("beta"), pooling=settings.get("pooling"))


@defense("beta_swapped", label="beta 3, not trained", settings={"beta": 3.0, "epochs": 0}, shape=smoothed)
@defense("beta_1.5", label="beta 1.5", settings={"beta": 1.5, "epochs": 2}, shape=smoothed)
@defense("beta", label="beta 3", settings={"beta": 3.0, "epochs": 2}, shape=smoothed)
@defense(
    "pooling_swapped",
    label="average pooling, not trained",
    settings={"pooling": "average", "epochs": 0},
    shape=smoothed,
)
@defense("pooling", label="average pooling", settings={"pooling": "average", "epochs": 8}, shape=smoothed)
def smoothing(
    model: nn.Module,
    data: Examples,
    *,
    epochs: int,
    beta: float | None = None,
    pooling: str | float | None = None,
    validation: Examples | None = None,
    batch_size: int = 100,
    lr: float = 1e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a smoother copy of a net on, with cross entropy: beta-smoothing, smooth pooling.

    >>> from atexlib import data, defend, nets
    >>> few = data.load("digits", "train").first(40)
    >>> defend.smoothing(nets.ConvNet(), few, pooling="average", epochs=1).model.pool
    AvgPool2d(kernel_size=2, stride=2, padding=0)

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats, and labels (N,) from 0.
        epochs: passes over the images; 0 leaves the weights as they are.
        beta: sharpness of the softplus units, see `nets.with_beta`.
        pooling: see `nets.with_pooling`.
        validation: images and labels that choose the best epoch; without them the last epoch is kept.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: neither beta nor pooling; a wrong shape, type or range; a loss that is not finite.

    Source: Dombrowski et al. 2019, beta-smoothing.
    """
    checks.net("model", model)
    checks.count("epochs", epochs, low=0)
    generator, device = checks.generator(generator), checks.device(device, model)
    check_schedule(max(1, epochs), batch_size, lr)
    if beta is not None:
        checks.number("beta", beta, open_low=True)
    if pooling is not None:
        check_pooling(pooling)
    check_examples(model, data, validation, device=device)
    model = smooth(model, beta=beta, pooling=pooling)
    if epochs == 0:
        return Fitted(model.to(device), [], 0)
    run: dict[str, Any] = {"validation": validation, "batch_size": batch_size, "lr": lr, "device": device}
    return fit(model, data, epochs=epochs, generator=generator, progress=progress, **run)


@defense("early_2", label="none, 2 passes", settings={"epochs": 2})
@defense("early_5", label="none, 5 passes", settings={"epochs": 5})
@defense("long_30", label="none, 30 passes", settings={"epochs": 30})
def anew(
    model: nn.Module,
    data: Examples,
    *,
    epochs: int,
    validation: Examples | None = None,
    batch_size: int = 100,
    lr: float = 1e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of a net from new random weights, with cross entropy, for so many passes.

    >>> from atexlib import data, defend, nets
    >>> defend.anew(nets.ConvNet(), data.load("digits", "train").first(40), epochs=2).best_epoch
    2

    Args:
        model: net whose layers can draw their weights anew, as those of torch.nn can; it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats, and labels (N,) from 0.
        epochs: passes over the images.
        validation: images and labels that choose the best epoch; without them the last epoch is kept.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator of the weights and of the order of the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; a loss that is not finite.
    """
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    check_schedule(epochs, batch_size, lr)
    check_examples(model, data, validation, device=device)
    model = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for layer in model.modules():
            if callable(draw := getattr(layer, "reset_parameters", None)):
                draw()
    run: dict[str, Any] = {"validation": validation, "batch_size": batch_size, "lr": lr, "device": device}
    return fit(model, data, epochs=epochs, generator=generator, progress=progress, **run)


@defense(
    "ema",
    label="averaged weights",
    settings={"lr": 5e-3},
    cost=1.0,
    strength="lr",
)
def averaged(
    model: nn.Module,
    data: Examples,
    *,
    epochs: int,
    decay: float = 0.999,
    validation: Examples | None = None,
    batch_size: int = 100,
    lr: float = 5e-3,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of a net on with cross entropy, and return the running average of its weights.

    >>> from atexlib import data, defend, nets
    >>> defend.averaged(nets.ConvNet(), data.load("digits", "train").first(40), epochs=1).best_epoch
    1

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats, and labels (N,) from 0.
        epochs: passes over the images.
        decay: the part of the average that each step keeps, below 1.
        validation: images and labels of the shape of the others; the last average is kept whatever they say.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine. The average is over what this lets wander.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; a loss that is not finite.

    Source: Polyak & Juditsky 1992; Izmailov et al. 2018.
    """
    checks.number("decay", decay, high=1)
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    check_schedule(epochs, batch_size, lr)
    (x, y), _ = check_examples(model, data, validation, device=device)
    student = working_copy(model, device)
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        average.update_parameters(net)
        return F.cross_entropy(logits_of(net, x[rows]), y[rows])

    fitted = optimize(
        student,
        loss,
        count=len(x),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        generator=generator,
        progress=progress,
    )
    average.update_parameters(fitted.model)
    return Fitted(average.module.eval(), fitted.history, fitted.best_epoch)
