"""Attacks on the prediction: FGSM and PGD."""

import torch
from torch import Tensor, nn

from .. import checks
from ..nets.running import frozen, logits_of, predict
from .ascent import check_effort
from .ball import Ball

BATCH = 250


@checks.derivatives()
def loss_gradient(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Gradient of each image's cross entropy by the image: the direction of FGSM before its sign is taken.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> attack.loss_gradient(net, x, torch.tensor([0, 1])).shape
    torch.Size([2, 1, 8, 8])

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W).
        labels: true classes (B,).

    Raises:
        ValueError: images or labels of a wrong shape, type or range.

    Source: Tang et al. 2022, Theorem 1 (there it is called delta).
    """
    _check(model, x, labels)
    with frozen(model):
        return _logits_and_slope(model, x, labels)[1]


@checks.derivatives()
def fgsm(
    model: nn.Module, x: Tensor, labels: Tensor, *, eps: float, bounds: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Fast gradient sign method: one step of `eps` along the sign of the loss gradient, clipped to the bounds.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> z = attack.fgsm(net, x, torch.tensor([0, 1]), eps=0.1)
    >>> bool((z - x).abs().max() <= 0.1)
    True

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
    with frozen(model):
        slopes = torch.cat([_logits_and_slope(model, z, y)[1] for z, y in parts])
    return Ball(x, eps, "linf", bounds).project(x + eps * slopes.sign())


@checks.derivatives()
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

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> y = torch.tensor([0, 1])
    >>> z = attack.pgd(net, x, y, eps=0.1, steps=5)
    >>> bool((attack.margin(net(z), y) <= attack.margin(net(x), y)).all())
    True

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
    check_effort(eps=eps, norm=norm, steps=steps, starts=starts, step_size=step_size)
    generator = checks.generator(generator)
    _check(model, x, labels, bounds)
    length = 2.5 * eps / steps if step_size is None else step_size
    parts = zip(x.detach().split(BATCH), labels.split(BATCH), strict=True)
    with frozen(model):
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
    """The label's logit minus the largest other one (B,), from logits (B, C): below 0 where the prediction is wrong.

    >>> import torch
    >>> from atexlib import attack
    >>> attack.margin(torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]), torch.tensor([0, 1]))
    tensor([ 1., -2.])
    """
    own = labels.to(logits.device).long().unsqueeze(1)
    return logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)


def _logits_and_slope(model: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        logits = logits_of(model, z)
        # The slope of cross entropy is softmax minus one at the label: there the probability of a sure net rounds to 1
        # in float32, and the largest part would be lost. The others' sum, which it equals, keeps all its digits.
        own = labels.to(logits.device).long().unsqueeze(1)
        slope = logits.detach().softmax(1).scatter(1, own, 0.0)
        slope = slope.scatter(1, own, -slope.sum(1, keepdim=True))
        return logits.detach(), torch.autograd.grad(logits, z, slope)[0]


def _check(model: nn.Module, x: Tensor, labels: Tensor, bounds: tuple[float, float] | None = None) -> None:
    checks.net("model", model)
    if bounds is not None:
        checks.interval("bounds", bounds)
    checks.batch("x", x, bounds=bounds)
    checks.fine("x", x)
    checks.labels("labels", labels, size=len(x))
    checks.labels("labels", labels, size=len(x), classes=predict(model, x[:1]).shape[1])
