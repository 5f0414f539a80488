import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import narrow_vgg, seeded
from torch import nn

from atexlib import nets


def relu_nodes(model):
    graph = torch.fx.symbolic_trace(copy.deepcopy(model).eval())
    modules = dict(graph.named_modules())
    kinds = (nn.ReLU, nn.ReLU6)
    functions = {F.relu, torch.relu, torch.relu_, F.relu6}
    found = {
        "call_module": lambda node: isinstance(modules[node.target], kinds),
        "call_function": lambda node: node.target in functions,
        "call_method": lambda node: node.target in ("relu", "relu_"),
    }
    return [node for node in graph.graph.nodes if node.op in found and found[node.op](node)]


# DenseNet and GoogLeNet call F.relu in forward; MobileNetV2 has ReLU6; ResNet reuses one ReLU module in place.
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "vgg11", "squeezenet1_1", "googlenet"])
def test_with_softplus_replaces_every_relu_of_torchvisions_nets(name):
    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    makers = vars(torchvision.models) | {"vgg11": lambda num_classes, weights: narrow_vgg(11, num_classes)}
    model = makers[name](weights=None, num_classes=3, **options).eval()
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(1, 3, 64, 64, generator=seeded())
    logits = model(x)
    smooth = nets.with_softplus(model, 5.0)
    assert relu_nodes(model)
    assert not relu_nodes(smooth)
    assert torch.equal(model(x), logits)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert smooth.state_dict().keys() == before.keys()
    sharp = nets.with_softplus(model, 1e6)
    assert (sharp(x) - logits).abs().max() < 1e-3 * (smooth(x) - logits).abs().max()


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.layer(x)) + F.relu(x, inplace=False) + (x + 1).relu() + F.relu6(3 * x)


def test_with_softplus_finds_functional_relus():
    x = torch.randn(5, 4, generator=seeded())
    net = Functional()
    smooth = nets.with_softplus(net, 3.0)
    relu6 = F.softplus(3 * x, 3.0) - F.softplus(3 * x - 6, 3.0)
    expected = F.softplus(net.layer(x), 3.0) + F.softplus(x, 3.0) + F.softplus(x + 1, 3.0) + relu6
    assert torch.allclose(smooth(x), expected, atol=1e-6)


class DataDependent(nn.Module):
    def forward(self, x):
        return F.relu(x) if x.sum() > 0 else x


class InPlace(nn.Module):
    """A net whose ReLU changes its input; what it gives back is used or not."""

    def __init__(self, relu):
        super().__init__()
        self.conv, self.fc, self.relu = nn.Conv2d(1, 4, 3), nn.Linear(4 * 36, 3), relu

    def forward(self, x):
        x = self.conv(x)
        doubled = 2 * x
        self.relu(x)
        return self.fc((x + doubled).flatten(1))


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(inplace=True),
        nn.ReLU6(inplace=True),
        nn.ReLU(),  # of which nothing is used: no unit at all
        lambda x: x.relu_(),
        lambda x: x.relu(),
        torch.relu_,
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu(x, True),
        lambda x: F.relu6(x, inplace=True),
        F.relu,
    ],
    ids=range(10),
)
def test_with_softplus_does_what_a_relu_does_in_place(relu):
    torch.manual_seed(0)
    model, x = InPlace(relu).eval(), torch.rand(2, 1, 8, 8, generator=seeded(1))
    with torch.no_grad():
        torch.testing.assert_close(nets.with_softplus(model, 1e6)(x), model(x))


def test_with_softplus_replaces_a_unit_that_is_used_twice():
    unit = nn.ReLU()
    smooth = nets.with_softplus(nn.Sequential(nn.Conv2d(1, 2, 3), unit, nn.Conv2d(2, 2, 3), unit), 5.0)
    assert [type(layer) for layer in smooth] == [nn.Conv2d, nn.Softplus, nn.Conv2d, nn.Softplus]


def test_with_softplus_smooths_what_decides_by_values():
    x = torch.rand(2, 3, generator=seeded())
    assert torch.equal(nets.with_softplus(DataDependent(), 10.0)(x), F.softplus(x, 10))
