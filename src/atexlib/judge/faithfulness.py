"""How a map looks and whether it is right: roughness, mass on the object, deletion and insertion curves."""

import torch
from torch import Tensor, nn

from .. import checks
from ..explain import gradients
from ..explain.gradients import Target
from ..nets.running import of_class, predict


def deletion(
    model: nn.Module, x: Tensor, maps: Tensor, target: Target = None, *, steps: int = 28, baseline: float = 0.0
) -> Tensor:
    """Probability of a class while pixels are taken away, those first where the map is largest.

    A map that names the pixels the net uses makes the probability fall early. See `area`.

    >>> import torch
    >>> from atexlib import explain, judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.deletion(net, x, explain.gradient(net, x), steps=4).shape
    torch.Size([2, 5])

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W).
        maps: (B, 1 or C, H, W); a pixel's importance is the sum of absolute values over its channels.
        target: class or classes (B,); the predicted class if None.
        steps: number of equal portions in which the pixels go.
        baseline: value of a pixel that was taken away.

    Returns:
        Probabilities of shape (B, steps + 1), with nothing, ..., all pixels taken away.

    Raises:
        ValueError: shapes that do not fit; more steps than pixels; a target out of range.

    Source: Petsiuk et al. 2018.
    """
    return _curve(model, x, maps, target, steps=steps, baseline=baseline, insert=False)


def insertion(
    model: nn.Module, x: Tensor, maps: Tensor, target: Target = None, *, steps: int = 28, baseline: float = 0.0
) -> Tensor:
    """Probability of a class while pixels are put onto an empty image: arguments, shapes and errors as `deletion`.

    A map that names the pixels the net uses makes the probability rise early.

    >>> import torch
    >>> from atexlib import explain, judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.insertion(net, x, explain.gradient(net, x), steps=4).shape
    torch.Size([2, 5])

    Source: Petsiuk et al. 2018.
    """
    return _curve(model, x, maps, target, steps=steps, baseline=baseline, insert=True)


def area(curves: Tensor) -> Tensor:
    """Area under curves (B, steps + 1) over [0, 1] by the trapezoidal rule: (B,).

    >>> import torch
    >>> from atexlib import judge
    >>> judge.area(torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    tensor([0.5000, 0.2500])
    """
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


@torch.no_grad()
def _curve(
    model: nn.Module, x: Tensor, maps: Tensor, target: Target, *, steps: int, baseline: float, insert: bool
) -> Tensor:
    checks.batch("x", x)
    checks.batch("maps", maps)
    if maps.shape[1] not in (1, x.shape[1]) or (len(maps), *maps.shape[2:]) != (len(x), *x.shape[2:]):
        raise ValueError(f"maps have shape {tuple(maps.shape)} and x {tuple(x.shape)}; pass one map for each image.")
    checks.number("baseline", baseline, low=-torch.inf)
    size = maps.abs().sum(1).flatten(1)
    checks.count("steps", steps, high=size.shape[1])
    logits = predict(model, x)
    if target is None:
        target = logits.argmax(1)
    elif isinstance(target, int):
        target = torch.full((len(x),), target, device=x.device)
    checks.labels("target", target, size=len(x), classes=logits.shape[1])
    target = target.long().to(logits.device)
    rank = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1).view(len(x), 1, *x.shape[2:])
    curve = []
    for gone in torch.linspace(0, size.shape[1], steps + 1).round().tolist():
        images = torch.where((rank < gone) == insert, x, baseline)
        curve.append(of_class(predict(model, images).softmax(1), target))
    return torch.stack(curve, dim=1)


def blurred_gradient(
    model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False, sigma: float = 1.0
) -> Tensor:
    """Absolute gradient, smoothed by a Gaussian: the trivial way to a smooth map, and an explainer like the others.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.blurred_gradient(net, x, sigma=1.0).shape
    torch.Size([2, 1, 8, 8])

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W).
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated.
        sigma: standard deviation of the Gaussian in pixels, cut off at 3 sigma.

    Raises:
        ValueError: the Gaussian's reach is not smaller than the images; as `gradients.gradient`.
    """
    checks.number("sigma", sigma, open_low=True)
    checks.four_axes("x", x)
    reach = round(3 * sigma)
    if reach >= min(x.shape[2:]):
        raise ValueError(f"sigma is {sigma} for images of {tuple(x.shape[2:])}; pass one below a third of their side.")
    maps = gradients.gradient(model, x, target, create_graph=create_graph).abs()
    from torchvision.transforms.v2.functional import gaussian_blur  # a second to import: here, not above

    return gaussian_blur(maps, [2 * reach + 1] * 2, [sigma] * 2)
