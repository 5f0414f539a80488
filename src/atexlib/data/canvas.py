"""Canvases: one object left or right on an empty picture twice as wide, or two objects side by side."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checks


def padded(images: Tensor, side: int = 32) -> Tensor:
    """Images (B, C, H, W) in the middle of black squares (B, C, side, side).

    >>> import torch
    >>> from atexlib import data
    >>> data.padded(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 1, 32, 32])

    Raises:
        ValueError: images that are larger than that, or of a wrong shape or type.
    """
    checks.batch("images", images)
    checks.count("side", side)
    height, width = images.shape[2:]
    if max(height, width) > side:
        raise ValueError(f"the images have {height} x {width} pixels; pass side={max(height, width)} or more.")
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(images, (left, side - width - left, top, side - height - top))


def singles(images: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Each image (B, C, H, W) in the left or the right half, by chance, of a black canvas (B, C, H, 2 W).

    >>> import torch
    >>> from atexlib import data
    >>> data.singles(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 1, 8, 16])
    """
    checks.batch("images", images)
    generator = checks.generator(generator)
    right = (torch.rand(len(images), generator=generator) < 0.5).to(images.device).view(-1, 1, 1, 1)
    empty = torch.zeros_like(images)
    return torch.cat([torch.where(right, empty, images), torch.where(right, images, empty)], dim=3)


def pairs(images: Tensor, labels: Tensor, classes: tuple[int, int]) -> Tensor:
    """Canvases (N, C, H, 2 W) that hold an image of each of two classes; the first class is left and right by turns.

    Each image is used once, in the order of the batch; what is left over of the larger class is not used.

    >>> import torch
    >>> from atexlib import data
    >>> data.pairs(torch.rand(5, 1, 8, 8), torch.tensor([3, 5, 3, 3, 5]), (3, 5)).shape
    torch.Size([2, 1, 8, 16])

    Raises:
        ValueError: two equal classes; a class of which there is no image.

    Source: Heo et al. 2019 use photographs that hold both; this is the same for small images.
    """
    checks.batch("images", images)
    checks.labels("labels", labels, size=len(images))
    if not (isinstance(classes, tuple | list) and len(classes) == 2 and classes[0] != classes[1]):
        raise ValueError(f"classes is {classes!r}; pass two different classes.")
    first, second = (images[(labels == label).to(images.device)] for label in classes)
    count = min(len(first), len(second))
    if count == 0:
        raise ValueError(f"classes is {classes!r}, but not both are among the labels; pass images of both.")
    first, second = first[:count], second[:count]
    left = (torch.arange(count, device=images.device) % 2 == 0).view(-1, 1, 1, 1)
    return torch.cat([torch.where(left, first, second), torch.where(left, second, first)], dim=3)
