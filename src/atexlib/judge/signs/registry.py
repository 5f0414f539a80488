"""The register of signs: a decorator at the definition enters one, everything else reads it here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ... import checks
from ...explain.registry import Explainer, find
from ...nets import running
from .accused import Accused, Suspect

NET = "net"  # the signs of a net, whatever map is shown


@dataclass(frozen=True)
class Sign:
    """A sign of manipulation: larger is more suspicious."""

    score: Callable[[Any], float]
    label: str
    """What it measures, in words for a table."""
    of_net: bool
    """Whether it asks of the net alone, and not of the map that is shown."""


SIGNS: dict[str, Sign] = {}


def sign(name: str, *, label: str, of_net: bool = False) -> Callable[[Callable[[Any], float]], Callable[[Any], float]]:
    """Enter the decorated function in the register: a Suspect, or for `of_net` an Accused, to one number.

    >>> from atexlib.judge import signs
    >>> @signs.sign("weights held", label="how many weights", of_net=True)
    ... def held(accused):
    ...     return float(sum(weight.numel() for weight in accused.model.parameters()))
    >>> signs.SIGNS.pop("weights held").label
    'how many weights'
    """

    def enter(function: Callable[[Any], float]) -> Callable[[Any], float]:
        SIGNS[name] = Sign(function, label, of_net)
        return function

    return enter


@checks.derivatives()
def suspicion(
    model: nn.Module,
    images: Tensor,
    *,
    explainers: Sequence[str] | Mapping[str, Explainer] = ("gradient",),
    signs: Sequence[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Every sign of manipulation of a net, for the net itself and for each explainer; larger is more suspicious.

    A number means something beside those of honest nets alone: see the chapter on manipulated models.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(6, 1, 8, 8)
    >>> found = judge.suspicion(net, x, signs=["differences", "sameness"])
    >>> sorted(found), list(found["gradient"]), found["net"]["differences"] < 0.01
    (['gradient', 'net'], ['sameness'], True)

    Args:
        model: net that takes images in [0, 1] and returns logits (B, C); it is used where its weights are.
        images: clean images (N, C, H, W) in [0, 1], at least two; the maps of the first 64 are read, all of them say
            what images are like.
        explainers: names from `explain.available()`, or a dict of names and functions like those: whose maps are shown.
        signs: names from SIGNS; all if None.

    Raises:
        ValueError: images out of range; an unknown name; an explainer that refuses the net.
    """
    model = running.plain(model)
    checks.batch("images", images, bounds=(0, 1))
    checks.fine("images", images)
    checks.count("number of images", len(images), low=2)
    for what, names in {"explainers": explainers, "signs": signs}.items():
        if isinstance(names, str):
            raise ValueError(f"{what} is {names!r}; pass a list of names, [{names!r}].")
    checks.count("number of explainers", len(explainers))
    names = list(SIGNS) if signs is None else list(signs)
    for name in names:
        checks.one_of("sign", name, SIGNS)
    known = explainers if isinstance(explainers, Mapping) else {name: name for name in explainers}
    chosen = {name: find(function) for name, function in known.items()}
    device = next((weight.device for weight in model.parameters()), images.device)
    images = images.to(device)
    running.check_steady(model, images)
    accused = Accused(model, images)
    with running.evaluating(model), torch.enable_grad():
        found = {NET: {name: float(SIGNS[name].score(accused)) for name in names if SIGNS[name].of_net}}
        for each, explainer in chosen.items():
            suspect = Suspect(accused, each, explainer)
            found[each] = {name: float(SIGNS[name].score(suspect)) for name in names if not SIGNS[name].of_net}
    return found
