"""The part of JPEG that loses something, for a batch of images at once: each channel as a grey picture of its own."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks

SIDE = 8  # of a block, in pixels
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)  # the table that the standard suggests


def jpeg(x: Tensor, quality: int = 75) -> Tensor:
    """Images as they come out of a JPEG file: 8 bits, blocks of 8 x 8 cosines, each rounded by the standard's table.

    >>> import torch
    >>> from atexlib import detect
    >>> x = torch.rand(2, 1, 28, 28)
    >>> worst = [(detect.jpeg(x, quality) - x).abs().max().item() for quality in (10, 100)]
    >>> worst[0] > 0.1 > 0.01 > worst[1]
    True

    Args:
        x: images (B, C, H, W) in [0, 1], floats.
        quality: 1 to 100, as in other programs.

    Returns:
        Images of that shape, whole 255ths. No graph is kept, as rounding has no slope.

    Raises:
        ValueError: images of a wrong shape or range; a quality out of range.

    Source: ITU-T T.81 (1992), annexes A and K; the scale of quality is that of the Independent JPEG Group.
    """
    checks.batch("x", x, bounds=(0, 1))
    checks.count("quality", quality, high=100)
    return _lossy(x.detach(), quality)


def _lossy(x: Tensor, quality: int) -> Tensor:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(LUMINANCE, dtype=x.dtype, device=x.device)
    table = ((table * scale + 50) / 100).floor().clamp(1, 255)
    places = torch.arange(SIDE, dtype=x.dtype, device=x.device)
    cosines = torch.cos((2 * places + 1) * places[:, None] * math.pi / (2 * SIDE)) / 2
    cosines[0] /= math.sqrt(2)
    height, width = x.shape[2:]
    padded = F.pad((255 * x).round() - 128, (0, -width % SIDE, 0, -height % SIDE), mode="replicate")
    blocks = padded.unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)  # (B, C, rows, columns, 8, 8)
    kept = (cosines @ blocks @ cosines.T / table).round() * table
    pixels = (cosines.T @ kept @ cosines + 128).round().clamp(0, 255) / 255
    whole = pixels.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return whole[:, :, :height, :width]
