"""LRP against zennit, finite differences and conservation."""

import sys

import pytest
import torch
from conftest import narrow_vgg, seeded
from torch import nn
from torchvision import models as vision
from torchvision.models.resnet import BasicBlock
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from atexlib import explain, nets

X = torch.rand(2, 3, 32, 32, generator=seeded(1), dtype=torch.float64)
TARGET = torch.tensor([1, 3])
NETS = {
    "ConvNet": (lambda: nets.ConvNet(channels=3, side=32), []),
    "softplus VGG": (lambda: nets.with_softplus(narrow_vgg(11, 10), beta=5.0), [VGGCanonizer()]),
    "VGG19": (lambda: narrow_vgg(19, 10), [VGGCanonizer()]),
    "VGG11 with batch norm": (lambda: narrow_vgg(11, 10, norm=True), [VGGCanonizer()]),
    "ResNet18": (lambda: vision.resnet18(num_classes=10), [ResNetCanonizer()]),
    "ResNet50": (lambda: vision.resnet50(num_classes=10), [ResNetCanonizer()]),
}


def shaken(net, *, bias=True):
    """Batch norms that do something; zennit folds them but leaves a factor of (1 + eps)^-1/2, so eps is zero here."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            if bias:
                module.running_mean.normal_(0, 0.2)
                module.bias.data.normal_(0, 0.2)
        elif not bias and getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    return net.double().eval()


@pytest.fixture(autouse=True)
def same_weights():
    torch.manual_seed(0)


@pytest.mark.parametrize("darkest", [0.0, -0.5])
@pytest.mark.parametrize("name", NETS)
def test_values_equal_zennit(name, darkest):
    """Also where pixels are below zero: then the first convolution's relevance has a second part."""
    make, canonizers = NETS[name]
    net, x = shaken(make()), X + darkest
    ours = explain.lrp(net, x, TARGET)
    with Gradient(model=net, composite=EpsilonPlus(canonizers=canonizers)) as attribution:
        _, theirs = attribution(x.clone(), torch.eye(10, dtype=X.dtype)[TARGET])
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-8 * theirs.abs().max().item(), rtol=0)


def densenet(**options):
    return shaken(vision.DenseNet(8, (2, 2), 8, num_classes=10), **options)


NO_BIAS = {
    "DenseNet": densenet,
    "ResNet18": lambda **options: shaken(vision.resnet18(num_classes=10), **options),
    "VGG11": lambda **options: shaken(narrow_vgg(11, 10), **options),
}


@pytest.mark.parametrize("make", NO_BIAS.values(), ids=NO_BIAS)
def test_without_biases_relevance_is_conserved(make, monkeypatch):
    monkeypatch.setattr(sys.modules[explain.lrp.__module__], "STABILIZER", 1e-15)
    net = make(bias=False)
    found = explain.lrp(net, X, TARGET)
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(2, dtype=X.dtype), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layer", ["relu", "layer2", "layer2.0.conv1", None])
def test_relevance_at_a_layer_has_its_shape(layer):
    net = shaken(vision.resnet18(num_classes=10), bias=False)
    found = explain.lrp(net, X, TARGET, layer=layer)
    assert found.shape == {"relu": (2, 64, 16, 16), None: X.shape}.get(layer, (2, 128, 4, 4))
    if layer in ("relu", "layer2", None):  # all relevance goes through these
        torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(2, dtype=X.dtype), atol=1e-3, rtol=0)


def biased():
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 10)]
    return shaken(nn.Sequential(*layers))


@pytest.mark.parametrize(
    ("make", "layers", "names"),
    [
        (
            NO_BIAS["DenseNet"],
            (None, "features.denseblock2"),
            ("features.conv0.weight", "features.denseblock2.denselayer1.conv2.weight", "classifier.weight"),
        ),
        (
            lambda: shaken(vision.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)),
            (None, "layer1"),
            ("bn1.weight", "bn1.bias", "layer2.0.conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"),
        ),
        (biased, (None,), ("0.weight", "0.bias", "4.weight", "4.bias")),
    ],
    ids=["DenseNet", "ResNet", "biased"],
)
def test_gradients_equal_finite_differences(make, layers, names):
    net = make()
    x = X[:, :, :16, :16].clone().requires_grad_()
    for layer in layers:
        check_slopes(net, x, layer, [x, *map(net.get_parameter, names)])


def check_slopes(net, x, layer, variables):
    shape = explain.lrp(net, x, TARGET, layer=layer).shape
    probe = torch.randn(shape, generator=seeded(2), dtype=X.dtype)

    def value(z, *, create_graph=False):
        return (explain.lrp(net, z, TARGET, create_graph=create_graph, layer=layer) * probe).sum()

    slopes = torch.autograd.grad(value(x, create_graph=True), variables)
    for variable, slope in zip(variables, slopes, strict=True):
        direction = torch.randn(variable.shape, generator=seeded(3), dtype=X.dtype)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                variable += sign * 1e-7 * direction
            ends.append(value(x).item())
            with torch.no_grad():
                variable -= sign * 1e-7 * direction
        numeric = (ends[0] - ends[1]) / 2e-7
        assert (slope * direction).sum().item() == pytest.approx(numeric, rel=1e-4, abs=1e-8)


def test_a_map_does_not_change_the_net_or_its_gradients():
    net = shaken(vision.resnet18(num_classes=10))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    explain.lrp(net, X, create_graph=True).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Odd(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.Flatten(), nn.Linear(4 * 30 * 30, 2)).double()

    def forward(self, x):
        return self.body(x)


class Hidden(Odd):
    def forward(self, x):
        return self.body(torch.sin(x))


def test_a_layer_without_a_rule_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no rule for body\.1 \(GELU\)"):
        explain.lrp(Odd(nn.GELU()), X, 0)
    with pytest.raises(ValueError, match=r"no rule for <built-in method sin"):
        explain.lrp(Hidden(nn.ReLU()), X, 0)


def test_a_replaced_layer_is_seen():
    net = Odd(nn.ReLU())
    explain.lrp(net, X, 0)
    net.body[1] = nn.GELU()
    with pytest.raises(ValueError, match="GELU"):
        explain.lrp(net, X, 0)
    net.body[1], net.body[3] = nn.ReLU(), nn.Linear(4 * 30 * 30, 5).double()
    assert not torch.equal(explain.lrp(net, X, 4), torch.zeros_like(X))


def test_a_layer_is_named_or_else_the_nearest_is():
    with pytest.raises(ValueError, match="layer2"):
        explain.lrp(shaken(vision.resnet18(num_classes=10)), X, 0, layer="layer22")


class Small(nn.Module):
    """One convolution, what `inner` makes of it, a linear layer."""

    def __init__(self, inner, **options):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, **options).double()
        self.inner = inner
        self.mean = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.last = nn.Linear(4, 2).double()

    def forward(self, x):
        return self.last(self.inner(self, x))


def pooled(net, h):
    return torch.flatten(nn.functional.adaptive_avg_pool2d(h, 1), 1)


def in_place(net, x):
    h = net.conv(x)
    return pooled(net, nn.functional.relu(h, True) + h)


def scaled_sum(net, x):
    h = net.conv(x)
    return pooled(net, torch.add(h, torch.relu(h), alpha=3))


def constant(net, x):
    return pooled(net, net.conv(x + net.mean))


def odd_padding(net, x):
    return pooled(net, net.conv(x))


@pytest.mark.parametrize(
    ("inner", "options", "message"),
    [
        (in_place, {}, "gives other logits when it is traced"),
        (scaled_sum, {}, "no rule for .*add"),
        (constant, {}, "no rule for mean"),
        (odd_padding, {"padding_mode": "circular"}, r"no rule for conv \(Conv2d\)"),
    ],
)
def test_what_would_be_explained_wrongly_is_refused(inner, options, message):
    with pytest.raises(ValueError, match=message):
        explain.lrp(Small(inner, **options), X, 0)


def test_a_sum_with_a_broadcast_term_keeps_its_relevance(monkeypatch):
    monkeypatch.setattr(sys.modules[explain.lrp.__module__], "STABILIZER", 1e-15)

    def gate(net, x):
        h = torch.relu(net.conv(x))
        return pooled(net, h + nn.functional.adaptive_avg_pool2d(h, 1))

    net = shaken(Small(gate), bias=False)
    torch.testing.assert_close(explain.lrp(net, X, 0).sum((1, 2, 3)), torch.ones(2, dtype=X.dtype))


def test_a_net_in_training_mode_is_looked_at_in_eval_mode_and_given_back():
    net = shaken(vision.resnet18(num_classes=10))
    expected = explain.lrp(net, X, 0)
    before = net.bn1.running_mean.clone()
    torch.testing.assert_close(explain.lrp(net.train(), X, 0), expected)
    assert net.training
    assert net.bn1.training
    assert torch.equal(net.bn1.running_mean, before)
