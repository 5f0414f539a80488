"""Fixtures: a small smooth net in float64, its images, and every registered explainer and objective."""

import itertools

import pytest
import torch
from torch import nn
from torchvision.models import vgg

from atexlib import attack, data, explain, nets


@pytest.fixture(scope="session")
def context():
    """The one browser of all files that need one: Playwright runs once in a process."""
    from playwright.sync_api import sync_playwright  # here, as most files need neither
    from test_browser import ARGS, AXE, CHROMIUM, PHONE

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = browser.new_context(viewport=PHONE, color_scheme="light")
        context.add_init_script(f"{AXE}; localStorage.clear()")  # the theme of the page before is forgotten
        yield context


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def objective_of(name, x, k=10):
    """The instance of an objective that the register makes for these images."""
    return attack.OBJECTIVES[name](x, k, seeded(5))


def flat(net):
    """All weights of a net in one row."""
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def forty():
    """Forty images of four classes: bright or dark, with more light above or below."""
    x = torch.rand(40, 1, 8, 8, generator=seeded(4))
    bright, above = x.mean((1, 2, 3)) > x.mean(), x[:, 0, :4].mean((1, 2)) > x[:, 0, 4:].mean((1, 2))
    return x, bright.long() + 2 * above.long()


def narrow_vgg(depth, classes, *, norm=False):
    """A VGG of torchvision's of the published layers, an eighth as wide, with a small head: what costs is its head."""
    with torch.device("meta"):
        net = vgg.VGG(nn.Identity(), num_classes=classes, init_weights=False)
    stages = [width if width == "M" else width // 8 for width in vgg.cfgs[{11: "A", 19: "E"}[depth]]]
    net.features = vgg.make_layers(stages, batch_norm=norm)
    sizes = (64 * 49, 32, 32, classes)
    layers = [(nn.Linear(a, b), nn.ReLU(inplace=True), nn.Dropout()) for a, b in itertools.pairwise(sizes)]
    net.classifier = nn.Sequential(*itertools.chain(*layers[:-1]), layers[-1][0])
    return net


FORTY = forty()
FEW = {"eps": 0.1, "epochs": 2, "batch_size": 10}


def curved():
    """A curved net: weights enlarged so that maps and labels do change within a small ball."""
    model = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.5)
    return model.eval()


@pytest.fixture
def x():
    return torch.rand(6, 1, 8, 8, generator=seeded(1), dtype=torch.float64)


@pytest.fixture
def net():
    return curved()


@pytest.fixture(params=explain.EXPLAINERS)
def explainer(request):
    return explain.EXPLAINERS[request.param]


@pytest.fixture(params=attack.OBJECTIVES)
def objective(request, x):
    return objective_of(request.param, x)


@pytest.fixture(scope="module")
def base():
    """A small net trained on the forty images; no test may change it."""
    net = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2))
    return nets.fit(net, FORTY, epochs=8, batch_size=10, lr=1e-2).model


@pytest.fixture(scope="module")
def digits():
    """The first training digits, once a module."""
    return data.load("digits", "train").first(400)


@pytest.fixture(scope="module")
def trained(digits):
    """A small net trained on them; no test may change it."""
    net = nets.ConvNet(width=8, hidden=32, generator=seeded(1))
    return nets.fit(net, digits, epochs=6, batch_size=20, lr=3e-3).model
