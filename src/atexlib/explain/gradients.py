"""Explainers that differentiate a class's logit: once, or at many points whose gradients are averaged."""

import functools
import math
import numbers
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import checks
from ..nets.convolution import FixedWeights, weights_are_fixed
from ..nets.running import logits_of, predict, that_fit
from . import layers
from .registry import explainer

Target = int | Tensor | None
KEPT = 1024  # images of which a graph is kept


@explainer(label="gradient", signed=False, reads_layer=True)
def gradient(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    layer: str | nn.Module | None = None,
    create_graph: bool = False,
) -> Tensor:
    """Vanilla gradient d f_c / d x of the target's logit; with a layer, by the output (B, K, ...) of that layer.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> explain.gradient(nets.ConvNet().eval(), torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        layer: module, or its name, at whose output the gradient is taken; the image if None. Of a layer that is called
            several times the last call counts. An output (B, h, w, K) is turned to (B, K, h, w).
        create_graph: keep the graph, so that the map can be differentiated.

    Returns:
        Raw signed map of the shape of x, or of the layer's output; logit per unit of pixel value or activation.

    Raises:
        ValueError: x of a wrong shape, dtype or with nan; a target out of range; a layer that does not exist.

    Source: Simonyan et al. 2014; phi of Tang et al. 2022.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    with torch.enable_grad(), _constants(create_graph):
        if layer is not None:
            score, output = _score_and_output(model, x, target, layers.name_of(model, layer))
            slope = _derivative(score, output, create_graph)
            return layers.reading(model, x, layer).maps(slope) if output.ndim == 4 else slope
        return _derivative(target_logits(logits_of(model, x), target), x, create_graph)


@explainer(label="gradient x input", signed=True)
def gradient_x_input(model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False) -> Tensor:
    """Gradient times input, x * d f_c / d x: arguments, shapes and errors as for `gradient`, units of logit.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> torch.equal(explain.gradient_x_input(net, x), x * explain.gradient(net, x))
    True

    Source: Shrikumar et al. 2017; Ancona et al. 2018.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    product = x * gradient(model, x, target, create_graph=create_graph)
    return product if create_graph else product.detach()


@explainer(label="Grad-CAM", signed=True, reads_layer=True, from_zero=True)
def grad_cam(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    layer: str | nn.Module | layers.Reading | None = None,
) -> Tensor:
    """Grad-CAM: a layer's channels, weighted by their mean gradients, summed and enlarged to the image's size.

    Transformers' tokens and maps whose channels come last are read as (B, K, h, w). The final ReLU of the paper is left
    to the caller (`map.relu()`), as all maps here are raw and signed.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> explain.grad_cam(net, x, 3, layer="conv1").shape
    torch.Size([2, 1, 8, 8])

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated.
        layer: module, its name in `model.named_modules()`, or a `Reading` found before; the last feature map on the way
            to the logits if None, see `layers.reading`.

    Returns:
        Raw signed map (B, 1, H, W), bilinear from (h, w).

    Raises ValueError for a layer that does not exist or gives no map. Source: Selvaraju et al. 2017.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    place = layer if isinstance(layer, layers.Reading) else layers.reading(model, x, layer)
    with torch.enable_grad(), _constants(create_graph):
        score, output = _score_and_output(model, x, target, place.name)
        weights = place.maps(_derivative(score, output, create_graph)).mean((2, 3), keepdim=True)
        cam = (weights * place.maps(output)).sum(1, keepdim=True)
        cam = F.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False)
    return cam if create_graph else cam.detach()


def _constants(create_graph: bool) -> AbstractContextManager:
    """Where no graph is kept the weights may count as constants, which is faster."""
    return nullcontext() if create_graph else FixedWeights()


def _variable(x: Tensor, create_graph: bool) -> Tensor:
    """The tensor to differentiate by: x itself where its own graph is wanted, else a leaf of its own."""
    return x if create_graph and x.requires_grad else x.detach().requires_grad_()


def target_logits(logits: Tensor, target: Target) -> Tensor:
    """The targets' logits (B,)."""
    if target is None:
        return logits.max(1).values
    if not isinstance(target, Tensor):
        if isinstance(target, list | tuple | np.ndarray):
            raise ValueError(
                f"target is {target!r}; pass torch.tensor([...]) with a class for each image, or one class."
            )
        checks.count("target", target, low=0, high=logits.shape[1] - 1)
        return logits[:, target]
    checks.labels("target", target, size=len(logits), classes=logits.shape[1])
    return logits.gather(1, target.to(logits.device).long().unsqueeze(1))[:, 0]


def _derivative(score: Tensor, variable: Tensor, create_graph: bool) -> Tensor:
    # The sum's gradient holds each image's own gradient: in eval mode no image touches another one's logit.
    found: Sequence[Tensor | None] = [None]
    if score.requires_grad:
        found = torch.autograd.grad(score.sum(), variable, create_graph=create_graph, allow_unused=True)
    if found[0] is None:
        raise ValueError("the logits do not depend on what the map shows; name a layer that they depend on.")
    return found[0]


def _score_and_output(model: nn.Module, x: Tensor, target: Target, name: str) -> tuple[Tensor, Tensor]:
    """The targets' logits (B,), and what the layer returned at its last call."""
    with layers.outputs_of(model, name) as outputs:
        score = target_logits(logits_of(model, x), target)
    if not outputs or not isinstance(outputs[-1], Tensor):
        raise ValueError(
            f"layer {name!r} gives no tensor; name one that the net calls and that has one output. A traced net calls "
            "no containers."
        )
    return score, outputs[-1]


@explainer(label="SmoothGrad", signed=False)
def smoothgrad(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    samples: int = 25,
    sigma: float = 0.1,
    generator: torch.Generator | None = None,
    chunk: int | None = None,
) -> Tensor:
    """SmoothGrad: the mean gradient over `samples` copies of x with Gaussian noise of standard deviation `sigma`.

    All images of a batch get the same draws of noise, so that a map does not depend on its neighbours in the batch. The
    noisy copies are not clipped.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> explain.smoothgrad(net, x, samples=4, sigma=0.1).shape
    torch.Size([2, 1, 8, 8])

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the class predicted without noise if None.
        create_graph: keep the graph, so that the map can be differentiated.
        samples: number of noisy copies.
        sigma: noise in the units of x.
        generator: CPU generator of the noise; a new one with seed 0 if None, so that the map is a function of x.
        chunk: most images that are in the net at once. With `create_graph`, what lies beyond the first chunk is
            computed a second time in the backward pass instead of being kept in memory. If None: 1024, or without a
            graph as many as `running.that_fit`.

    Returns:
        Raw signed map, shape of x.

    Source: Smilkov et al. 2017.
    """
    checks.count("samples", samples)
    checks.number("sigma", sigma)
    checks.batch("x", x)
    shape = (int(samples), *x.shape[1:])
    if generator is None:
        noise = sigma * _noise_of_seed_0(shape, x.dtype, x.device)
    else:
        noise = sigma * torch.randn(shape, generator=checks.generator(generator), dtype=x.dtype).to(x.device)
    weights = torch.full((samples,), 1 / samples, dtype=x.dtype, device=x.device)

    def noisy(x: Tensor, rows: slice, _images: slice) -> Tensor:
        return x + noise[rows].unsqueeze(1)

    return _mean_gradient(model, x, target, noisy, weights, create_graph=create_graph, chunk=chunk)


@functools.lru_cache(maxsize=4)  # an attack asks for the same noise in every step
def _noise_of_seed_0(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)


@explainer(label="integrated gradients", signed=True)
def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    baseline: float | Tensor = 0.0,
    steps: int = 32,
    chunk: int | None = None,
) -> Tensor:
    """Integrated gradients: (x - x0) times the mean gradient on the straight line from the baseline x0 to x.

    The integral is a Gauss-Legendre sum. The entries sum to f_c(x) - f_c(x0) as far as it is exact (completeness).

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> change = (net(x) - net(0 * x))[:, 3]
    >>> torch.allclose(explain.integrated_gradients(net, x, 3).sum((1, 2, 3)), change, atol=1e-3)
    True

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the class predicted at x if None.
        create_graph: keep the graph, so that the map can be differentiated.
        baseline: x0, a number or a tensor that broadcasts to x.
        steps: points on the line.
        chunk: most images that are in the net at once; see `smoothgrad`.

    Returns:
        Raw signed map, shape of x, units of logit.

    Source: Sundararajan et al. 2017.
    """
    checks.count("steps", steps)
    checks.batch("x", x)
    x = _variable(x, create_graph)
    x0 = _baseline(baseline, x)
    alphas, weights = _gauss_legendre(int(steps), x.dtype, x.device)

    def between(x: Tensor, rows: slice, images: slice) -> Tensor:
        start = x0[images] if isinstance(x0, Tensor) else x0
        return start + alphas[rows].view(-1, 1, 1, 1, 1) * (x - start)

    mean = _mean_gradient(model, x, target, between, weights, create_graph=create_graph, chunk=chunk)
    product = (x - x0) * mean
    return product if create_graph else product.detach()


@functools.lru_cache(maxsize=4)
def _gauss_legendre(steps: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Points and weights of a mean over [0, 1]."""
    pair = np.polynomial.legendre.leggauss(steps)  # over [-1, 1], the weights sum to 2
    points, weights = (torch.as_tensor(values, dtype=dtype, device=device) for values in pair)
    return (points + 1) / 2, weights / 2


def _mean_gradient(
    model: nn.Module,
    x: Tensor,
    target: Target,
    copies: Callable[[Tensor, slice, slice], Tensor],
    weights: Tensor,
    *,
    create_graph: bool,
    chunk: int | None,
) -> Tensor:
    """Weighted sum of the gradients at copies of x: `copies(x[images], rows, images)` is (rows, images, C, H, W)."""
    if chunk is None:
        chunk = KEPT if create_graph else that_fit(x, x.device)
    checks.count("chunk", chunk)
    x = _variable(x, create_graph)
    if isinstance(target, Tensor):
        checks.labels("target", target, size=len(x))
    if target is None or not checks.is_trusted():  # what is wrong with the logits is said of the images, not of copies
        logits = predict(model, x.detach(), batch_size=chunk)
        target = logits.argmax(1) if target is None else target

    fixed = weights_are_fixed()

    def part(x: Tensor, rows: slice, images: slice) -> Tensor:
        batch = copies(x[images], rows, images)
        count = len(batch)
        classes = target[images].repeat(count) if isinstance(target, Tensor) else target
        with FixedWeights() if fixed else nullcontext():
            maps = gradient(model, batch.flatten(0, 1), classes, create_graph=create_graph)
        return torch.tensordot(weights[rows], maps.unflatten(0, (count, -1)), dims=1)

    totals: list[Tensor] = []
    repeats, size = max(1, chunk // len(x)), int(min(chunk, len(x)))
    for first in range(0, len(x), size):
        images = slice(first, first + size)
        total = torch.zeros_like(x[images])
        for start in range(0, len(weights), repeats):
            rows = slice(start, start + repeats)
            if create_graph and (start > 0 or first > 0):
                total = total + checkpoint(part, x, rows, images, use_reentrant=False)
            else:
                total = total + part(x, rows, images)
        totals.append(total)
    return torch.cat(totals)


def _baseline(baseline: float | Tensor, x: Tensor) -> float | Tensor:
    if isinstance(baseline, numbers.Real) and math.isfinite(baseline):
        return float(baseline)
    try:
        x0 = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
        if x0.isfinite().all() and torch.broadcast_shapes(x0.shape, x.shape) == x.shape:
            return x0.expand_as(x)
    except (TypeError, ValueError, RuntimeError):
        pass  # what torch cannot turn into a tensor, or cannot broadcast, does not fit either
    raise ValueError(f"baseline is {baseline!r}; pass a finite number, or images that fit {tuple(x.shape)}.")
