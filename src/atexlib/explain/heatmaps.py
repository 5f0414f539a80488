"""Heat maps as a user sees them: one channel in [0, 1], made of an explainer's raw map in that explainer's way."""

import torch
from torch import Tensor, nn

from ..nets.running import evaluating
from .registry import Explainer, find, traits

DEAD = 1e-8  # of the relevance that starts, one: a map that spans no more before it is scaled shows nothing


def heatmap(
    model: nn.Module,
    x: Tensor,
    target: Tensor | int,
    *,
    explainer: str | Explainer = "lrp",
    layer: str | None = None,
    create_graph: bool = False,
) -> Tensor:
    """The heat map of one explainer, scaled to [0, 1] image by image.

    LRP, Grad-CAM and the explainers that multiply by the image: sum over channels, ReLU. Gradient and SmoothGrad:
    absolute values, summed over channels. Then Grad-CAM is divided by its largest value, the others go from their
    smallest to their largest. A dead map, see `is_dead`, becomes zeros.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> explain.heatmap(net, x, 3, explainer="gradient").aminmax()
    torch.return_types.aminmax(
    min=tensor(0.),
    max=tensor(1.))

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W).
        target: class or classes (B,) to explain.
        explainer: the name of an explainer, or a function like those.
        layer: for `lrp`, `grad_cam` and `gradient`, the name of the module to read at.
        create_graph: keep the graph, so that the map can be differentiated by the weights.

    Returns:
        Maps of shape (B, 1, h, w), as large as the image, or for LRP and the gradient as the layer. The net is looked
        at in eval mode.

    Raises:
        ValueError: an unknown explainer; a layer for one that reads none.

    Source: Heo et al. 2019, section 3.
    """
    maps = one_channel(model, x, target, explainer=explainer, layer=layer, create_graph=create_graph)
    return scaled(maps, explainer=explainer)


def scaled(maps: Tensor, *, explainer: str | Explainer) -> Tensor:
    """Maps of `one_channel`, cut off at zero and scaled to [0, 1] image by image, as `heatmap` does it.

    >>> import torch
    >>> from atexlib import explain
    >>> explain.scaled(torch.tensor([[[[-1.0, 1.0, 2.0, 3.0]]]]), explainer="lrp").flatten()
    tensor([0.0000, 0.3333, 0.6667, 1.0000])
    """
    size = maps.relu()
    low = 0.0 if traits(explainer).from_zero else size.amin((1, 2, 3), keepdim=True)
    span = size.amax((1, 2, 3), keepdim=True) - low
    return torch.where(span > DEAD, (size - low) / span.clamp_min(DEAD), 0 * size)


def is_dead(
    model: nn.Module, x: Tensor, target: Tensor | int, *, explainer: str | Explainer = "lrp", layer: str | None = None
) -> Tensor:
    """True (B,) where a heat map shows nothing: it spans at most 1e-8 before it is scaled. Arguments as for `heatmap`.

    The span runs from the smallest value to the largest; of Grad-CAM, from zero. LRP starts with a relevance of one, of
    which deep nets hand on little: biases and the z+ rule absorb it, and one part in ten million may reach the pixels.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> explain.is_dead(net, x, 3, explainer="gradient")
    tensor([False, False])
    """
    return heatmap(model, x, target, explainer=explainer, layer=layer).amax((1, 2, 3)) == 0


def one_channel(
    model: nn.Module,
    x: Tensor,
    target: Tensor | int,
    *,
    explainer: str | Explainer,
    layer: str | None = None,
    create_graph: bool = False,
) -> Tensor:
    """A raw map (B, 1, h, w), summed over its channels; of slopes, the absolute values: arguments as for `heatmap`.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> explain.one_channel(net, x, 3, explainer="gradient", layer="conv1").shape
    torch.Size([2, 1, 8, 8])
    """
    options = {} if layer is None else {"layer": layer}
    if options and not traits(explainer).reads_layer:
        raise ValueError(f"layer is {layer!r}, but {explainer} reads no layer; leave it out.")
    with evaluating(model):
        maps = find(explainer)(model, x, target, create_graph=create_graph, **options)
    if maps.ndim != 4:
        shape = tuple(maps.shape)
        raise ValueError(f"layer {layer!r} gives {shape}, no map (B, K, h, w); name a convolution of the net.")
    return (maps if traits(explainer).signed else maps.abs()).sum(1, keepdim=True)
