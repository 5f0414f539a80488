"""All detectors together: the mean of their ranks among clean images, or the loudest one of them."""

import torch
from torch import Tensor

from .alarms import Alarm, alarm
from .registry import STAND_IN, Score, available, detector
from .scene import Look, Scene

JOINT = ("vote", "loudest")


@detector("vote", label="vote of all", slope=STAND_IN, random=True)
def vote(scene: Scene) -> Score:
    """The mean over all single detectors of the share of clean images that look less suspicious.

    A share is a staircase; its slope is that of a logistic curve of the clean scores' median and spread.
    """
    members = members_of(scene)

    def score(look: Look, generator: torch.Generator) -> Tensor:
        ranks = []
        for member in members:
            value = member.score(look, generator)
            hard = torch.searchsorted(member.ordered, value.detach().contiguous()).to(value.dtype) / len(member.ordered)
            soft = torch.sigmoid((value - member.middle) / member.spread)
            ranks.append(hard + soft - soft.detach())
        return torch.stack(ranks).mean(0)

    return score


@detector("loudest", label="loudest of all", slope=STAND_IN, random=True)
def loudest(scene: Scene) -> Score:
    """The largest score of all single detectors, each counted from the clean images' median in their spread.

    Whoever escapes it has escaped all of them at once, at thresholds that together let 5 % of clean images alarm.
    """
    members = members_of(scene)

    def score(look: Look, generator: torch.Generator) -> Tensor:
        heights = [(m.score(look, generator) - m.middle) / m.spread for m in members]
        return torch.stack(heights).amax(0)

    return score


def members_of(scene: Scene) -> list[Alarm]:
    """All detectors of the register that stand for themselves, fitted in a scene.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(40, 1, 8, 8)
    >>> scene = detect.Scene(net, explain.gradient, known=x[:20], clean=x[20:], steps=2)
    >>> {"vote", "loudest"} & {member.name for member in detect.members_of(scene)}
    set()
    """
    return [alarm(name, scene) for name in available(scene) if name not in JOINT]
