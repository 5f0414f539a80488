"""Every way into the library, each as a function of a net and three images, and a small net to call them with."""

import re

import pytest
import torch
from torch import nn

import atexlib
from atexlib import attack, defend, explain, judge, nets

LABELS = torch.tensor([0, 1, 2])
ATTACK = {"eps": 0.1, "steps": 2}
AUDIT = {"attacks": ["distance"], "eps": 0.1, "steps": 1, "starts": 1, "progress": False}
TRAIN = {"epochs": 1, "batch_size": 2}


def body(unit=None, *, bn=False):
    """A small smooth net of four classes; the numbers of its layers as in every test here."""
    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(4)] if bn else []
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), *norm, unit or nn.Softplus(5), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
    )


class Around(nn.Module):
    """The small net with something done before or after it."""

    def __init__(self, before=None, after=None, net=None):
        super().__init__()
        self.net, self.before, self.after = net or body(), before, after

    def forward(self, x):
        x = self.before(x) if self.before else x
        found = self.net(x)
        return self.after(found) if self.after else found


def maps_of(name):
    options = {"samples": 2} if name == "smoothgrad" else {"steps": 2} if name == "integrated_gradients" else {}
    return lambda net, x: explain.EXPLAINERS[name](net, x, LABELS[: len(x)], **options)


def audited(net, x, explainers=("gradient", "grad_cam")):
    return atexlib.audit(net, x, LABELS[: len(x)], explainers=explainers, **AUDIT)


READERS = {
    **{name: maps_of(name) for name in explain.EXPLAINERS},
    "predict": nets.predict,
    "accuracy": lambda net, x: nets.accuracy(net, x, LABELS),
    "heatmap": lambda net, x: explain.heatmap(net, x, LABELS),
    "reading": explain.reading,
    "manipulate": lambda net, x: attack.manipulate(net, x, attack.Distance(), **ATTACK),
    "audit": audited,
    "fgsm": lambda net, x: attack.fgsm(net, x, LABELS, eps=0.1),
    "pgd": lambda net, x: attack.pgd(net, x, LABELS, eps=0.1, steps=2),
    "loss_gradient": lambda net, x: attack.loss_gradient(net, x, LABELS),
    "deletion": lambda net, x: judge.deletion(net, x, x, LABELS, steps=2),
    "average_case": lambda net, x: judge.average_case(net, x, radius=0.1, samples=2),
    "max_min": lambda net, x: judge.max_min(net, x, eps=0.1, steps=2),
    "smooth_maps": lambda net, x: defend.smooth_maps(net, x, samples=2),
}
TRAINERS = {
    "fit": lambda net, x: nets.fit(net, (x, LABELS), **TRAIN),
    "fool": lambda net, x: attack.fool(net, (x, LABELS), loss="topk", explainer="gradient", steps=2, batch_size=2),
    "naive": lambda net, x: defend.naive(net, (x, LABELS), eps=0.1, **TRAIN),
    "atex": lambda net, x: defend.atex(net, (x, LABELS), eps=0.1, orthogonal_samples=1, **TRAIN),
    "adversarial": lambda net, x: defend.adversarial_training(net, (x, LABELS), eps=0.1, **TRAIN),
    "refreshed": lambda net, x: defend.adversarial_training(net, (x, LABELS), eps=0.1, refresh=True, **TRAIN),
    "anew": lambda net, x: defend.anew(net, (x, LABELS), **TRAIN),
}
EVERY = READERS | TRAINERS
WHOLE_CALLS = {
    name: EVERY[name] for name in ("manipulate", "audit", "fool", "fit", "naive", "atex", "adversarial", "max_min")
}


def works_or_says(words, call):
    """What a call returns; None where it refuses in these words."""
    try:
        return call()
    except ValueError as error:
        if not re.search(words, str(error)):
            raise
        return None


def every(calls):
    return pytest.mark.parametrize("call", calls.values(), ids=calls)
