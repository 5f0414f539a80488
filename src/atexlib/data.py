"""Data sets as tensors: fixed splits, fingerprints, and files that are checked before they are trusted."""

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import datasets
from torchvision.transforms import v2
from tqdm import tqdm

from . import checks

DATASETS = ("fashion-mnist", "mnist", "digits")
SPLITS = ("train", "validation", "test")
_FOLDERS = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}  # as torchvision names them

# The published files: SHA-256 of the unpacked bytes, in torchvision's layout ROOT/FOLDER/raw/NAME.
_IDX_FILES = {
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
}


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W), float32 in [0, 1], with their labels (N,), the data set's name and its classes' names."""

    images: Tensor
    labels: Tensor
    name: str
    classes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel, label or shape."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        digest.update(self.images.contiguous().numpy())
        digest.update(self.labels.contiguous().numpy())
        return digest.hexdigest()[:16]

    def first(self, count: int) -> "ImageSet":
        """The first `count` images."""
        checks.count("count", count, high=len(self.labels))
        return ImageSet(self.images[:count], self.labels[:count], self.name, self.classes)


def load(name: str, split: str, *, root: str | Path | None = None) -> ImageSet:
    """Load one split of `fashion-mnist`, `mnist` or `digits`.

    The root is `root`, else the environment variable ATEXLIB_DATA, else the user's cache folder. The first two data
    sets are read in place from torchvision's layout and downloaded where they are missing; digits come with
    scikit-learn. The splits are fixed: 50,000 / 10,000 / 10,000 images (the validation images are the last sixth of the
    published training set), and 1,000 / 297 / 500 for digits (a permutation drawn once).

    Args:
        name: one of DATASETS.
        split: `train`, `validation` or `test`.
        root: folder that holds, or shall hold, `MNIST/raw` and `FashionMNIST/raw`.

    Raises:
        ValueError: unknown name or split; a file that is missing, truncated or altered.
    """
    checks.one_of("name", name, DATASETS)
    checks.one_of("split", split, SPLITS)
    if name == "digits":
        return _digits(split)
    return _idx(name, split, Path(root or os.environ.get("ATEXLIB_DATA") or platformdirs.user_cache_dir("atexlib")))


def load_folder(path: str | Path, *, size: int, per_class: int | None = None, progress: bool = False) -> ImageSet:
    """Load a tree with one folder per class, the ImageNet kind: `path/class name/picture.jpg`.

    Each picture is turned to RGB, its shorter side is resized to `size`, and the centre square is kept.

    Args:
        path: the folder of the class folders (so `.../train`, not its parent).
        size: side of the images, in pixels.
        per_class: keep at most so many pictures of each class, the first by name.
        progress: show a progress bar.

    Raises:
        ValueError: no such folder, a class without pictures, a picture that cannot be read.
    """
    checks.count("size", size)
    if per_class is not None:
        checks.count("per_class", per_class)
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path is {path!r}; pass the name of a folder.")
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder; pass one that holds a folder of pictures for each class.")
    to_square = v2.Compose(
        [v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    )
    try:
        folder = datasets.ImageFolder(path, transform=to_square, loader=_read_picture)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is not a tree of class folders with pictures in each: {error}") from error
    targets = torch.tensor(folder.targets)
    if per_class is not None:
        rank = torch.arange(len(targets)) - torch.searchsorted(targets, targets)  # place within its own class
        folder, targets = Subset(folder, (rank < per_class).nonzero()[:, 0].tolist()), targets[rank < per_class]
        classes = folder.dataset.classes
    else:
        classes = folder.classes
    batches = tqdm(DataLoader(folder, batch_size=256), desc=f"reading {path.name}", disable=not progress)
    return ImageSet(torch.cat([images for images, _ in batches]), targets, path.name, tuple(classes))


def _read_picture(path: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):  # turning it to RGB would cut it off at 255
                raise ValueError(f"{path} has more than 8 bits a channel (mode {picture.mode}); save it with 8 bits.")
            return picture.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}); replace it or take it away.") from error


def _idx(name: str, split: str, root: Path) -> ImageSet:
    folder = _FOLDERS[name]
    dataset, raw = getattr(datasets, folder), root / folder / "raw"
    if not all((raw / file).is_file() for file in _IDX_FILES[folder]):
        _download(dataset, root, raw)
    prefix = "t10k" if split == "test" else "train"
    for file, digest in _IDX_FILES[folder].items():
        if file.startswith(prefix):
            _verify(raw / file, digest)
    published = dataset(root, train=split != "test", download=False)
    part = {"train": slice(None, 50_000), "validation": slice(50_000, None), "test": slice(None)}[split]
    images = published.data[part].unsqueeze(1).float() / 255
    return ImageSet(images, published.targets[part].long(), name, tuple(published.classes))


def _download(dataset: type, root: Path, raw: Path) -> None:
    missing = [file for file in _IDX_FILES[dataset.__name__] if not (raw / file).is_file()]
    try:
        with _socket_timeout(10):
            dataset(root, download=True)
    except (OSError, RuntimeError) as error:  # no network, a full or read-only disk, a mirror's broken file
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{raw / missing[0]} is missing and could not be downloaded ({reason}). Connect to the network and call "
            f"again, or set ATEXLIB_DATA to a folder that holds {dataset.__name__}/raw with the published files."
        ) from error


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Keep a dead network from hanging the download, which sets no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _verify(path: Path, digest: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise ValueError(
            f"{path} is not the published file: it has {path.stat().st_size:,} bytes and SHA-256 {found[:12]}..., not "
            f"{digest[:12]}... It was truncated or altered; delete it and call again, and it is downloaded anew."
        )


def _digits(split: str) -> ImageSet:
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    rows = dict(zip(SPLITS, order.split([1000, 297, 500]), strict=True))[split]
    small = torch.from_numpy(bunch.images).float().unsqueeze(1)[rows] / 16
    images = F.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    return ImageSet(images, torch.from_numpy(bunch.target)[rows].long(), "digits", tuple("0123456789"))
