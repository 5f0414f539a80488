"""Images with labels, and the register of data sets: fixed splits, fingerprints, one function that loads any."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import platformdirs
from torch import Tensor

from .. import checks

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W), float32 in [0, 1], with their labels (N,), the data set's name and its classes' names.

    What was read from files also holds their names.

    >>> from atexlib import data
    >>> few = data.load("digits", "test").first(3)
    >>> few.images.shape, few.labels
    (torch.Size([3, 1, 28, 28]), tensor([3, 0, 7]))
    """

    images: Tensor
    labels: Tensor
    name: str
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any pixel, label or shape."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        digest.update(self.images.contiguous().numpy())  # type: ignore[arg-type]
        digest.update(self.labels.contiguous().numpy())  # type: ignore[arg-type]
        return digest.hexdigest()[:16]

    def first(self, count: int) -> "ImageSet":
        """The first `count` images."""
        checks.count("count", count, high=len(self.labels))
        return ImageSet(self.images[:count], self.labels[:count], self.name, self.classes, self.files[:count])


@dataclass(frozen=True)
class Dataset:
    """A data set that `load` knows.

    >>> from atexlib import data
    >>> data.DATASETS["digits"].title, data.DATASETS["digits"].shape
    ("scikit-learn's digits", (1, 28, 28))
    """

    read: Callable[[str, Path], ImageSet]
    """Called as `read(split, root)`."""
    title: str
    """Its name in a sentence."""
    shape: tuple[int, int, int]
    """Channels, height and width of an image."""
    classes: int
    fingerprint: str
    """Stands for the pixels, labels and splits in the results that rest on them; another means other images."""


DATASETS: dict[str, Dataset] = {}


def dataset(
    name: str, *, title: str, shape: tuple[int, int, int], classes: int, fingerprint: str
) -> Callable[[Callable[[str, Path], ImageSet]], Callable[[str, Path], ImageSet]]:
    """Enter the decorated function `read(split, root) -> ImageSet` in the register of data sets.

    >>> from atexlib import data
    >>> @data.dataset("none", title="no images", shape=(1, 8, 8), classes=2, fingerprint="0")
    ... def none(split, root):
    ...     raise ValueError("there are none.")
    >>> data.DATASETS.pop("none").title
    'no images'
    """

    def enter(read: Callable[[str, Path], ImageSet]) -> Callable[[str, Path], ImageSet]:
        DATASETS[name] = Dataset(read, title, shape, classes, fingerprint)
        return read

    return enter


def available() -> tuple[str, ...]:
    """The names of all data sets.

    >>> from atexlib import data
    >>> data.available()
    ('fashion-mnist', 'mnist', 'digits', 'cifar10-jpeg')
    """
    return tuple(DATASETS)


def load(name: str, split: str, *, root: str | Path | None = None) -> ImageSet:
    """Load one split of a data set.

    The root is `root`, else the environment variable ATEXLIB_DATA, else the user's cache folder. Fashion-MNIST and
    MNIST are read in place from torchvision's layout and downloaded where they are missing; digits come with
    scikit-learn; `cifar10-jpeg` is a folder of class folders. The splits are fixed, see `sets`.

    >>> from atexlib import data
    >>> test = data.load("digits", "test")
    >>> tuple(test.images.shape), test.fingerprint == data.load("digits", "test").fingerprint
    ((500, 1, 28, 28), True)

    Args:
        name: one of DATASETS.
        split: `train`, `validation` or `test`.
        root: folder that holds, or shall hold, `MNIST/raw`, `FashionMNIST/raw` and so on.

    Raises:
        ValueError: unknown name or split; a file that is missing, truncated or altered.
    """
    checks.one_of("name", name, DATASETS)
    checks.one_of("split", split, SPLITS)
    root = Path(root or os.environ.get("ATEXLIB_DATA") or platformdirs.user_cache_dir("atexlib"))
    return DATASETS[name].read(split, root.expanduser())
