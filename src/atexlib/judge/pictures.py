"""The pictures of an audit: a photograph, its map over it, what was changed and what became of the map.

A map is drawn by the sizes of its values, averaged over a few neighbours where images are large, and cut off at its
99.5th percentile: one pixel that outshines all others would leave the rest black. Each picture stands on a bar of its
colours, whose ends its caption states.
"""

import io
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..maps.shape import center_of_mass
from .card import Example
from .verdict import in_255

SIDE = 320  # pixels of a picture's longer side, at least; each of its own pixels is a square
LARGEST = 640  # and at most
BLURRED = 5  # pixels on a side that are averaged
LARGE = 64  # pixels of an image's side from which on they are
CAP = 0.995  # quantile of a map's sizes that is drawn brightest
BAR = 14  # pixels of the height of a bar of colours
OPAQUE = 0.8  # share of the map's colour where it is brightest, over the photograph
QUALITY = 88  # of WebP


class Panel(NamedTuple):
    """One picture of an example: a short name, a caption, a text for those who do not see it, and a WebP file.

    >>> from atexlib.judge import pictures
    >>> pictures.Panel("before", "The image", "The image before.", b"").name
    'before'
    """

    name: str
    caption: str
    alt: str
    file: bytes


def panels(example: Example, *, name: str, explainer: str, eps: float) -> list[Panel]:
    """The six pictures of an example: image, map and change of the image; changed image, its map, change of the map.

    Args:
        example: what an audit kept.
        name: of the image.
        explainer: in a sentence.
        eps: the largest change, which is drawn as the full range of colours.
    """
    times = f"{0.5 / eps:.3g}"
    before, after = sizes(example.clean_map), sizes(example.changed_map)
    difference = after - before
    change = ((example.changed - example.image) / eps + 1) / 2
    framed = "" if example.place is None else ". White frame: the place"
    heat, signs, grey = mpl.colormaps["inferno"], mpl.colormaps["RdBu_r"], mpl.colormaps["gray"]
    here, there = _where(example.clean_map), _where(example.changed_map)
    return [
        Panel("before", "The image", f"{name} before the change.", _file(_rgb(example.image))),
        Panel(
            "map-before",
            f"Its map over it. Bar: 0 to {_top(example.clean_map)}{framed}",
            f"The {explainer} map of {name} over it, before the change; its weight is centred {here}.",
            _file(_over(example.image, before, example.place), heat),
        ),
        Panel(
            "change",
            f"What was changed, magnified {times} times. Bar: -{in_255(eps)} to {in_255(eps)}",
            f"The change of {name}, magnified {times} times; grey is no change.",
            _file(_rgb(change.clamp(0, 1)), grey),
        ),
        Panel("after", "The changed image", f"{name} after the change.", _file(_rgb(example.changed))),
        Panel(
            "map-after",
            f"Its map over it. Bar: 0 to {_top(example.changed_map)}{framed}",
            f"The {explainer} map of the changed {name} over it; its weight went from {here} to {there}.",
            _file(_over(example.changed, after, example.place), heat),
        ),
        Panel(
            "map-change",
            "What the map gained (red) and lost (blue). Bar: all of it lost to all of it gained",
            f"The change of the map: red where it gained, blue where it lost; its weight went from {here} to {there}.",
            _file(signs((difference.numpy() + 1) / 2)[..., :3], signs),
        ),
    ]


def how_drawn(example: Example) -> str:
    """How the maps of an example are drawn, in a sentence."""
    averaged = f"averaged over {BLURRED} x {BLURRED} pixels, " if _is_large(example.clean_map) else ""
    top = f"{100 * CAP:g}th percentile, from which on they are as bright as can be"
    return f"Maps are drawn by absolute values, {averaged}each from 0 to its own {top}."


def sizes(explanation: Tensor) -> Tensor:
    """A map (C, H, W) as it is drawn: (H, W) in [0, 1], one from its 99.5th percentile on.

    >>> import torch
    >>> from atexlib.judge import pictures
    >>> spike = torch.full((1, 40, 40), 0.1)
    >>> spike[0, 0, 0] = -100
    >>> pictures.sizes(spike).min()
    tensor(1.)
    """
    values = _averaged(explanation)
    top = _limit(values)
    return (values / top).clamp(max=1) if top > 0 else torch.zeros_like(values)


def _averaged(explanation: Tensor) -> Tensor:
    values = explanation.detach().cpu().float().abs().amax(0)
    if not _is_large(explanation):
        return values
    return F.avg_pool2d(values[None, None], BLURRED, 1, BLURRED // 2, count_include_pad=False)[0, 0]


def _is_large(explanation: Tensor) -> bool:
    return min(explanation.shape[1:]) >= LARGE


def _limit(values: Tensor) -> float:
    """The value that is drawn brightest: the quantile or, of a map that has hardly any values, the largest."""
    return float(np.quantile(values.numpy(), CAP)) or values.max().item()


def _top(explanation: Tensor) -> str:
    return f"{_limit(_averaged(explanation)):.2g}"


def _where(explanation: Tensor) -> str:
    """Where a map's centre of mass lies, in a phrase."""
    row, column = (center_of_mass(explanation[None].float())[0] + 0.5).tolist()
    height, width = explanation.shape[1:]
    return f"{100 * column / width:.0f} % from the left and {100 * row / height:.0f} % from the top"


def _rgb(picture: Tensor) -> np.ndarray:
    """A picture (C, H, W) in [0, 1] as (H, W, 3); of other channels than three their mean."""
    values = picture.detach().cpu().float()
    values = values if len(values) == 3 else values.mean(0, keepdim=True).expand(3, -1, -1)
    return values.permute(1, 2, 0).numpy()


def _over(picture: Tensor, values: Tensor, place: Tensor | None) -> np.ndarray:
    """A map in [0, 1] over a picture in grey, the more opaque the larger it is; round the place a white frame."""
    grey = _rgb(picture).mean(2, keepdims=True)
    size = F.interpolate(values[None, None], grey.shape[:2], mode="bilinear")[0, 0].numpy()[..., None]
    drawn = (1 - OPAQUE * size) * grey + OPAQUE * size * mpl.colormaps["inferno"](size[..., 0])[..., :3]
    if place is not None:
        around = F.pad((~place).float()[None, None], (1, 1, 1, 1), value=1.0)
        drawn[(place & F.max_pool2d(around, 3, 1)[0, 0].bool()).numpy()] = 1
    return drawn


def _file(pixels: np.ndarray, bar: mpl.colors.Colormap | None = None) -> bytes:
    """Pixels (H, W, 3) in [0, 1] as a WebP file, enlarged without blur, on a bar of colours."""
    longer = max(pixels.shape[:2])
    times = min(max(1, -(-SIDE // longer)), max(1, LARGEST // longer))
    picture = Image.fromarray((255 * pixels).round().astype(np.uint8))
    size = tuple(max(1, round(times * side)) for side in picture.size)
    if longer > LARGEST:
        size = tuple(max(1, side * LARGEST // longer) for side in picture.size)
    picture = picture.resize(size, Image.Resampling.NEAREST if longer <= LARGEST else Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (picture.width, picture.height + 2 * BAR), "white")
    canvas.paste(picture)
    if bar is not None:
        colors = (255 * bar(np.linspace(0, 1, picture.width))[None, :, :3]).round().astype(np.uint8)
        strip = Image.fromarray(np.broadcast_to(colors, (BAR, *colors.shape[1:])).copy())
        canvas.paste(strip, (0, picture.height + BAR // 2))
    file = io.BytesIO()
    canvas.save(file, format="webp", quality=QUALITY)
    return file.getvalue()
