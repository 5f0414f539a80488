"""Explanations of one class's logit: every explainer is `NAME(model, x, target=None, *, create_graph=False, ...)`.

Each returns raw signed values of x's shape (Grad-CAM: one channel). `target` is a class for all images, a tensor (B,)
of classes, or None for the predicted class. With `create_graph` the map can be differentiated again, exactly, with
respect to x and to the net's weights.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import checks
from .lrp import relevance
from .models import logits_of

Target = int | Tensor | None
Explainer = Callable[..., Tensor]


def gradient(model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False) -> Tensor:
    """Vanilla gradient d f_c / d x of the target's logit.

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated.

    Returns:
        Raw signed map, shape of x, logit per unit of pixel value.

    Raises:
        ValueError: x of a wrong shape, dtype or with nan; a target out of range.

    Source: Simonyan et al. 2014; phi of Tang et al. 2022.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    with torch.enable_grad():
        logits = logits_of(model, x)
        return _derivative(_pick(logits, target), x, create_graph)


def gradient_at(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    layer: str | nn.Module | None = None,
    create_graph: bool = False,
) -> Tensor:
    """Gradient of the target's logit by the output (B, K, ...) of a layer; without a layer, by the image (`gradient`).

    Arguments and errors as for `grad_cam`. If the next layer works in place, as `ReLU(inplace=True)`,
    it is the gradient after that one; of a layer that is called several times the last call counts.

    Returns:
        Raw signed values of the output's shape, logit per unit of activation.
    """
    if layer is None:
        return gradient(model, x, target, create_graph=create_graph)
    checks.batch("x", x)
    x = _variable(x, create_graph)
    outputs: list[Tensor] = []
    handle = _find_layer(model, layer).register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        with torch.enable_grad():
            score = _pick(logits_of(model, x), target)
    finally:
        handle.remove()
    if not outputs or not isinstance(outputs[-1], Tensor):
        raise ValueError(f"layer {layer!r} gives no tensor; name one that the net calls, with one output.")
    return _derivative(score, outputs[-1], create_graph)


def gradient_x_input(model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False) -> Tensor:
    """Gradient times input, x * d f_c / d x: arguments, shapes and errors as for `gradient`, units of logit.

    Source: Shrikumar et al. 2017; Ancona et al. 2018.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    product = x * gradient(model, x, target, create_graph=create_graph)
    return product if create_graph else product.detach()


def smoothgrad(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    samples: int = 25,
    sigma: float = 0.1,
    generator: torch.Generator | None = None,
    chunk: int = 1024,
) -> Tensor:
    """SmoothGrad: the mean gradient over `samples` copies of x with Gaussian noise of standard deviation `sigma`.

    All images of a batch get the same draws of noise, so that a map does not depend on its neighbours in the batch. The
    noisy copies are not clipped.

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the class predicted without noise if None.
        create_graph: keep the graph, so that the map can be differentiated.
        samples: number of noisy copies.
        sigma: noise in the units of x.
        generator: CPU generator of the noise; a new one with seed 0 if None, so that the map is a function of x.
        chunk: most images that are in the net at once (at least one copy of the batch). With `create_graph`, what lies
            beyond the first chunk is computed a second time in the backward pass instead of being kept in memory.

    Returns:
        Raw signed map, shape of x.

    Source: Smilkov et al. 2017.
    """
    checks.count("samples", samples)
    checks.number("sigma", sigma)
    checks.batch("x", x)
    generator = checks.generator(generator)
    noise = torch.randn((samples, *x.shape[1:]), generator=generator, dtype=x.dtype).to(x.device) * sigma
    weights = torch.full((samples,), 1 / samples, dtype=x.dtype, device=x.device)

    def noisy(x: Tensor, rows: slice) -> Tensor:
        return x + noise[rows].unsqueeze(1)

    return _mean_gradient(model, x, target, noisy, weights, create_graph=create_graph, chunk=chunk)


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    baseline: float | Tensor = 0.0,
    steps: int = 32,
    chunk: int = 1024,
) -> Tensor:
    """Integrated gradients: (x - x0) times the mean gradient on the straight line from the baseline x0 to x.

    The integral is a Gauss-Legendre sum. The entries sum to f_c(x) - f_c(x0) as far as it is exact (completeness).

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
    points, weights = (
        torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in np.polynomial.legendre.leggauss(steps)
    )
    alphas = (points + 1) / 2  # from [-1, 1] to [0, 1]; the weights, which sum to 2, are halved likewise

    def between(x: Tensor, rows: slice) -> Tensor:
        return x0 + alphas[rows].view(-1, 1, 1, 1, 1) * (x - x0)

    mean = _mean_gradient(model, x, target, between, weights / 2, create_graph=create_graph, chunk=chunk)
    product = (x - x0) * mean
    return product if create_graph else product.detach()


def grad_cam(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    create_graph: bool = False,
    layer: str | nn.Module | None = None,
) -> Tensor:
    """Grad-CAM: a layer's channels, weighted by their mean gradients, summed and enlarged to the image's size.

    The final ReLU of the paper is left to the caller (`map.relu()`), as all maps here are raw and signed.

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated.
        layer: module, or its name in `model.named_modules()`, whose output (B, K, h, w) is read; the last convolution
            if None.

    Returns:
        Raw signed map (B, 1, H, W), bilinear from (h, w).

    Raises ValueError for a layer that does not exist or gives no map. Source: Selvaraju et al. 2017.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    outputs: list[Tensor] = []
    handle = _find_layer(model, layer).register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        with torch.enable_grad():
            score = _pick(logits_of(model, x), target)
    finally:
        handle.remove()
    if not outputs or not isinstance(outputs[-1], Tensor) or outputs[-1].ndim != 4:
        raise ValueError(f"layer {layer!r} gives no map (B, K, h, w); name a convolution of the net.")
    channels = outputs[-1]
    with torch.enable_grad():
        weights = _derivative(score, channels, create_graph).mean((2, 3), keepdim=True)
        cam = (weights * channels).sum(1, keepdim=True)
        cam = F.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False)
    return cam if create_graph else cam.detach()


def lrp(
    model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False, layer: str | None = None
) -> Tensor:
    """Layer-wise relevance propagation: the class's relevance, one at its logit, passed back to the pixels.

    Args:
        model: net that returns logits (B, C), made of the layers for which `lrp.relevance` has a rule.
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated by x and by the weights.
        layer: read relevance at the output of the module of this name, at the input if None.

    Returns:
        Raw signed map, shape of x, or of that module's output.

    Raises:
        ValueError: x of a wrong shape, dtype or with nan; a target out of range; a layer without a rule.

    Source: Bach et al. 2015; the rules are those of `lrp.relevance`.
    """
    checks.batch("x", x)

    def start(logits: Tensor) -> Tensor:
        z = logits.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(_pick(z, target).sum(), z)[0]

    with torch.set_grad_enabled(create_graph):
        return relevance(model, x, start, layer=layer)


EXPLAINERS: dict[str, Explainer] = {
    "gradient": gradient_at,
    "gradient_x_input": gradient_x_input,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
    "grad_cam": grad_cam,
    "lrp": lrp,
}


def check_explainer(explainer: Explainer) -> None:
    """Raise unless `explainer` can be called; a name is answered with the function to pass."""
    if not callable(explainer):
        checks.one_of("explainer", explainer, EXPLAINERS)
        raise ValueError(f"explainer is {explainer!r}; pass the function, explainers.{explainer}.")


def normalize(maps: Tensor, *, by: str = "max") -> Tensor:
    """Absolute values of maps (B, C, H, W), divided per image by their largest (`max`) or by their sum (`l1`).

    With `l1` an entry is the relative importance `|phi_t| / ||phi||_1` of Tang et al. 2022. A map of zeros stays zeros.
    """
    checks.one_of("by", by, ("max", "l1"))
    checks.four_axes("maps", maps)
    size = maps.abs()
    total = size.amax((1, 2, 3), keepdim=True) if by == "max" else size.sum((1, 2, 3), keepdim=True)
    return size / total.clamp_min(torch.finfo(maps.dtype).tiny)


def _variable(x: Tensor, create_graph: bool) -> Tensor:
    """The tensor to differentiate by: x itself where its own graph is wanted, else a leaf of its own."""
    return x if create_graph and x.requires_grad else x.detach().requires_grad_()


def _baseline(baseline: float | Tensor, x: Tensor) -> Tensor:
    try:
        x0 = torch.as_tensor(baseline, dtype=x.dtype, device=x.device)
        if x0.isfinite().all() and torch.broadcast_shapes(x0.shape, x.shape) == x.shape:
            return x0
    except (TypeError, ValueError, RuntimeError):
        pass  # what torch cannot turn into a tensor, or cannot broadcast, does not fit either
    raise ValueError(f"baseline is {baseline!r}; pass a finite number, or images that fit {tuple(x.shape)}.")


def _pick(logits: Tensor, target: Target) -> Tensor:
    """The targets' logits (B,)."""
    if target is None:
        return logits.max(1).values
    if not isinstance(target, Tensor):
        checks.count("target", target, low=0, high=logits.shape[1] - 1)
        return logits[:, target]
    checks.labels("target", target, size=len(logits), classes=logits.shape[1])
    return logits.gather(1, target.to(logits.device).long().unsqueeze(1))[:, 0]


def _derivative(score: Tensor, variable: Tensor, create_graph: bool) -> Tensor:
    # The sum's gradient holds each image's own gradient: in eval mode no image touches another one's logit.
    return torch.autograd.grad(score.sum(), variable, create_graph=create_graph)[0]


def _mean_gradient(
    model: nn.Module,
    x: Tensor,
    target: Target,
    copies: Callable[[Tensor, slice], Tensor],
    weights: Tensor,
    *,
    create_graph: bool,
    chunk: int,
) -> Tensor:
    """Weighted sum of the gradients at the copies of x; `copies(x, rows)` has the shape (rows, B, C, H, W)."""
    checks.count("chunk", chunk)
    x = _variable(x, create_graph)
    if isinstance(target, Tensor):
        checks.labels("target", target, size=len(x))
    elif target is None:
        with torch.no_grad():
            target = logits_of(model, x).argmax(1)
    repeats = max(1, chunk // len(x))

    def part(x: Tensor, rows: slice) -> Tensor:
        batch = copies(x, rows)
        count = len(batch)
        classes = target.repeat(count) if isinstance(target, Tensor) else target
        maps = gradient(model, batch.flatten(0, 1), classes, create_graph=create_graph)
        return torch.tensordot(weights[rows], maps.unflatten(0, (count, -1)), dims=1)

    total = torch.zeros_like(x)
    for start in range(0, len(weights), repeats):
        rows = slice(start, start + repeats)
        if create_graph and start > 0:
            total = total + checkpoint(part, x, rows, use_reentrant=False)
        else:
            total = total + part(x, rows)
    return total


def _find_layer(model: nn.Module, layer: str | nn.Module | None) -> nn.Module:
    checks.net("model", model)
    if isinstance(layer, nn.Module):
        return layer
    modules = dict(model.named_modules())
    if layer is None:
        convolutions = [module for module in modules.values() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise ValueError(f"{type(model).__name__} has no nn.Conv2d; name the layer to read, layer=...")
        return convolutions[-1]
    checks.one_of("layer", layer, [name for name in modules if name])
    return modules[layer]
