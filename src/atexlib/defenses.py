"""The defences by training, side by side: the naive one (Eq. 2) and ATEX (Eq. 4-6)."""

from .atex import train_atex
from .naive import train_naive

__all__ = ["train_atex", "train_naive"]
