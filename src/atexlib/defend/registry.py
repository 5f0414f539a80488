"""The register of defences: a decorator at the trainer's definition enters one or more, everything else reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ..nets.training import Fitted

Trainer = Callable[..., Fitted]
Loss = Callable[..., Tensor]


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
    loss: Loss | None = None
    """What it minimises, called as `loss(net, x, y, generator, **settings)`, where the defence is a loss alone."""
    cost: float | None = None
    """The time of a step over that of a plain one, where nets are trained for equal times, or None for equal passes."""
    strength: str | None = None
    """The one setting that says how strong it is, of which trials on validation images chose the value."""


DEFENSES: dict[str, Defense] = {}


def defense(name: str, *, label: str, settings: Mapping[str, Any], **more: Any) -> Callable[[Trainer], Trainer]:
    """Enter the decorated trainer in the register under a name, with the settings that its nets are made with.

    Options as the fields of `Defense`.

    >>> @defense("nothing", label="nothing", settings={})
    ... def nothing(model, data, *, epochs, **options):
    ...     return None
    >>> DEFENSES.pop("nothing").label
    'nothing'
    """

    def enter(train: Trainer) -> Trainer:
        DEFENSES[name] = Defense(train, label, dict(settings), **more)
        return train

    return enter


def available() -> tuple[str, ...]:
    """The names of all defences.

    >>> from atexlib import defend
    >>> {"naive", "atex"} <= set(defend.available())
    True
    """
    return tuple(DEFENSES)
