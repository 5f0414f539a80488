"""Is a map worth attacking? Its gradient against finite differences, its ranking against plain occlusion."""

import copy

import torch
from torch import Tensor, nn

from ..explain.registry import Explainer
from ..nets.running import frozen, logits_of, of_class, predict
from .faithfulness import area, deletion

FALLS = 0.1  # from which on either is a flag
STEP = 1e-5  # of the finite difference, in pixels of [0, 1], in float64
PATCHES = 7  # along a side, that occlusion covers one by one
IMAGES = 64  # that are looked at


def follows_differences(model: nn.Module, images: Tensor, target: Tensor) -> float:
    """The median relative error of the gradient of the explained logit along itself, by central differences in float64.

    A net whose backward pass is not the derivative of its forward pass shows here; at kinks single images may differ.

    >>> import torch
    >>> from atexlib import nets
    >>> from atexlib.judge.sanity import follows_differences
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(4, 1, 8, 8)
    >>> follows_differences(net, x, net(x).argmax(1)) < 1e-6
    True
    """
    x, classes = images[:IMAGES].double(), target[:IMAGES]
    twin = copy.deepcopy(model).double().eval()
    with frozen(twin):
        z = x.detach().requires_grad_()
        slope = torch.autograd.grad(of_class(logits_of(twin, z), classes).sum(), z)[0]
        length = torch.linalg.vector_norm(slope, dim=(1, 2, 3), keepdim=True)
        along = slope / length.clamp_min(torch.finfo(slope.dtype).tiny)
        with torch.no_grad():
            ends = [of_class(logits_of(twin, x + sign * STEP * along), classes) for sign in (1, -1)]
    length = length.flatten()
    error = ((ends[0] - ends[1]) / (2 * STEP) - length).abs() / length.clamp_min(torch.finfo(length.dtype).tiny)
    return error.median().item()


def occlusion(model: nn.Module, x: Tensor, target: Tensor, *, patches: int = PATCHES) -> Tensor:
    """By how much the logit falls when a patch is set to zero: maps (B, 1, H, W), the same within a patch.

    >>> import torch
    >>> from atexlib import nets
    >>> from atexlib.judge.sanity import occlusion
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> occlusion(net, x, torch.tensor([0, 1]), patches=4).shape
    torch.Size([2, 1, 8, 8])

    Source: Zeiler and Fergus 2014.
    """
    before = of_class(predict(model, x), target)
    falls = x.new_zeros(len(x), 1, *x.shape[2:])
    rows, columns = (torch.arange(length).tensor_split(patches) for length in x.shape[2:])
    for some in rows:
        for others in columns:
            if len(some) and len(others):
                window = (..., slice(int(some[0]), int(some[-1]) + 1), slice(int(others[0]), int(others[-1]) + 1))
                covered = x.clone()
                covered[window] = 0
                falls[window] = (before - of_class(predict(model, covered), target)).view(-1, 1, 1, 1)
    return falls


def weaker_than_occlusion(model: nn.Module, images: Tensor, explainer: Explainer, target: Tensor) -> float:
    """How much more probability is left under deletion by the map than by occlusion, on average; above 0 is worse.

    A map that ranks pixels worse than covering patches one by one may be stable because it says nothing.
    """
    x, classes = images[:IMAGES], target[:IMAGES]
    steps = min(28, x.shape[2] * x.shape[3])
    maps = explainer(model, x, classes)
    if maps.shape[2:] != x.shape[2:]:
        maps = torch.nn.functional.interpolate(maps, x.shape[2:], mode="bilinear")
    own, rival = (
        area(deletion(model, x, each, classes, steps=steps))
        for each in (maps, occlusion(model, x, classes).clamp_min(0))
    )
    return (own - rival).mean().item()
