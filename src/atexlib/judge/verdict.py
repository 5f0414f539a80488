"""What an audit's numbers allow to say, in a small vocabulary: of each explainer, and of the audit as a whole.

A map counts as *forged* where a changed image, no further away than eps and of the same predicted class, has a map
whose Spearman correlation with the clean one is below a half, or of which at least half lies in the chosen place that
held less than half before.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..attack.inputs import SEEN
from ..attack.objectives import OBJECTIVES
from ..maps.intervals import Interval, wilson
from .card import NOISE, PLACE, WORST, Audit
from .signs import SIGNS

APART = 0.5  # Spearman's correlation below which a map counts as another one
HALF = 0.5  # share of a map in the place from which on it counts as brought there
RARE = 0.1  # share of images that may be forged where the maps still mostly stand
ROUNDING = 1e-6  # by which a distance in float32 may exceed eps

MAY_NOT = "may not be relied on"
DOUBT = "may be relied on with doubt only"
MOSTLY = "mostly stood up to these attacks"
STOOD = "stood up to these attacks"
FEW = "cannot be judged from so few images"
WEAK = "cannot be judged, as the attacks were weak"
CONSTANT = "cannot be judged, as the maps are constant"


class Verdict(NamedTuple):
    """What is said of an explainer: its name in the table, the words, and the sentences that give the reasons.

    >>> from atexlib import judge
    >>> judge.Verdict("lrp", "may not be relied on", ["For 9 of 10 ..."]).words
    'may not be relied on'
    """

    explainer: str
    words: str
    reasons: list[str]


def verdicts(audit: Audit) -> list[Verdict]:
    """The verdict on each explainer, in the order of the table.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> options = {"explainers": ["gradient"], "attacks": ["distance"], "eps": 1e-4, "steps": 1, "progress": False}
    >>> judge.verdicts(judge.audit(net, x, **options))[0].words
    'cannot be judged from so few images'
    """
    return [Verdict(name, *_judged(audit, name)) for name in audit.labels]


def chosen(forged: int, images: int, *, weak: bool = False) -> str:
    """The words for so many forged maps among so many images that have one, by Wilson's interval of their share.

    One forged map is a fact. That none was forged means something only of strong attacks on many images.

    >>> from atexlib.judge import verdict
    >>> verdict.chosen(9, 10), verdict.chosen(3, 10), verdict.chosen(0, 10)
    ('may not be relied on', 'may be relied on with doubt only', 'cannot be judged from so few images')
    """
    if images == 0:
        return CONSTANT
    share = wilson(forged, images)
    if forged:
        return MAY_NOT if share.low >= HALF else MOSTLY if share.high <= RARE and not weak else DOUBT
    return WEAK if weak else STOOD if share.high <= RARE else FEW


def forged(found: Mapping[str, Tensor], eps: float) -> Tensor:
    """Where an attack forged the map (N,), from the values that the audit measured."""
    return _allowed(found, eps) & ((found["spearman"] < APART) | placed(found, eps))


def placed(found: Mapping[str, Tensor], eps: float) -> Tensor:
    """Where an attack brought the map to the place (N,): at least half of it, of less than half before."""
    return _allowed(found, eps) & (found["in place before"] < HALF) & (found["in place"] >= HALF)


def rule() -> list[str]:
    """What the words mean, in sentences."""
    half, rare = percent(HALF), percent(RARE)
    return [
        "A map counts as forged where a changed image of the same class, within eps, has a map whose Spearman "
        f"correlation with the clean one is below {APART:g}, or of which at least {half} lies in the chosen place that "
        "held less before.",
        f"“May not be relied on” is said where the 95 % interval of the share of forged maps begins at {half} or "
        "above; “with doubt only” where any map was forged; “mostly stood up” where some were and the interval ends at "
        f"{rare} or below; “stood up” where none was and it does.",
    ]


def in_255(eps: float) -> str:
    """A change of pixels in [0, 1] as it counts in a file.

    >>> from atexlib.judge import verdict
    >>> verdict.in_255(2 / 255), verdict.in_255(0.06)
    ('2/255', '15.3/255')
    """
    return f"{255 * eps:.3g}/255"


def percent(part: float) -> str:
    """A share in percent.

    >>> from atexlib.judge import verdict
    >>> verdict.percent(0.345)
    '34 %'
    """
    return f"{100 * part:.0f} %"


def share(hits: int, count: int) -> str:
    """A count, with the interval of its share in words.

    >>> from atexlib.judge import verdict
    >>> verdict.share(5, 5)
    '5 of 5 images (95 % interval of such a share: 57 % to 100 %)'
    """
    found = wilson(hits, count)
    return f"{hits} of {count} images (95 % interval of such a share: {_ends(found)})"


def headline(said: Sequence[Verdict], labels: Mapping[str, str], eps: float) -> str:
    """The verdict on all explainers in a sentence or more; the gravest first.

    >>> from atexlib import judge
    >>> from atexlib.judge import verdict
    >>> verdict.headline([judge.Verdict("lrp", verdict.STOOD, [])], {"lrp": "LRP"}, 2 / 255)
    'At eps 2/255, LRP stood up to these attacks.'
    """
    order = (MAY_NOT, DOUBT, WEAK, FEW, CONSTANT, MOSTLY, STOOD)
    groups = {words: [labels[one.explainer] for one in said if one.words == words] for words in order}
    told = "; ".join(f"{_listed(names)} {words}" for words, names in groups.items() if names)
    return f"At eps {in_255(eps)}, {told}."


def may_conclude(audit: Audit) -> list[str]:
    """What a reader of the maps may conclude."""
    held = [audit.labels[one.explainer] for one in verdicts(audit) if one.words in (STOOD, MOSTLY)]
    eps = in_255(audit.settings["eps"])
    told = [
        "Of an image that nobody has touched, the map is what this method computes from this net. Whether the net is "
        "right, or the map, was not asked."
    ]
    if held:
        told.append(f"{_listed(held)}: changes of at most {eps} found by these attacks seldom or never forge the map.")
    return told


def may_not_conclude(audit: Audit) -> list[str]:
    """What a reader of the maps may not conclude."""
    found = verdicts(audit)
    broken = [audit.labels[one.explainer] for one in found if one.words in (MAY_NOT, DOUBT, MOSTLY)]
    held = [audit.labels[one.explainer] for one in found if one.words in (STOOD, MOSTLY)]
    open_ = [audit.labels[one.explainer] for one in found if one.words in (WEAK, FEW, CONSTANT)]
    eps = in_255(audit.settings["eps"])
    told = []
    if broken:
        told.append(
            f"{_listed(broken)}: that the marked parts made the net decide, where somebody else may have changed the "
            f"image. A change of at most {eps} a pixel can draw another map and leave the class as it is."
        )
    noisy = [audit.labels[name] for name in audit.labels if _by_noise(audit, name) >= HALF]
    if noisy:
        told.append(
            f"{_listed(noisy)}: that the map stays under noise of that size. A random change draws another one."
        )
    if held:
        told.append(f"{_listed(held)}: that no attack forges the map. One that was not tried may.")
        told.append(f"{_listed(held)}: that the map is true. A net can be made to show a false map that nothing moves.")
    told += [f"{of}: that it is honest. It shows {said}" for of, said in _alarms(audit)]
    if open_:
        told.append(f"{_listed(open_)}: that the map is safe, or that it is not. The audit does not tell.")
    return told


def suspicions(audit: Audit) -> list[str]:
    """What the signs of manipulation say that are above their thresholds."""
    return [f"{of} shows {said}" for of, said in _alarms(audit)]


def _alarms(audit: Audit) -> list[tuple[str, str]]:
    """What each sign above its threshold is read from, and what it shows."""
    told = []
    for reading in audit.signs:
        if reading.alarm:
            of = "The net" if reading.of == "net" else audit.labels.get(reading.of, reading.of)
            said = (
                f"a sign of manipulation, {SIGNS[reading.sign].label}: {reading.value:.2f}, where {reading.alarms} of "
                f"{reading.honest} small honest nets exceed {reading.limit:.2f}."
            )
            told.append((of, said))
    return told


def not_shown(audit: Audit) -> list[str]:
    """What the audit cannot show: what was not tried, and what was not asked."""
    settings = audit.settings
    left = [name.replace("_", " ") for name in (*OBJECTIVES, PLACE) if name not in settings["attacks"]]
    untried = f" Aims that were not tried: {', '.join(left)}." if left else ""
    return [
        f"A map that stood up to these attacks may fall to others: longer ones, other changes than one of at most "
        f"{in_255(settings['eps'])} a pixel, or ones that do not follow slopes.{untried}",
        "A low number is a fact: the changed image exists. A high one is an upper bound, as good as the attacks were.",
        "The changed images are numbers in [0, 1], not rounded to 8 bits and not compressed; whether a forged map "
        "outlives a file format was not tried.",
        "A net that was trained to show false maps can be perfectly stable. The signs of manipulation look for that, "
        "and see only lies like those that they were made for; no alarm is no proof.",
        "Other images than these, other explainers, and whether a map is right.",
    ]


def _judged(audit: Audit, name: str) -> tuple[str, list[str]]:
    """The words for an explainer, and why."""
    eps, attacks = audit.settings["eps"], audit.attacks(name)
    has_map = ~audit.values[name, WORST]["spearman"].isnan()
    count, constant = int(has_map.sum()), int((~has_map).sum())
    hits = torch.stack([forged(found, eps) for found in attacks.values()]).any(0)
    noise, effort = audit.values[name, NOISE], audit.effort(name)
    by_noise = forged(noise, eps)
    outdone = bool(audit.values[name, WORST]["spearman"].nanmean() > noise["spearman"].nanmean())
    weak = outdone or effort.stepped < effort.images or effort.seen < SEEN
    words = chosen(int((hits & has_map).sum()), count, weak=weak)
    if constant > count:
        words = CONSTANT
    reasons = []
    if count:
        reasons.append(
            f"For {share(int((hits & has_map).sum()), count)} the map could be forged by changes of at most "
            f"{in_255(eps)} a pixel that keep the predicted class."
        )
    if constant:
        reasons.append(f"{constant} of {len(has_map)} maps are constant and left out.")
    if PLACE in attacks:
        hits_place, sides = int(placed(attacks[PLACE], eps).sum()), audit.settings["place"]
        reasons.append(
            f"At least half of it could be brought to the place ({sides}) on {hits_place} of {len(has_map)}."
        )
    if by_noise.any():
        reasons.append(
            f"Noise of the same size, which nobody chose, does as much on {int(by_noise.sum())} of {len(has_map)}."
        )
    out = int(torch.stack([~_allowed(found, eps) for found in attacks.values()]).any(0).sum())
    if out:
        reasons.append(f"On {out} of {len(has_map)} an attack lost the class or left the ball; that is not counted.")
    if weak and words not in (MAY_NOT, CONSTANT):
        reasons.append("The attacks were hindered, so that a stronger one may find more; see the notes.")
    return words, reasons


def _by_noise(audit: Audit, name: str) -> float:
    """The share of maps that noise alone forges."""
    return forged(audit.values[name, NOISE], audit.settings["eps"]).double().mean().item()


def _allowed(found: Mapping[str, Tensor], eps: float) -> Tensor:
    """Where a changed image keeps the class and lies in the ball, as measured by the audit."""
    return found["kept"] & (found["distance"] <= eps + ROUNDING)


def _ends(found: Interval) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
