"""What the losses of defences are made of: slopes of logits and of the loss, paths between images, ascent, likeness.

Everything keeps its graph, so that training can differentiate it by the weights.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attack.ball import Ball
from ...nets.running import frozen, logits_of, of_class


def variable(x: Tensor) -> Tensor:
    """The images as something to differentiate by: themselves where they have a graph, else a leaf of their own."""
    return x if x.requires_grad else x.detach().requires_grad_()


def logits_and_map(net: nn.Module, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, C), and g: the gradient of each image's class logit by the image (B, C, H, W).

    >>> import torch
    >>> from torch import nn
    >>> from atexlib.defend.losses import parts
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> g = parts.logits_and_map(net, torch.rand(1, 1, 2, 2), torch.tensor([1]))[1]
    >>> torch.equal(g.flatten(), net[1].weight[1])
    True
    """
    with torch.enable_grad():
        x = variable(x)
        logits = logits_of(net, x)
        return logits, torch.autograd.grad(of_class(logits, classes).sum(), x, create_graph=True)[0]


def loss_and_slope(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each image (B,), and g_CE: its gradient by the image (B, C, H, W).

    >>> import torch
    >>> from torch import nn
    >>> from atexlib.defend.losses import parts
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> [part.shape for part in parts.loss_and_slope(net, torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 1]))]
    [torch.Size([3]), torch.Size([3, 1, 2, 2])]
    """
    with torch.enable_grad():
        x = variable(x)
        value = F.cross_entropy(logits_of(net, x), y, reduction="none")
        return value, torch.autograd.grad(value.sum(), x, create_graph=True)[0]


def path_gradients(net: nn.Module, a: Tensor, b: Tensor, y: Tensor, *, steps: int) -> Tensor:
    """IG(a, b): integrated gradients of the cross entropy along the line from a to b (B, C, H, W), by midpoints.

    Its sum is the rise of the loss from a to b, the better the more steps.

    >>> import torch
    >>> import torch.nn.functional as F
    >>> from torch import nn
    >>> from atexlib.defend.losses import parts
    >>> net, (a, b), y = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(2, 1, 1, 2, 2), torch.tensor([0])
    >>> rise = F.cross_entropy(net(b), y) - F.cross_entropy(net(a), y)
    >>> torch.allclose(parts.path_gradients(net, a, b, y, steps=50).sum(), rise, atol=1e-4)
    True

    Source: Sundararajan et al. 2017.
    """
    shares = (torch.arange(steps, dtype=a.dtype, device=a.device) + 0.5) / steps
    points = (a + shares.view(-1, 1, 1, 1, 1) * (b - a)).flatten(0, 1)
    slopes = loss_and_slope(net, points, y.repeat(steps))[1]
    return (b - a) * slopes.unflatten(0, (steps, len(a))).mean(0)


def uniform_in_ball(x: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Images within eps of x in each pixel, drawn uniformly, and cut to [0, 1]."""
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
    return Ball(x, eps, "linf", (0, 1)).project(x + eps * (2 * noise - 1))


def climb(
    net: nn.Module,
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    eps: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Images x' of the ball where a score (B,) is large: sign steps of 2.5 eps / steps from a random start.

    >>> import torch
    >>> from torch import nn
    >>> from atexlib.defend.losses import parts
    >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.full((1, 1, 2, 2), 0.5)
    >>> z = parts.climb(net, lambda z: z.sum((1, 2, 3)), x, eps=0.25, steps=2, generator=torch.Generator())
    >>> torch.allclose(z, x + 0.25)
    True
    """
    ball, z = Ball(x, eps, "linf", (0, 1)), uniform_in_ball(x, eps, generator)
    with frozen(net), torch.enable_grad():
        for _ in range(steps):
            z = z.detach().requires_grad_()
            value = score(z)
            if not value.requires_grad:  # the map of a linear net: nothing moves it
                break
            slope = torch.autograd.grad(value.sum(), z)[0]
            z = ball.project(z.detach() + 2.5 * eps / steps * slope.sign())
    return z.detach()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine between maps (B, C, H, W), image by image (B,)."""
    return F.cosine_similarity(a.flatten(1), b.flatten(1))


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation between maps (B, C, H, W), image by image (B,)."""
    a, b = (values.flatten(1) for values in (a, b))
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def length_squared(maps: Tensor) -> Tensor:
    """Squared Euclidean length of each map (B,)."""
    return maps.square().sum((1, 2, 3))
