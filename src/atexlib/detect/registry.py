"""The register of detectors: a decorator at the definition enters one, everything else reads it.

A detector is made for a net by what it may know, its `Scene`, and is then a score of images: (look, generator) -> (B,),
the higher the more suspicious. Where the images want a gradient, the score has a slope: its own or, where it counts or
rounds, that of a smooth stand-in. So whoever knows a detector can climb down it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .scene import Look, Scene

Score = Callable[[Look, torch.Generator], Tensor]
Make = Callable[[Scene], Score]
OWN, STAND_IN = "own", "stand-in"


@dataclass(frozen=True)
class Detector:
    """A detector as tables and figures know it.

    >>> from atexlib import detect
    >>> detect.DETECTORS["jpeg"].slope, detect.DETECTORS["noise"].random
    ('stand-in', True)
    """

    make: Make
    """Called as `make(scene)`; returns the score."""
    label: str
    """Its name in a table or figure."""
    slope: str
    """`own`, or `stand-in` where the score has no derivative and a smooth relative lends it one."""
    random: bool
    """Whether it draws random numbers."""
    needs_sibling: bool
    """Whether it asks a second net."""


DETECTORS: dict[str, Detector] = {}


def detector(
    name: str, *, label: str, slope: str = OWN, random: bool = False, needs_sibling: bool = False
) -> Callable[[Make], Make]:
    """Enter the decorated `make(scene)`, which returns a score, in the register.

    >>> @detector("bright", label="bright images")
    ... def bright(scene):
    ...     return lambda look, generator: look.x.mean((1, 2, 3))
    >>> DETECTORS.pop("bright").label
    'bright images'
    """

    def enter(make: Make) -> Make:
        DETECTORS[name] = Detector(make, label, slope, random, needs_sibling)
        return make

    return enter


def available(scene: Scene | None = None) -> tuple[str, ...]:
    """The names of all detectors, or of those that can be made in a scene.

    >>> from atexlib import detect
    >>> {"noise", "ties", "vote"} <= set(detect.available())
    True
    """
    alone = scene is not None and scene.sibling is None
    return tuple(name for name, chosen in DETECTORS.items() if not (alone and chosen.needs_sibling))
