"""The figures: one style, perceptual colour maps, signed values centred at zero."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .. import checks

CMAPS = {"image": "gray", "size": "magma", "signed": "RdBu_r"}


class Column(NamedTuple):
    """One column of a gallery: its title, a tensor (B, C, H, W), and how to colour it.

    `image` is grey or RGB in [0, 1], of other channels their mean; `size` shows absolute values, dark is zero, each
    picture up to its own largest or to `limit`; `signed` shows signed values, white is zero, symmetric likewise.

    >>> import torch
    >>> from atexlib import show
    >>> show.Column("map", torch.zeros(2, 1, 8, 8), "signed").kind
    'signed'
    """

    title: str
    pictures: Tensor | Sequence[Tensor]
    kind: str = "image"
    limit: float | None = None


def style() -> None:
    """Set the book's figure style: call it once in a notebook.

    >>> import matplotlib.pyplot as plt
    >>> from atexlib import show
    >>> with plt.rc_context():
    ...     show.style()
    ...     plt.rcParams["figure.constrained_layout.use"]
    True
    """
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True})


def show(ax: Axes, picture: Tensor, kind: str = "image", limit: float | None = None) -> None:
    """Draw one picture (C, H, W) as an image, as sizes or as signed values; see `Column`.

    >>> import matplotlib.pyplot as plt
    >>> import torch
    >>> from atexlib import show
    >>> figure, ax = plt.subplots()
    >>> show.show(ax, torch.tensor([[[-1.0, 3.0]]]), "signed")
    >>> ax.images[0].get_clim()
    (-3.0, 3.0)
    >>> plt.close(figure)
    """
    checks.one_of("kind", kind, CMAPS)
    values = picture.detach().cpu().float()
    if kind == "image":
        shown = values.permute(1, 2, 0).numpy() if len(values) == 3 else values.mean(0).numpy()
        low, high = 0.0, 1.0
    else:
        shown = values.abs().amax(0).numpy() if kind == "size" else values.sum(0).numpy()
        high = limit or float(np.abs(shown).max()) or 1.0
        low = 0.0 if kind == "size" else -high
    ax.imshow(shown, cmap=CMAPS[kind], vmin=low, vmax=high, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def gallery(
    columns: Sequence[Column], *, rows: Sequence[str] | None = None, note: str = "", side: float = 1.25
) -> Figure:
    """A grid of pictures: one column each, one row an image, with labels at the left and a note at the foot.

    >>> import matplotlib.pyplot as plt
    >>> import torch
    >>> from atexlib import show
    >>> pictures = torch.rand(2, 1, 8, 8)
    >>> figure = show.gallery([show.Column("image", pictures), show.Column("map", pictures, "size")])
    >>> len(figure.axes)
    4
    >>> plt.close(figure)
    """
    lengths = [len(column.pictures) for column in columns]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise ValueError(f"the columns hold {lengths} pictures; pass columns of one length, at least one picture each.")
    count = lengths[0]
    figure, axes = plt.subplots(
        count, len(columns), figsize=(side * len(columns) + 0.4, side * count + 0.5), squeeze=False
    )
    for column, stack in zip(axes.T, columns, strict=True):
        column[0].set_title(stack.title, fontsize=9)
        for ax, picture in zip(column, stack.pictures, strict=True):
            show(ax, picture, stack.kind, stack.limit)
    for ax, label in zip(axes[:, 0], rows or [], strict=False):
        ax.set_ylabel(label, fontsize=8)
    foot(figure, note)
    return figure


def foot(figure: Figure, note: str) -> None:
    """State at a figure's foot what it was computed from.

    >>> import matplotlib.pyplot as plt
    >>> from atexlib import show
    >>> figure = plt.figure()
    >>> show.foot(figure, "digits, preset smoke")
    >>> figure.get_supxlabel()
    'digits, preset smoke'
    >>> plt.close(figure)
    """
    if note:
        figure.supxlabel(note, fontsize=8, color="#444444")


def webp(figure: Figure, *, dpi: int = 100) -> bytes:
    """A figure as a WebP picture without loss, a third of a PNG's size; closed, so that no notebook shows it again.

    >>> import matplotlib.pyplot as plt
    >>> from atexlib import show
    >>> show.webp(plt.figure(figsize=(1, 1)))[8:12]
    b'WEBP'
    """
    file = io.BytesIO()
    figure.savefig(file, format="webp", dpi=dpi, bbox_inches="tight", pil_kwargs={"lossless": True})
    plt.close(figure)
    return file.getvalue()
