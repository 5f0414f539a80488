"""Data sets, folders of pictures, photographs, and canvases that hold two objects.

>>> from atexlib import data
>>> data.load("digits", "validation").images.shape
torch.Size([297, 1, 28, 28])
"""

from .canvas import padded, pairs, singles
from .folder import load_folder
from .photos import PHOTOGRAPHS, Photograph, photographs
from .registry import DATASETS, SPLITS, Dataset, ImageSet, available, dataset, load
from .sets import COLOUR

__all__ = [
    "COLOUR",
    "DATASETS",
    "PHOTOGRAPHS",
    "SPLITS",
    "Dataset",
    "ImageSet",
    "Photograph",
    "available",
    "dataset",
    "load",
    "load_folder",
    "padded",
    "pairs",
    "photographs",
    "singles",
]
