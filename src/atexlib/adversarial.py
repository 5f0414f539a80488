"""Adversarial attacks, which change the prediction, and adversarial training, which defends it: FGSM and PGD."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checks
from .ascent import NORMS, Ball
from .models import frozen, logits_of
from .training import check_examples, check_schedule, optimise, predict, working_copy

BATCH = 250


def loss_gradient(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross entropy by the image: the direction of FGSM before its sign is taken.

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W).
        labels: true classes (B,).

    Raises:
        ValueError: images or labels of a wrong shape, type or range.

    Source: Tang et al. 2022, Theorem 1 (there it is called delta).
    """
    _check(model, x, labels)
    return _logits_and_slope(model, x, labels)[1]


def fgsm(
    model: nn.Module, x: Tensor, labels: Tensor, *, eps: float, bounds: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Fast gradient sign method: one step of `eps` along the sign of the loss gradient, clipped to the bounds.

    Args:
        model: net that returns logits (B, C).
        x: images (N, C, H, W), worked through batch by batch.
        labels: true classes (N,).
        eps: largest change of a pixel.
        bounds: smallest and largest value of a pixel.

    Returns:
        Images (N, C, H, W).

    Raises:
        ValueError: images or labels of a wrong shape, type or range; a negative eps.

    Source: Goodfellow et al. 2015.
    """
    checks.number("eps", eps)
    _check(model, x, labels, bounds)
    x = x.detach()
    parts = zip(x.split(BATCH), labels.split(BATCH), strict=True)
    slopes = torch.cat([_logits_and_slope(model, z, y)[1] for z, y in parts])
    return Ball(x, eps, "linf", bounds).project(x + eps * slopes.sign())


def pgd(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 20,
    step_size: float | None = None,
    starts: int = 1,
    bounds: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent: many small steps up the loss; of all iterates the one with the smallest margin.

    The margin is the label's logit minus the largest other one, so if any iterate is misclassified, what is returned
    is. The first start is x itself, each other one a random corner of the ball.

    Args:
        model: net that returns logits (B, C).
        x: images (N, C, H, W), worked through batch by batch.
        labels: true classes (N,).
        eps: radius of the ball.
        norm: `linf` or `l2`.
        steps: gradient steps from each start.
        step_size: length of a step in the norm; 2.5 eps / steps if None.
        starts: number of starts.
        bounds: smallest and largest value of a pixel.
        generator: CPU generator of the starts; a new one with seed 0 if None.

    Returns:
        Images (N, C, H, W).

    Raises:
        ValueError: images or labels of a wrong shape, type or range; numbers out of range; an unknown norm.

    Source: Madry et al. 2018.
    """
    checks.number("eps", eps)
    checks.one_of("norm", norm, NORMS)
    checks.count("steps", steps)
    checks.count("starts", starts)
    if step_size is not None:
        checks.number("step_size", step_size, open_low=True)
    generator = checks.generator(generator)
    _check(model, x, labels, bounds)
    length = 2.5 * eps / steps if step_size is None else step_size
    parts = zip(x.detach().split(BATCH), labels.split(BATCH), strict=True)
    return torch.cat(
        [_descend(model, Ball(z, eps, norm, bounds), y, steps, length, starts, generator) for z, y in parts]
    )


def _descend(
    model: nn.Module, ball: Ball, labels: Tensor, steps: int, length: float, starts: int, generator: torch.Generator
) -> Tensor:
    best, smallest = ball.center, torch.full_like(ball.center[:, 0, 0, 0], torch.inf)
    for start in range(starts):
        z = ball.center if start == 0 else ball.corner(generator)
        for step in range(steps + 1):
            logits, slope = _logits_and_slope(model, z, labels)
            value = margin(logits, labels)
            best = torch.where((value < smallest).view(-1, 1, 1, 1), z, best)
            smallest = torch.minimum(value, smallest)
            if step < steps:
                z = ball.project(z + length * ball.steepest(slope))
    return best


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other one (B,), from logits (B, C): below 0 where the prediction is wrong."""
    own = F.one_hot(labels.to(logits.device).long(), logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).amax(1)


def adversarial_training(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    count: int | None = None,
    refresh: bool = False,
    epochs: int,
    batch_size: int = 100,
    lr: float = 1e-3,
    device: str | torch.device = "cpu",
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> nn.Module:
    """Train a copy of `model` on its training images and on FGSM images of them, with the true labels.

    Args:
        model: trained net that returns logits (B, C); it stays as it was.
        images: (N, C, H, W) in [0, 1].
        labels: (N,), whole numbers from 0.
        eps: largest change of a pixel in an FGSM image.
        count: how many FGSM images are added, made of the first images; of all of them if None.
        refresh: make the FGSM images anew in each batch, of the net as it then is. Else they are made once, of the net
            handed in, as in the paper.
        epochs: passes over the images and the FGSM images.
        batch_size: images in a batch; with `refresh` each brings its FGSM image along.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train; the trained net stays there.
        generator: CPU generator that shuffles the images; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: images or labels of a wrong shape, type or range; numbers out of range; `count` above N, or
            together with `refresh`; a loss that is not finite.

    Source: Goodfellow et al. 2015; Tang et al. 2022, section 5.4.
    """
    checks.number("eps", eps)
    check_schedule(epochs, batch_size, lr)
    generator, device = checks.generator(generator), checks.device(device)
    checks.batch("images", images, bounds=(0.0, 1.0))
    if count is not None:
        checks.count("count", count, high=len(images))
        if refresh:
            raise ValueError(f"count is {count} with refresh=True, which makes an FGSM image of each image; drop one.")
    check_examples(model, images, labels)
    images, labels = images.to(device), labels.to(device).long()
    if not refresh:
        made = fgsm(working_copy(model, device), images[:count], labels[:count], eps=eps)
        images, labels = torch.cat([images, made]), torch.cat([labels, labels[:count]])

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        x, y = images[rows], labels[rows]
        if refresh:
            x, y = torch.cat([x, fgsm(net, x, y, eps=eps)]), y.repeat(2)
        return F.cross_entropy(net(x), y)

    return optimise(
        model,
        loss,
        count=len(images),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        generator=generator,
        progress=progress,
    ).model


def _logits_and_slope(model: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with frozen(model), torch.enable_grad():
        z = x.detach().requires_grad_()
        logits = logits_of(model, z)
        # In float32 the probability of a sure net is 1, and the largest part of the gradient would be rounded away.
        loss = F.cross_entropy(logits.double(), labels.to(logits.device).long(), reduction="sum")
        return logits.detach(), torch.autograd.grad(loss, z)[0]


def _check(model: nn.Module, x: Tensor, labels: Tensor, bounds: tuple[float, float] | None = None) -> None:
    checks.net("model", model)
    if bounds is not None:
        checks.interval("bounds", bounds)
    checks.batch("x", x, bounds=bounds)
    checks.labels("labels", labels, size=len(x))
    checks.labels("labels", labels, size=len(x), classes=predict(model, x[:1]).shape[1])
