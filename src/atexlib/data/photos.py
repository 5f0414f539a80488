"""Photographs under free licences that scikit-image and scikit-learn bring along, for nets that know ImageNet."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lazy_loader
import torch

from .. import checks
from .folder import read_picture, to_square
from .registry import ImageSet

torchvision = lazy_loader.load("torchvision")  # it takes a second to import

FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


@dataclass(frozen=True)
class Photograph:
    """A photograph, who took it, and what may be done with it.

    >>> from atexlib import data
    >>> data.PHOTOGRAPHS["chelsea"].license
    'CC0'
    """

    package: str
    """That brings it along, `skimage` or `sklearn`."""
    file: str
    label: int | None
    """Number of its class in ImageNet, None where it has none."""
    license: str
    author: str
    source: str
    """Where it comes from, or what states its licence."""
    digest: str
    """SHA-256 of the file."""


SKIMAGE, FLICKR = "https://scikit-image.org/docs/stable/api/skimage.data.html", "https://www.flickr.com/photos"
PHOTOGRAPHS = {
    "chelsea": Photograph(
        "skimage", "chelsea.png", 285, "CC0", "Stefan van der Walt", SKIMAGE,
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    "coffee": Photograph(
        "skimage", "coffee.png", 967, "CC0", "Rachel Michetti", SKIMAGE,
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    "camera": Photograph(
        "skimage", "camera.png", 872, "CC0", "Lav Varshney", SKIMAGE,
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
    ),
    "rocket": Photograph(
        "skimage", "rocket.jpg", 657, "public domain", "SpaceX", f"{FLICKR}/spacexphotos/16511594820",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
    "china": Photograph(
        "sklearn", "china.jpg", 698, "CC BY 2.0", "danielbuechele", f"{FLICKR}/danielbuechele/6061409035",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    "astronaut": Photograph(
        "skimage", "astronaut.png", None, "public domain", "NASA", "https://flic.kr/p/r9qvLn",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    "flower": Photograph(
        "sklearn", "flower.jpg", None, "CC BY 2.0", "vultilion", f"{FLICKR}/vultilion/6056698931",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
}  # fmt: skip


ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # of the pictures in a folder


def photographs(size: int = 224, *, names: Sequence[str] | None = None, folder: str | Path | None = None) -> ImageSet:
    """Photographs whose centre square has `size` pixels a side, with the numbers of their classes in ImageNet.

    They are read where scikit-image and scikit-learn keep them, `pip install "atexlib[real]"`; nothing is downloaded.
    PHOTOGRAPHS says who took each and under which licence.

    >>> from atexlib import data
    >>> cat = data.photographs(names=["chelsea"])
    >>> cat.images.shape, cat.classes[cat.labels[0]]
    (torch.Size([1, 3, 224, 224]), 'Egyptian cat')

    Args:
        size: side of the images, in pixels.
        names: some of PHOTOGRAPHS, in the order of the images; those with a class if None.
        folder: with photographs of your own, to be taken in place of these, by name; hidden files are passed over.

    Returns:
        Images, with labels that count in the thousand classes of ImageNet; -1 for a photograph without a class.

    Raises:
        ValueError: an unknown name, none at all; a package that is not installed, a file that was altered; a folder
            without pictures.
    """
    checks.count("size", size)
    if folder is not None:
        if names is not None:
            raise ValueError("names and folder are both given; pass one of them.")
        return _stacked(_pictures(folder), size)
    if names is None:
        names = [name for name, photograph in PHOTOGRAPHS.items() if photograph.label is not None]
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise ValueError(f"names is {names!r}; pass a list of names, for example ['chelsea'].")
    for name in names:
        checks.one_of("name", name, PHOTOGRAPHS)
    chosen = [PHOTOGRAPHS[name] for name in names]
    paths = [_path(photograph) for photograph in chosen]
    return _stacked(paths, size, [-1 if photograph.label is None else photograph.label for photograph in chosen])


def _stacked(paths: Sequence[Path], size: int, labels: Sequence[int] | None = None) -> ImageSet:
    """The pictures in these files, with their labels, -1 where none are known."""
    square = to_square(size)
    images = torch.stack([square(read_picture(str(path))) for path in paths])
    classes = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    return ImageSet(
        images,
        torch.tensor(labels or [-1] * len(paths)),
        "photographs",
        tuple(classes),
        tuple(path.name for path in paths),
    )


def _pictures(folder: str | Path) -> list[Path]:
    """The pictures that lie in a folder, by name."""
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder; pass one with photographs in it.")
    found = sorted(path for path in place.iterdir() if path.suffix.lower() in ENDINGS and path.name[0] != ".")
    if not found:
        raise ValueError(f"there is no picture in {place}; put photographs there that end in {', '.join(ENDINGS)}.")
    return found


def _path(photograph: Photograph) -> Path:
    """The file of a photograph, if it is the one that is meant."""
    found = importlib.util.find_spec(photograph.package)
    if found is None or found.origin is None:
        raise ValueError(f'{photograph.package} is not installed; install it: pip install "atexlib[real]".')
    path = Path(found.origin).parent / FOLDERS[photograph.package] / photograph.file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); install {photograph.package} anew.") from error
    if digest != photograph.digest:
        raise ValueError(
            f"{path} is another picture: its SHA-256 is {digest[:12]}...; install {photograph.package} anew."
        )
    return path
