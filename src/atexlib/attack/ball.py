"""The ball around an image that an attack may search."""

from dataclasses import dataclass

import torch
from torch import Tensor

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Ball:
    """All images within `eps` of the centres (B, C, H, W) in `norm`, and within `bounds`; equal to them off `where`.

    >>> import torch
    >>> from atexlib import attack
    >>> ball = attack.Ball(torch.full((1, 1, 1, 3), 0.5), 0.25, "linf", (0, 1))
    >>> ball.project(torch.tensor([[[[0.0, 0.5, 0.6]]]])).flatten()
    tensor([0.2500, 0.5000, 0.6000])
    """

    center: Tensor
    eps: float
    norm: str
    bounds: tuple[float, float]
    where: Tensor | None = None
    """True at the pixels that may change, of a shape that broadcasts to the centres'; all of them if None."""
    levels: int | None = None
    """Grey levels of a changed pixel, spread evenly over the bounds, in L-infinity; any value if None."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "center", self.center.clamp(*self.bounds))  # which rounding may have left

    def project(self, z: Tensor) -> Tensor:
        """Each image moved into the ball: to the nearest point, up to what clipping to the bounds adds."""
        # Rounding x + shift must not carry a pixel past eps: hence a radius smaller by a few units in the last place.
        largest = max(abs(self.bounds[0]), abs(self.bounds[1])) + self.eps
        count = 1 if self.norm == "linf" else z[0].numel() ** 0.5  # in a length the pixels' roundings add up
        radius = max(0.0, self.eps - 4 * torch.finfo(z.dtype).eps * largest * count)
        shift = self._free(z - self.center)
        if self.norm == "linf":
            shift = shift.clamp(-radius, radius)
        else:
            length = torch.linalg.vector_norm(shift, dim=(1, 2, 3), keepdim=True)
            shift = shift * (radius / length.clamp_min(radius + torch.finfo(z.dtype).tiny))
        moved = (self.center + shift).clamp(*self.bounds)
        return moved if self.levels is None else self._rounded(moved, radius, self.levels - 1)

    def _rounded(self, z: Tensor, radius: float, steps: int) -> Tensor:
        """The nearest grey levels inside the ball; a pixel without one, or that is held, as the centre has it."""
        low, span = self.bounds[0], self.bounds[1] - self.bounds[0]
        first, last = (((self.center + side * radius - low) / span * steps) for side in (-1, 1))
        first, last = first.ceil().clamp_min(0), last.floor().clamp_max(steps)
        place = torch.minimum(torch.maximum(((z - low) / span * steps).round(), first), last)
        free = first <= last if self.where is None else (first <= last) & self.where
        return torch.where(free, low + place / steps * span, self.center)

    def steepest(self, slope: Tensor) -> Tensor:
        """The direction of length one in the norm along which a function with this gradient rises fastest."""
        slope = self._free(slope)
        if self.norm == "linf":
            return slope.sign()
        length = torch.linalg.vector_norm(slope, dim=(1, 2, 3), keepdim=True)
        return slope / length.clamp_min(torch.finfo(slope.dtype).tiny)

    def reach(self, slope: Tensor) -> Tensor:
        """How much a linear function with this gradient can rise inside the ball (B,), the bounds aside."""
        return self.eps * torch.linalg.vector_norm(
            self._free(slope), ord=1 if self.norm == "linf" else 2, dim=(1, 2, 3)
        )

    def corner(self, generator: torch.Generator) -> Tensor:
        """One random image for each centre, at the distance eps: a corner of the cube, a point of the sphere."""
        return self.project(self.center + self.eps * self.steepest(gaussian_like(self.center, generator)))

    def _free(self, shift: Tensor) -> Tensor:
        """A shift or a slope, zero where nothing may change."""
        return shift if self.where is None else torch.where(self.where, shift, 0)


def gaussian_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of a tensor's shape, dtype and device, drawn where the generator is."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)
