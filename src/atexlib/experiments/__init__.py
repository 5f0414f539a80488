"""Experiments: nets and result cards at the sizes of the presets, where they come from, and what they say."""

from . import kinds
from .engine.kinds import KINDS, Kind, kind
from .engine.place import Place
from .engine.presets import PRESETS, Preset
from .engine.results import ensure, grid, load, run_all, run_or_load, status
from .subjects.nets import trained

__all__ = [
    "KINDS",
    "PRESETS",
    "Kind",
    "Place",
    "Preset",
    "ensure",
    "grid",
    "kind",
    "kinds",
    "load",
    "run_all",
    "run_or_load",
    "status",
    "trained",
]
