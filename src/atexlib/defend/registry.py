"""The register of defences: a decorator at the trainer's definition enters one or more, everything else reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..nets.training import Fitted

Trainer = Callable[..., Fitted]


@dataclass(frozen=True)
class Defense:
    """A trainer with the settings under which tables and nets know it.

    >>> from atexlib import defend
    >>> defend.DEFENSES["naive"].label, defend.DEFENSES["naive"].takes_maps
    ('naive', False)
    """

    train: Trainer
    """Called as `train(model, data, *, epochs, ..., **settings)`."""
    label: str
    """Its name in a table or figure."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    takes_maps: bool = False
    """Whether it takes `maps=`, explanations of the net that it starts from, which several trainings may share."""
    history: tuple[str, ...] = ("first",)
    """What moved its nets, one line for each version of the trainer."""
    start: str = "none"
    """Whose net it trains on, `none` (the undefended net) or another defence of the register."""
    shape: Callable[[nn.Module, Mapping[str, Any]], nn.Module] | None = None
    """What its settings make of the architecture of a net, called as `shape(net, settings)`, or None if it stays."""


DEFENSES: dict[str, Defense] = {}


def defense(
    name: str,
    *,
    label: str,
    settings: Mapping[str, Any],
    takes_maps: bool = False,
    history: tuple[str, ...] = ("first",),
    start: str = "none",
    shape: Callable[[nn.Module, Mapping[str, Any]], nn.Module] | None = None,
) -> Callable[[Trainer], Trainer]:
    """Enter the decorated trainer in the register under a name, with the settings that its nets are made with.

    >>> @defense("nothing", label="nothing", settings={})
    ... def nothing(model, data, *, epochs, **options):
    ...     return None
    >>> DEFENSES.pop("nothing").label
    'nothing'
    """

    def enter(train: Trainer) -> Trainer:
        DEFENSES[name] = Defense(train, label, dict(settings), takes_maps, history, start, shape)
        return train

    return enter


def available() -> tuple[str, ...]:
    """The names of all defences.

    >>> from atexlib import defend
    >>> {"naive", "atex"} <= set(defend.available())
    True
    """
    return tuple(DEFENSES)
