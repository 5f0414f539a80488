"""The images of the fooling experiment: the data sets of `data`, and pictures in colour from a tree of folders."""

import functools
import os
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from .. import checks, data
from ..data import ImageSet

COLOUR = "cifar10-jpeg"  # CIFAR-10 as JPEG files, a folder a class: lossy, so not the published data set
DATASETS = (*data.DATASETS, COLOUR)
CHANNELS = {COLOUR: 3}  # the others have one
SIDE = 32
SHARE = 0.2  # of the training pictures that are for validation


def load(dataset: str, split: str) -> ImageSet:
    """Load a split of one of DATASETS; `cifar10-jpeg` from the folders `train` and `test` under ATEXLIB_DATA.

    Its pictures are put in an order drawn once, since those of a folder tree come class by class. The last fifth of the
    training pictures is for validation.

    Raises:
        ValueError: unknown name or split; no such folders.
    """
    if dataset != COLOUR:
        return data.load(dataset, split)
    checks.one_of("split", split, data.SPLITS)
    root = Path(os.environ.get("ATEXLIB_DATA") or platformdirs.user_cache_dir("atexlib")) / COLOUR
    images, labels, classes = _tree(root / ("test" if split == "test" else "train"))
    cut = round(len(labels) * (1 - SHARE))
    part = {"train": slice(0, cut), "validation": slice(cut, None), "test": slice(None)}[split]
    return ImageSet(images[part], labels[part], COLOUR, classes)


@functools.lru_cache(maxsize=2)
def _tree(path: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    found = data.load_folder(path, size=SIDE, progress=True)
    order = torch.randperm(len(found.labels), generator=torch.Generator().manual_seed(0))
    return found.images[order], found.labels[order], found.classes
