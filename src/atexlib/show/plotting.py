"""The figures: one style, perceptual colour maps, signed values centred at zero."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import seaborn as sns
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import Tensor

from .. import checks

CMAPS = {"image": "gray", "size": "magma", "signed": "RdBu_r"}
LARGE = 64  # pixels a side: in a map that has more, single pixels cannot be seen, and the largest of them blinds
WINDOW, CAP = 5, 0.995  # what is drawn of a large map: means of so many pixels a side, up to this quantile
SEEN = f"maps: means of {WINDOW} x {WINDOW} pixels, colours end at the {100 * CAP:.1f}th percentile"
VEIL = 0.35, 0.45  # how much a map covers of the photograph under it: at zero, and how much more at its end


class Column(NamedTuple):
    """One column of a gallery: its title, a tensor (B, C, H, W), and how to colour it.

    `image` is grey or RGB in [0, 1], of other channels their mean; `size` shows absolute values, dark is zero, each
    picture up to its own largest or to `limit`; `signed` shows signed values, white is zero, symmetric likewise.

    Single pixels of a large map cannot be seen. So without a `limit`, a map of more than 64 pixels a side is drawn as
    means of 5 x 5 pixels, and its colours end at their 99.5th percentile; the note under the gallery says so.

    With photographs (B, C, H, W) as `over`, sizes are laid over them, which are shown in grey.

    >>> import torch
    >>> from atexlib import show
    >>> show.Column("map", torch.zeros(2, 1, 8, 8), "signed").kind
    'signed'
    """

    title: str
    pictures: Tensor | Sequence[Tensor]
    kind: str = "image"
    limit: float | None = None
    over: Tensor | Sequence[Tensor] | None = None


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


def show(
    ax: Axes, picture: Tensor, kind: str = "image", limit: float | None = None, *, over: Tensor | None = None
) -> None:
    """Draw one picture (C, H, W) as an image, as sizes or as signed values; see `Column`.

    >>> import matplotlib.pyplot as plt
    >>> import torch
    >>> from atexlib import show
    >>> figure, ax = plt.subplots()
    >>> show.show(ax, torch.tensor([[[-1.0, 3.0]]]), "signed")
    >>> ax.images[0].get_clim()
    (-3.0, 3.0)
    >>> plt.close(figure)

    Args:
        ax: where to draw.
        picture: an image or a map (C, H, W).
        kind: `image`, `size` or `signed`.
        limit: the end of the colour scale; such a map is drawn pixel by pixel, however large it is.
        over: the photograph (C, H, W), as large as the map, over which sizes are laid.

    Raises:
        ValueError: an unknown kind; a photograph under what is no map of sizes, or of another size.
    """
    checks.one_of("kind", kind, CMAPS)
    if over is not None and (kind != "size" or over.shape[1:] != picture.shape[1:]):
        raise ValueError(
            f"over of shape {tuple(over.shape)} does not fit a picture of kind {kind!r} and shape "
            f"{tuple(picture.shape)}; lay sizes over a photograph as large as the map."
        )
    values = picture.detach().cpu().float()
    if kind == "image":
        shown, low, high = (values.permute(1, 2, 0) if len(values) == 3 else values.mean(0)), 0.0, 1.0
    else:
        shown = values.abs().amax(0) if kind == "size" else values.sum(0)
        if _is_smoothed(picture, kind, limit):
            shown = F.avg_pool2d(shown[None], WINDOW, 1, WINDOW // 2, count_include_pad=False)[0]
            limit = float(shown.abs().flatten().quantile(CAP))
        high = limit or float(shown.abs().max()) or 1.0
        low = 0.0 if kind == "size" else -high
    if over is None:
        ax.imshow(shown.numpy(), cmap=CMAPS[kind], vmin=low, vmax=high, interpolation="nearest")
    else:
        share = (shown / high).clamp(0, 1).numpy()
        grey = plt.get_cmap("gray")(over.detach().cpu().float().mean(0).numpy())
        veil = (VEIL[0] + VEIL[1] * share)[..., None]
        colours = (1 - veil) * grey + veil * plt.get_cmap(CMAPS[kind])(share)
        ax.imshow(colours[..., :3], interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)


def _is_smoothed(picture: Tensor, kind: str, limit: float | None) -> bool:
    """Whether a picture is a map so large that means are drawn of it."""
    return kind != "image" and limit is None and max(picture.shape[1:]) > LARGE


def gallery(
    columns: Sequence[Column], *, rows: Sequence[str] | None = None, note: str = "", side: float = 1.25
) -> Figure:
    """A grid of pictures: one column each, one row an image, with labels at the left and a note at the foot.

    Beside maps that lie over photographs stands a bar of their colours, from zero to the end of each map's scale.

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
    count, bar = lengths[0], any(column.over is not None for column in columns)
    figure, axes = plt.subplots(
        count, len(columns), figsize=(side * len(columns) + 0.4 + 0.7 * bar, side * count + 0.5), squeeze=False
    )
    for column, stack in zip(axes.T, columns, strict=True):
        column[0].set_title(stack.title, fontsize=9)
        under = [None] * count if stack.over is None else stack.over
        for ax, picture, over in zip(column, stack.pictures, under, strict=True):
            show(ax, picture, stack.kind, stack.limit, over=over)
    for ax, label in zip(axes[:, 0], rows or [], strict=False):
        ax.set_ylabel(label, fontsize=8)
    if bar:
        scale = figure.colorbar(ScalarMappable(cmap=CMAPS["size"]), ax=axes, ticks=[0, 1], shrink=1 / count, aspect=14)
        scale.ax.set_yticklabels(["0", "end"], fontsize=8)
    smoothed = any(_is_smoothed(stack.pictures[0], stack.kind, stack.limit) for stack in columns)
    foot(figure, "\n".join([note] * bool(note) + [SEEN] * smoothed))
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


def webp(figure: Figure, *, dpi: int = 100, quality: int | None = None) -> bytes:
    """A figure as a WebP picture, closed, so that no notebook shows it again.

    It is without loss, a third of a PNG's size, unless a quality from 0 to 100 is given, as photographs may want.

    >>> import matplotlib.pyplot as plt
    >>> from atexlib import show
    >>> show.webp(plt.figure(figsize=(1, 1)))[8:12]
    b'WEBP'
    """
    file = io.BytesIO()
    options = {"lossless": True} if quality is None else {"quality": quality}
    figure.savefig(file, format="webp", dpi=dpi, bbox_inches="tight", pil_kwargs=options)
    plt.close(figure)
    return file.getvalue()
