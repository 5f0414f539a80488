"""Explainers that differentiate a class's logit once: by the image, or by the output of a layer."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checks
from .models import logits_of

Target = int | Tensor | None


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
    score, output = _score_and_output(model, x, target, layer)
    return _derivative(score, output, create_graph)


def gradient_x_input(model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False) -> Tensor:
    """Gradient times input, x * d f_c / d x: arguments, shapes and errors as for `gradient`, units of logit.

    Source: Shrikumar et al. 2017; Ancona et al. 2018.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    product = x * gradient(model, x, target, create_graph=create_graph)
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
            there if None.

    Returns:
        Raw signed map (B, 1, H, W), bilinear from (h, w).

    Raises ValueError for a layer that does not exist or gives no map. Source: Selvaraju et al. 2017.
    """
    checks.batch("x", x)
    x = _variable(x, create_graph)
    score, channels = _score_and_output(model, x, target, layer)
    if channels.ndim != 4:
        raise ValueError(f"layer {layer!r} gives no map (B, K, h, w); name a convolution of the net.")
    with torch.enable_grad():
        weights = _derivative(score, channels, create_graph).mean((2, 3), keepdim=True)
        cam = (weights * channels).sum(1, keepdim=True)
        cam = F.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False)
    return cam if create_graph else cam.detach()


def _variable(x: Tensor, create_graph: bool) -> Tensor:
    """The tensor to differentiate by: x itself where its own graph is wanted, else a leaf of its own."""
    return x if create_graph and x.requires_grad else x.detach().requires_grad_()


def _pick(logits: Tensor, target: Target) -> Tensor:
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
    found = [None]
    if score.requires_grad:
        found = torch.autograd.grad(score.sum(), variable, create_graph=create_graph, allow_unused=True)
    if found[0] is None:
        raise ValueError("the logits do not depend on what the map shows; name a layer that they depend on.")
    return found[0]


def _score_and_output(
    model: nn.Module, x: Tensor, target: Target, layer: str | nn.Module | None
) -> tuple[Tensor, Tensor]:
    """The targets' logits (B,), and what the layer returned at its last call."""
    outputs: list[object] = [None]
    handle = _find_layer(model, layer).register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        with torch.enable_grad():
            score = _pick(logits_of(model, x), target)
    finally:
        handle.remove()
    if not isinstance(outputs[-1], Tensor):
        raise ValueError(
            f"layer {layer!r} gives no tensor; name one, as a string, that the net calls and that has one output. A "
            "traced net, such as a softplus copy, calls no containers."
        )
    return score, outputs[-1]


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
