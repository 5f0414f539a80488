"""The signs as an audit reads them: each beside what honest nets show, as far as that was measured, and all errors."""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...explain.registry import Explainer
from .accused import IMAGES, Accused, Suspect
from .registry import NET, SIGNS

LIMITS = Path(__file__).parent / "limits.json"  # made from the cards of kind `signs`; a test compares
ALWAYS = ("differences", "deletion")  # which mean something without a threshold
SMALL = 64  # pixels of a side up to which a copy is retrained
KNOWN = (NET, "gradient", "grad_cam")  # read in an audit as in the cards; LRP is read elsewhere there


class Reading(NamedTuple):
    """A sign of a net, or of the maps of an explainer, and how honest nets compare; None where that is not known.

    >>> from atexlib.judge.signs import reading
    >>> reading.Reading("deletion", "gradient", 0.5, limit=0.3, alarms=1, honest=20).alarm
    True
    """

    sign: str
    of: str
    """`net`, or the explainer."""
    value: float
    limit: float | None = None
    """The threshold that at most one in twenty honest nets exceeds which set it."""
    alarms: int | None = None
    """Honest nets above it, among `honest` that did not set it."""
    honest: int | None = None

    @property
    def alarm(self) -> bool:
        """Whether the value lies above the threshold."""
        return self.limit is not None and self.value > self.limit


@functools.cache
def limits() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """For the net and each explainer the signs that survived, with threshold and false alarms, from the cards."""
    return json.loads(LIMITS.read_text(encoding="utf-8"))


def read(
    model: nn.Module, images: Tensor, explainers: Mapping[str, Explainer], *, many: int = IMAGES
) -> tuple[list[Reading], list[str]]:
    """The signs that survived, and those that need no threshold; and a note on each that could not be read.

    No more than `many` images, and than 64, are in the net at once.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> from atexlib.judge.signs import reading
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(6, 1, 8, 8)
    >>> found, notes = reading.read(net, x, {"gradient": explain.gradient})
    >>> found[0].sign, found[0].of, notes
    ('differences', 'net', [])
    """
    accused, found, notes = Accused(model, images, min(many, IMAGES)), [], []
    for of in (NET, *explainers):
        known = limits().get(of, {}) if of in KNOWN else {}
        for name in dict.fromkeys([*ALWAYS, *known]):
            if SIGNS[name].of_net != (of == NET) or (name == "retraining" and max(images.shape[2:]) > SMALL):
                continue
            asked = accused if of == NET else Suspect(accused, of, explainers[of])
            try:
                with torch.enable_grad():
                    value = float(SIGNS[name].score(asked))
                if not math.isfinite(value):
                    raise ValueError(f"it is {value}")
            except Exception as error:  # of a net of one's own, which must not end what is known of it
                notes.append(f"The sign {name!r} of {of} could not be read: {type(error).__name__} ({error}).")
                continue
            found.append(Reading(name, of, value, **known.get(name, {})))
    return found, notes
