"""Detectors of manipulated inputs, each a score of images with a threshold, and the attacker who knows them.

>>> from atexlib import detect
>>> "consistency" in detect.available()
True
"""

# The register, and every table that reads it, keeps the order of these lines.
from . import consistency
from . import response
from . import curvature
from . import agreement
from . import ties
from . import features
from . import learnt
from . import vote
from .alarms import Alarm, alarm, ranks
from .attacked import known_pair
from .evading import evade, press_on, spared
from .jpeg import jpeg
from .learnt import statistics
from .registry import DETECTORS, Detector, available, detector
from .scene import Look, Scene, apart
from .vote import JOINT, members_of

__all__ = [
    "DETECTORS",
    "JOINT",
    "Alarm",
    "Detector",
    "Look",
    "Scene",
    "agreement",
    "alarm",
    "apart",
    "available",
    "consistency",
    "curvature",
    "detector",
    "evade",
    "features",
    "jpeg",
    "known_pair",
    "learnt",
    "members_of",
    "press_on",
    "ranks",
    "response",
    "spared",
    "statistics",
    "ties",
    "vote",
]
