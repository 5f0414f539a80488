"""Explanations of one class's logit: every explainer is `NAME(model, x, target=None, *, create_graph=False, ...)`.

Each returns raw signed values of x's shape (Grad-CAM: one channel). `target` is a class for all images, a tensor (B,)
of classes, or None for the predicted class. With `create_graph` the map can be differentiated again, exactly, with
respect to x and to the net's weights.

All but `lrp` leave the net in the mode that they find: call `model.eval()` first, or dropout makes the map random and
batch norm lets the images of a batch change each other's maps.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import checks
from .averaged_gradients import integrated_gradients, smoothgrad
from .gradients import Target, _pick, grad_cam, gradient, gradient_at, gradient_x_input
from .lrp import relevance

__all__ = [
    "EXPLAINERS",
    "Explainer",
    "Target",
    "check_explainer",
    "grad_cam",
    "gradient",
    "gradient_at",
    "gradient_x_input",
    "integrated_gradients",
    "lrp",
    "normalize",
    "smoothgrad",
]

Explainer = Callable[..., Tensor]


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
