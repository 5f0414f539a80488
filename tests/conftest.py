"""Fixtures: a small smooth net in float64, its images, and every registered explainer and objective."""

import pytest
import torch

from atexlib import attack, data, explain, nets

OBJECTIVES = {
    "untargeted": lambda x: attack.Untargeted(k=10),
    "targeted": lambda x: attack.Targeted.random_region(x, size=3),
    "center_mass": lambda x: attack.CenterMass(),
    "target_map": lambda x: attack.TargetMap(torch.rand(1, 1, *x.shape[2:], generator=seeded(5)).to(x)),
    "distance": lambda x: attack.Distance(),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x():
    return torch.rand(6, 1, 8, 8, generator=seeded(1), dtype=torch.float64)


@pytest.fixture
def net():
    """A curved net: weights enlarged so that maps and labels do change within a small ball."""
    model = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.5)
    return model.eval()


@pytest.fixture(params=explain.EXPLAINERS)
def explainer(request):
    return explain.EXPLAINERS[request.param]


@pytest.fixture(params=OBJECTIVES)
def objective(request, x):
    return OBJECTIVES[request.param](x)


@pytest.fixture(scope="module")
def digits():
    """The first training digits, once a module."""
    return data.load("digits", "train").first(400)


@pytest.fixture(scope="module")
def trained(digits):
    """A small net trained on them; no test may change it."""
    net = nets.ConvNet(width=8, hidden=32, generator=seeded(1))
    return nets.fit(net, (digits.images, digits.labels), epochs=6, batch_size=20, lr=3e-3).model
