"""Figures: galleries of images and maps, and frames that a reader moves through."""

from .frames import Frames, frames
from .plotting import CMAPS, Column, foot, gallery, show, style, webp

__all__ = ["CMAPS", "Column", "Frames", "foot", "frames", "gallery", "show", "style", "webp"]
