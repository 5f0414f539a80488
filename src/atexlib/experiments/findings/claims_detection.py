"""What would be true if detectors and signs were of use: claims of Chapters 15 and 16, each as cells above 0."""

from collections.abc import Mapping
from typing import Any

import torch

from ...detect import DETECTORS
from ...detect.vote import JOINT
from ...maps.intervals import Interval, two_level
from ..subjects.recipes import RECIPES
from . import report, suspects, verdicts
from .claims import PAPER_DATA, Cells, Claim

EPS = 0.1
NETS = ("none", "own")
ATTACKS = ("distance", "untargeted", "target_map")
UNUSUAL = ("noise", "Gaussian noise", "adversarial")


def cell(defense: str, eps: float = EPS, dataset: str = PAPER_DATA[0]) -> dict[str, Any]:
    """The spec of what detectors say of changed images, for a net."""
    return {"kind": "detection", "dataset": dataset, "defense": defense, "eps": eps}


def evaded(defense: str, eps: float = EPS, dataset: str = PAPER_DATA[0]) -> dict[str, dict[str, Any]]:
    """The specs of the attacker who knows a detector, for those detectors that were tried on a net."""
    cells = {name: {**cell(defense, eps, dataset), "kind": "evasion", "detector": name} for name in DETECTORS}
    return {name: spec for name, spec in cells.items() if verdicts.found(**spec)}


def listed(spec: Mapping[str, Any]) -> list[str]:
    """The detectors that the cards of a cell speak of."""
    cards = verdicts.found(**spec)
    return [name for name in DETECTORS if cards and f"{name}, clean" in cards[0]["metrics"]]


def apart(spec: Mapping[str, Any], first: str, second: str) -> Interval:
    """One metric minus another of the same cards, image by image."""
    a, b = (torch.stack(list(verdicts.per_image(metric, **spec).values())) for metric in (first, second))
    return two_level(a - b)


def alarms(_defense: str) -> Cells:
    """D1: how much oftener attacked images are flagged than clean ones, by an attacker who thinks of no detector."""
    return _oftener({attack: (attack, "clean") for attack in ATTACKS})


def not_the_unusual(_defense: str) -> Cells:
    """D2: how much oftener attacked images are flagged than those that are merely unusual."""
    return _oftener({other: (ATTACKS[0], other) for other in UNUSUAL})


def knowing_helps(_defense: str) -> Cells:
    """D3: how much less of the map is left by who knows the detector than by who does not."""
    return _left("blind spearman", "knowing spearman")


def protects(_defense: str) -> Cells:
    """D4: how much more of the map is left by who knows the detector than without a detector."""
    return _left("knowing spearman", "blind unseen spearman")


def together(_defense: str) -> Cells:
    """D5: how much more is left by who must silence all detectors at once than by who silences a single one."""
    cells: Cells = {}
    for net in NETS:
        known = evaded(net)
        for name in known:
            if name not in JOINT and JOINT[1] in known:
                cells[f"{report.label(net)}, {DETECTORS[name].label}"] = verdicts.difference(
                    "knowing spearman", known[JOINT[1]], known[name]
                )
    return cells


def liars_told(_defense: str) -> Cells:
    """S1: the area under the ROC curve of the largest sign, beyond chance, for each kind of liar."""
    cells: Cells = {}
    for name in suspects.liars():
        found = suspects.told(suspects.ANY, [name])
        area = None if found is None else found.area
        cells[RECIPES[name].label] = None if area is None else Interval(*(value - 0.5 for value in area))
    return cells


def _oftener(groups: Mapping[str, tuple[str, str]]) -> Cells:
    """How much oftener images of one group are flagged than those of another, for each net, detector and pair."""
    return {
        f"{report.label(net)}, {DETECTORS[name].label}, {title}": apart(
            cell(net), f"{name}, {first}, flagged", f"{name}, {second}, flagged"
        )
        for net in NETS
        for name in listed(cell(net))
        for title, (first, second) in groups.items()
    }


def _left(first: str, second: str) -> Cells:
    return {
        f"{report.label(net)}, {DETECTORS[name].label}": apart(spec, first, second)
        for net in NETS
        for name, spec in evaded(net).items()
    }


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim("D1", "Detectors flag attacked images more often than clean ones.", alarms),
        Claim("D2", "They flag attacked images more often than noisy and adversarial ones.", not_the_unusual),
        Claim("D3", "Who knows the detector moves more of the map unseen than who does not.", knowing_helps),
        Claim("D4", "A detector protects maps from an attacker who knows it.", protects),
        Claim("D5", "All detectors at once protect more than any one.", together),
        Claim("S1", "Signs tell each kind of liar from honest nets.", liars_told),
    )
}
