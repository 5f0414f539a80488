"""A folder of class folders with pictures, the ImageNet kind, or of pictures."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from .. import checks
from .registry import ImageSet

MOST_PIXELS = 100_000_000  # of a picture: a small file may say that it has any number, and all of them are unpacked
# What Pillow raises of a broken file, besides OSError.
BROKEN = (Image.DecompressionBombError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, struct.error)


def load_folder(path: str | Path, *, size: int, per_class: int | None = None, progress: bool = False) -> ImageSet:
    """Load a tree with one folder per class, the ImageNet kind: `path/class name/picture.jpg`; or a folder of pictures.

    Where there is no folder in it, its pictures have no class: their labels are -1, and `classes` is empty.

    Each picture is turned as its EXIF orientation says, laid on white where it is transparent, and made RGB. Its
    shorter side is resized to `size`, and the centre square kept. Hidden files and folders, which begin with a dot, are
    left out.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image, ImageOps
    >>> from atexlib import data
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "cat").mkdir()
    ...     Image.new("RGB", (9, 6)).save(Path(folder) / "cat" / "tom.png")
    ...     found = data.load_folder(folder, size=4)
    >>> found.images.shape, found.classes, found.files
    (torch.Size([1, 3, 4, 4]), ('cat',), ('cat/tom.png',))

    Args:
        path: the folder of the class folders (so `.../train`, not its parent), or of the pictures.
        size: side of the images, in pixels.
        per_class: keep at most so many pictures of each class, the first by name.
        progress: show a progress bar.

    Raises:
        ValueError: no such folder, a class without pictures, a picture that cannot be read or is far too large; a link
            to a folder, or to a picture elsewhere.
    """
    checks.count("size", size)
    if per_class is not None:
        checks.count("per_class", per_class)
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path is {path!r}; pass the name of a folder.")
    path = Path(path).expanduser()
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; pass one that holds a folder of pictures for each class.")
    _check_links(path)
    from torchvision.datasets import ImageFolder  # a second to import: here, not above
    from torchvision.datasets.folder import IMG_EXTENSIONS

    class Shown(ImageFolder):
        """The folders that are not hidden."""

        def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
            classes = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir() and _is_shown(entry.name))
            classes = classes or [""]  # the folder itself, whose pictures have no class
            return classes, {name: number for number, name in enumerate(classes)}

    def is_picture(file: str) -> bool:
        return all(map(_is_shown, Path(file).relative_to(path).parts)) and file.lower().endswith(IMG_EXTENSIONS)

    try:
        folder: Any = Shown(path, transform=to_square(size), loader=read_picture, is_valid_file=is_picture)
    except FileNotFoundError as error:
        told = f"{path} is neither a tree of class folders with pictures in each nor a folder of pictures: {error}"
        raise ValueError(told) from error
    targets, classes = torch.tensor(folder.targets), folder.classes
    files = tuple(Path(file).relative_to(path).as_posix() for file, _ in folder.samples)
    if per_class is not None:
        rank = torch.arange(len(targets)) - torch.searchsorted(targets, targets)  # place within its own class
        kept = (rank < per_class).nonzero()[:, 0].tolist()
        folder, targets, files = Subset(folder, kept), targets[kept], tuple(files[number] for number in kept)
    if classes == [""]:
        targets, classes = torch.full_like(targets, -1), []
    batches = tqdm(DataLoader(folder, batch_size=256), desc=f"reading {path.name}", disable=not progress)
    return ImageSet(torch.cat([images for images, _ in batches]), targets, path.name, tuple(classes), files)


def to_square(size: int) -> Callable[[Image.Image], Tensor]:
    """A picture's centre square (3, size, size) in [0, 1], its shorter side resized to that."""
    from torchvision.transforms import v2  # a second to import: here, not above

    return v2.Compose(
        [v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )


def _check_links(path: Path) -> None:
    """Raise for a link to a folder, which may lead anywhere or in a circle, and for one to a file outside.

    Hidden ones too: torchvision walks through them all, even if nothing in them is taken.
    """
    root = path.resolve()
    for top, folders, names in os.walk(path):
        for found in (Path(top, name) for name in (*folders, *names)):
            if found.is_symlink() and (found.is_dir() or not found.resolve().is_relative_to(root)):
                raise ValueError(f"{found} is a link to {os.readlink(found)}; put the pictures themselves there.")


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def read_picture(path: str) -> Image.Image:
    """A picture upright, in RGB, on white where it is transparent."""
    try:
        with Image.open(path) as picture:
            refused = _refused(picture)
            if not refused:
                return _on_white(ImageOps.exif_transpose(picture))
    except (OSError, *BROKEN) as error:
        raise ValueError(f"{path} is not a readable picture ({error}); replace it or take it away.") from error
    raise ValueError(f"{path} has {refused}.")


def _refused(picture: Image.Image) -> str:
    """What a picture has too much of, before it is unpacked, and what to do; nothing if it is fine."""
    if picture.width * picture.height > MOST_PIXELS:
        return f"{picture.width} x {picture.height} pixels, more than {MOST_PIXELS:,} in all; save it smaller"
    if picture.mode.startswith(("I", "F")):  # turning it to RGB would cut it off at 255
        return f"more than 8 bits a channel (mode {picture.mode}); save it with 8 bits"
    return ""


def _on_white(upright: Image.Image) -> Image.Image:
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    opaque = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
