"""Where a defence looks: samples along an explanation, samples orthogonal to it, and any point of the ball."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import checks

NORMS = ("linf", "l2")
NOISES = ("symmetric", "printed")


def along(
    x: Tensor, phi: Tensor, *, radius: float, norm: str = "linf", generator: torch.Generator | None = None
) -> Tensor:
    """Move each image along its explanation: x_i = x + delta1 phi / ||phi||, delta1 uniform in [-radius, radius].

    >>> import torch
    >>> from atexlib import defend
    >>> x, phi = torch.rand(2, 3, 1, 8, 8)
    >>> z = defend.along(x, phi, radius=0.1)
    >>> bool((z - x).abs().max() < 0.101)
    True

    Args:
        x: images (B, C, H, W).
        phi: their explanations, same shape; where phi is zero the image stays.
        radius: D1, in the units of x.
        norm: the norm of ||phi||. `l2` as printed: the whole image moves by at most `radius` in L2, which is little
            for many pixels. `linf`: its largest pixel does.
        generator: CPU generator of delta1; a new one with seed 0 if None.

    Returns:
        Images (B, C, H, W), not clipped, which would bend the direction.

    Source: Tang et al. 2022, Eq. 5.
    """
    _check(x, phi, radius, norm)
    delta = radius * _uniform((len(x), 1, 1, 1), x, checks.generator(generator, on=x.device))
    return x + delta * _unit(phi, norm)


def orthogonal(
    x: Tensor,
    phi: Tensor,
    *,
    radius: float,
    norm: str = "linf",
    noise: str = "symmetric",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Move each image orthogonally to its explanation: x_p = x_i + phi_perp, <phi, phi_perp> = 0.

    phi_perp = u - <phi, u> phi / ||phi||_2^2 with u uniform in each pixel.

    >>> import torch
    >>> from atexlib import defend
    >>> x, phi = torch.rand(2, 3, 1, 8, 8)
    >>> shift = defend.orthogonal(x, phi, radius=0.1) - x
    >>> torch.allclose((shift * phi).sum((1, 2, 3)), torch.zeros(3), atol=1e-5)
    True

    Args:
        x: images x_i (B, C, H, W).
        phi: their explanations, same shape.
        radius: D2, in the units of x.
        norm: `l2` as printed: phi_perp is scaled to the length delta2, uniform in [-radius, radius].
            `linf`: phi_perp is used as it is.
        noise: `symmetric`: u in [-radius, radius]; `printed`: u in [0, radius], most of which is brightness.
        generator: CPU generator of u and delta2; a new one with seed 0 if None.

    Returns:
        Images (B, C, H, W), not clipped.

    Source: Tang et al. 2022, Eq. 6.
    """
    _check(x, phi, radius, norm)
    checks.one_of("noise", noise, NOISES)
    generator = checks.generator(generator, on=x.device)
    u = radius * _uniform(x.shape, x, generator)
    shift = remove_component(u.abs() if noise == "printed" else u, phi)
    if norm == "l2":
        shift = radius * _uniform((len(x), 1, 1, 1), x, generator) * _unit(shift, "l2")
    return x + shift


def orthogonal_ascent(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    phi: Tensor,
    *,
    radius: float,
    steps: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Move each image orthogonally to its explanation to where a loss is large: sign steps projected off phi.

    Not part of the paper, which draws the direction at random. From a random start of `orthogonal`; no pixel moves by
    more than `radius`, up to rounding.

    >>> import torch
    >>> from atexlib import defend
    >>> x, phi = torch.rand(2, 3, 1, 8, 8)
    >>> z = defend.orthogonal_ascent(lambda z: z.square().sum((1, 2, 3)), x, phi, radius=0.1, steps=2)
    >>> bool((z.square().sum((1, 2, 3)) > x.square().sum((1, 2, 3))).all())
    True

    Args:
        loss: images (B, C, H, W) -> (B,), differentiable.
        x: images x_i.
        phi: their explanations, same shape.
        radius: largest change of a pixel.
        steps: gradient steps.
        generator: CPU generator of the start; a new one with seed 0 if None.
    """
    checks.count("steps", steps)
    shift = orthogonal(x, phi, radius=radius, generator=generator) - x
    size = min(1.0, 2 / steps) * radius
    for _ in range(steps):
        z = (x + shift).detach().requires_grad_()
        with torch.enable_grad():
            slope = torch.autograd.grad(loss(z).sum(), z)[0]
        shift = remove_component((shift + size * slope.sign()).clamp(-radius, radius), phi)
        # The projection may carry a pixel past the radius; scaling, unlike clipping, keeps the angle.
        largest = torch.linalg.vector_norm(shift, ord=math.inf, dim=(1, 2, 3), keepdim=True)
        shift = shift * (radius / largest.clamp_min(max(radius, torch.finfo(x.dtype).tiny)))
    return x + shift


def remove_component(u: Tensor, phi: Tensor) -> Tensor:
    """The part of u (B, C, H, W) that is orthogonal to phi: u - <phi, u> phi / ||phi||_2^2, image by image.

    >>> import torch
    >>> from atexlib import defend
    >>> defend.remove_component(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 2.0]]]]))
    tensor([[[[3., 0.]]]])
    """
    unit = _unit(phi, "l2")
    return u - (u * unit).sum((1, 2, 3), keepdim=True) * unit


def _unit(direction: Tensor, norm: str) -> Tensor:
    order = math.inf if norm == "linf" else 2
    length = torch.linalg.vector_norm(direction, ord=order, dim=(1, 2, 3), keepdim=True)
    return direction / length.clamp_min(torch.finfo(direction.dtype).tiny)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers uniform in [-1, 1]."""
    uniform = torch.rand(shape, generator=generator, dtype=like.dtype, device=generator.device)
    return 2 * uniform.to(like.device) - 1


def _check(x: Tensor, phi: Tensor, radius: float, norm: str) -> None:
    checks.batch("x", x)
    checks.batch("phi", phi)
    checks.same_shape("phi", phi, "x", x)
    checks.number("radius", radius)
    checks.one_of("norm", norm, NORMS)
