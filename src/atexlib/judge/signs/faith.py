"""Does the net do what its map says: is a declared slope a slope, do the marked pixels matter?"""

import copy

import torch

from ...nets.running import frozen, logits_of, of_class
from .accused import Accused, Suspect
from .registry import sign

DIRECTIONS = 16
STEP = 1e-4  # of the finite differences, in pixels of [0, 1], in float64
DITHER = 0.01  # moves the image off ties, where a net has no slope of its own
IMAGES = 16
EXACT = 1e-3  # what lies below it is the error of a finite step, and no sign


@sign("differences", label="slopes that are declared and are none", of_net=True)
def differences(accused: Accused) -> float:
    """1 minus the correlation, over random directions, of the declared slope with what the logit does.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> from atexlib.judge import signs
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(6, 1, 8, 8)
    >>> liar = attack.Decorated(net, "quantised")
    >>> bool(signs.SIGNS["differences"].score(signs.Accused(liar, x)) > 0.5)
    True
    """
    generator = torch.Generator().manual_seed(0)
    x = accused.x[:IMAGES].cpu().double()  # on the CPU: not every device has float64
    target = accused.target[:IMAGES].cpu()
    x = x + DITHER * (2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1)
    twin = copy.deepcopy(accused.model).cpu().double().eval()
    with frozen(twin):
        z = x.clone().requires_grad_()
        slope = torch.autograd.grad(of_class(logits_of(twin, z), target).sum(), z)[0]
        declared, seen = [], []
        with torch.no_grad():
            for _ in range(DIRECTIONS):
                way = torch.randn(x.shape, generator=generator, dtype=torch.float64)
                ends = [of_class(logits_of(twin, x + side * STEP * way), target) for side in (1, -1)]
                declared.append((slope * way).sum((1, 2, 3)))
                seen.append((ends[0] - ends[1]) / (2 * STEP))
    first, second = torch.stack(declared), torch.stack(seen)  # (directions, B)
    length = torch.linalg.vector_norm(first, dim=0) * torch.linalg.vector_norm(second, dim=0)
    agreement = (first * second).sum(0) / length.clamp_min(torch.finfo(length.dtype).tiny)
    apart = 1 - agreement.mean().item()
    return apart if apart > EXACT else 0.0


@sign("deletion", label="marked pixels that matter less than occlusion's")
def deletion(suspect: Suspect) -> float:
    """How much more probability is left under deletion by the shown map than by occlusion."""
    accused = suspect.accused
    return (accused.deleted(suspect.maps) - accused.by_occlusion).mean().item()
