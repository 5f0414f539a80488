"""The exam of an auditor: which nets are in it, drawn by a seed, so that the key need not be kept."""

import torch
from torch import nn

from ..engine.place import Place
from .recipes import RECIPES, Made

NETS = 24
FIRST = 1000  # seeds of the exam's nets begin here, beyond those of the cards
# What weights alone can hold: a decorated gradient is written in code, which would give it away.
LIARS = ("fooled_gradient", "fooled_lrp", "fooled_grad_cam", "active", "fairwashed", "backdoor")
HONEST = ("honest", "honest_smoothed", "honest_longer", "honest_defended", "honest_anew")


def drawn(seed: int) -> list[tuple[str, int]]:
    """The recipe and the seed of each net: eight to sixteen liars among 24 nets, in a random order.

    >>> from atexlib.experiments.subjects import exam
    >>> nets = exam.drawn(0)
    >>> len(nets), len(set(nets)), nets == exam.drawn(0), nets == exam.drawn(1)
    (24, 24, True, False)
    """
    generator = torch.Generator().manual_seed(seed)
    many = NETS // 3 + int(torch.randint(NETS // 3 + 1, (), generator=generator))
    kinds = []
    for names, count in ((LIARS, many), (HONEST, NETS - many)):
        kinds += [names[i] for i in torch.randint(len(names), (count,), generator=generator).tolist()]
    order = torch.randperm(NETS, generator=generator).tolist()
    return [(kinds[i], FIRST * (seed + 1) + place) for place, i in enumerate(order)]


def made(place: Place, name: str, seed: int) -> Made:
    """A net of the exam, by its recipe and its own seed."""
    return RECIPES[name].make(Place(place.dataset, seed, place.preset, place.device))


def nets(place: Place) -> dict[int, nn.Module]:
    """All nets of the exam of a place's seed, under the numbers from 1."""
    return {number: made(place, *one).model for number, one in enumerate(drawn(place.seed), 1)}
