"""The data sets: published files that are checked before they are trusted, digits, and a folder of pictures."""

import contextlib
import functools
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import lazy_loader
import torch
import torch.nn.functional as F
from torch import Tensor

from .folder import load_folder
from .registry import SPLITS, ImageSet, dataset

torchvision = lazy_loader.load("torchvision")  # it takes a second to import

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


COLOUR = "cifar10-jpeg"
SIDE = 32  # of its pictures
SHARE = 0.2  # of its training pictures that are for validation


@dataset("fashion-mnist", title="Fashion-MNIST", shape=(1, 28, 28), classes=10, fingerprint="1a148ef6ca3880d8")
def fashion_mnist(split: str, root: Path) -> ImageSet:
    """Fashion-MNIST: 50,000 / 10,000 / 10,000 images, the validation images the last sixth of those for training."""
    return _idx("fashion-mnist", "FashionMNIST", split, root)


@dataset("mnist", title="MNIST", shape=(1, 28, 28), classes=10, fingerprint="1377b4b78945b48e")
def mnist(split: str, root: Path) -> ImageSet:
    """MNIST, split alike."""
    return _idx("mnist", "MNIST", split, root)


@dataset("digits", title="scikit-learn's digits", shape=(1, 28, 28), classes=10, fingerprint="9b934a9b0a70f26b")
def digits(split: str, _root: Path) -> ImageSet:
    """Scikit-learn's digits, enlarged to 28 pixels: 1,000 / 297 / 500 images of a permutation drawn once."""
    from sklearn.datasets import load_digits  # a second to import: here, not above

    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=torch.Generator().manual_seed(0))
    rows = dict(zip(SPLITS, order.split([1000, 297, 500]), strict=True))[split]
    small = torch.from_numpy(bunch.images).float().unsqueeze(1)[rows] / 16
    images = F.interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    return ImageSet(images, torch.from_numpy(bunch.target)[rows].long(), "digits", tuple("0123456789"))


@dataset(COLOUR, title="CIFAR-10 as JPEG files", shape=(3, SIDE, SIDE), classes=10, fingerprint="5855b008cec308af")
def cifar10_jpeg(split: str, root: Path) -> ImageSet:
    """CIFAR-10 as JPEG files, lossy and so not the published data set: the folders `train` and `test` of class folders.

    The pictures are put in an order drawn once, since those of a folder tree come class by class.
    """
    images, labels, classes = _tree(root / COLOUR / ("test" if split == "test" else "train"))
    cut = round(len(labels) * (1 - SHARE))
    part = {"train": slice(0, cut), "validation": slice(cut, None), "test": slice(None)}[split]
    return ImageSet(images[part], labels[part], COLOUR, classes)


@functools.lru_cache(maxsize=2)
def _tree(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    found = load_folder(path, size=SIDE, progress=True)
    order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
    return found.images[order], found.labels[order], found.classes


def _idx(name: str, folder: str, split: str, root: Path) -> ImageSet:
    dataset, raw = getattr(torchvision.datasets, folder), root / folder / "raw"
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
