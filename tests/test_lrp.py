"""LRP against zennit, finite differences and conservation."""

import contextlib
import copy
import gc
import sys
import weakref

import pytest
import torch
import torch.nn.functional as F
from conftest import narrow_vgg, seeded
from torch import nn
from torchvision import models as vision
from torchvision import ops
from torchvision.models.convnext import LayerNorm2d
from torchvision.models.resnet import BasicBlock
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from atexlib import checks, explain, nets

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
    with pytest.raises(ValueError, match=r"no rule for body\.1 \(Softmax2d\)"):
        explain.lrp(Odd(nn.Softmax2d()), X, 0)
    with pytest.raises(ValueError, match=r"no rule for sin;"):
        explain.lrp(Hidden(nn.ReLU()), X, 0)


def test_a_replaced_layer_is_seen():
    net = Odd(nn.ReLU())
    explain.lrp(net, X, 0)
    net.body[1] = nn.Softmax2d()
    with pytest.raises(ValueError, match="Softmax2d"):
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
        torch.manual_seed(0)
        self.conv, self.last = (
            nn.Conv2d(3, 4, 3, padding=1, **options),
            nn.LazyLinear(4, bias=options.get("bias", True)),
        )
        self.inner = copy.deepcopy(inner)
        self.double().eval()
        torch.manual_seed(1)
        self(SMALL)

    def forward(self, x):
        return self.last(self.inner(self.conv(x)).flatten(1))


class Spelled(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, h):
        return self.function(h)


class Own(nn.Module):
    """A function of h and of the weight and the bias of a layer."""

    def __init__(self, function, layer):
        super().__init__()
        self.function, self.weight, self.bias = function, layer.weight, layer.bias

    def forward(self, h):
        return self.function(h, self.weight, self.bias)


class Held(nn.Module):
    """A function of h and of a constant of the net."""

    def __init__(self, function, value, *, learned=False):
        super().__init__()
        self.function = function
        self.register_buffer("value", torch.as_tensor(value))
        self.value = nn.Parameter(self._buffers.pop("value")) if learned else self.value

    def forward(self, h):
        return self.function(h, self.value)


class SamePad(nn.Conv2d):
    """A convolution that pads by itself, as those of TensorFlow do: more at the right than at the left."""

    def forward(self, x):
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class ByHand(SamePad):
    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)


class Standardized(nn.Conv2d):
    """A convolution with standardised weights."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, padding=1)


def same(kind, *args, like=None, **options):
    """A layer with the weights that all layers of its size have."""
    torch.manual_seed(2)
    layer = kind(*args, **options)
    if like is not None:
        layer.load_state_dict(like.state_dict())
    return layer


def made_anew(layer):
    """A layer that makes its weight of others, as with weight norm."""
    return nn.utils.parametrize.register_parametrization(layer, "weight", nn.Identity())


def shuffled(h):
    batch, channels, height, width = h.size()
    h = h.view(batch, 2, channels // 2, height, width)
    return torch.transpose(h, 1, 2).contiguous().view(batch, -1, height, width)


def swapped(h):
    a, b = h.chunk(2, dim=1)
    return torch.cat((b, a), 1)


def read_after(h):
    """What reads h after a unit in place reads the unit's output."""
    F.relu(h, True)
    return h


def grown(h):
    h += h.relu()
    return h


def normed(h, axes):
    centred = h - h.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()


def normed_by_factor(h):
    centred = h - h.mean((1, 2, 3), keepdim=True)
    return torch.rsqrt(centred.var((1, 2, 3), keepdim=True, correction=0) + 1e-5) * centred


SMALL = X[:, :, :8, :8] - 0.3
CONV, PADDED, LINEAR = same(nn.Conv2d, 4, 2, 3), same(SamePad, 4, 2, 2), same(nn.Linear, 256, 6)
NORM = same(nn.BatchNorm2d, 2)
with torch.no_grad():
    for value in (NORM.weight, NORM.bias, NORM.running_mean, NORM.running_var):
        value.uniform_(0.5, 2)
STATISTICS = {"running_mean": NORM.running_mean.double(), "running_var": NORM.running_var.double()}
SPELLINGS = {
    "ReLU": [
        nn.ReLU(), nn.ReLU(inplace=True), F.relu, F.relu_, torch.relu, torch.relu_, read_after,
        lambda h: h.relu(), lambda h: h.relu_(), lambda h: F.relu(input=h, inplace=True), lambda h: h.clamp(min=0),
        lambda h: torch.clamp(h, 0), lambda h: h.clamp_min_(0), lambda h: torch.maximum(h, torch.zeros_like(h)),
        lambda h: torch.max(h, torch.tensor(0.0).double()), lambda h: h * (h > 0), lambda h: torch.where(h > 0, h, 0.0),
        lambda h: F.leaky_relu(h, 0.0, True), lambda h: F.threshold(h, 0.0, 0.0), lambda h: F.hardtanh(h, 0.0, 1e6),
    ],
    "ReLU6": [nn.ReLU6(), F.relu6, lambda h: F.hardtanh(h, 0.0, 6.0), lambda h: h.clamp(0, 6)],
    "LeakyReLU": [nn.LeakyReLU(0.3), lambda h: F.leaky_relu(h, 0.3), lambda h: F.leaky_relu_(h, 0.3)],
    "PReLU": [nn.PReLU(), Held(F.prelu, [0.25], learned=True), Held(torch.prelu, [0.25])],
    "ELU": [nn.ELU(), F.elu, lambda h: F.elu(h, inplace=True), nn.CELU(), torch.celu, F.celu],
    "SELU": [nn.SELU(), F.selu, torch.selu_],
    "GELU": [nn.GELU(), F.gelu, lambda h: h * 0.5 * (1 + torch.erf(h / 2**0.5))],
    "SiLU": [nn.SiLU(), F.silu, lambda h: h * torch.sigmoid(h), lambda h: h.sigmoid().mul(h)],
    "Hardswish": [nn.Hardswish(), F.hardswish, lambda h: h * (F.relu6(h + 3) / 6), lambda h: h * F.hardsigmoid(h)],
    "Softplus": [nn.Softplus(), F.softplus],
    "Tanh": [nn.Tanh(), torch.tanh, lambda h: h.tanh_()],
    "Mish": [nn.Mish(), F.mish, lambda h: h * torch.tanh(F.softplus(h))],
    "max-pool": [
        nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(4), lambda h: F.max_pool2d(h, 2), lambda h: torch.max_pool2d(h, 2),
        lambda h: F.adaptive_max_pool2d(h, 4), lambda h: h.view(-1, 4, 4, 2, 4, 2).amax((3, 5)),
        lambda h: torch.max(h.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4), dim=4)[0],
        lambda h: h.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).max(4).values,
    ],
    "average": [
        nn.AdaptiveAvgPool2d(1), nn.AvgPool2d(8), lambda h: F.adaptive_avg_pool2d(h, 1), lambda h: F.avg_pool2d(h, 8),
        lambda h: h.mean((2, 3)), lambda h: torch.mean(h, dim=[-1, -2], keepdim=True), lambda h: h.mean(3).mean(2),
        lambda h: h.flatten(2).mean(dim=2), lambda h: h.sum((2, 3)) / 64, lambda h: torch.sum(h, (2, 3)).div(64),
        lambda h: F.adaptive_avg_pool2d(h, 1).squeeze(3).squeeze(-1).unsqueeze(1),
    ],
    "reshape": [
        nn.Flatten(), nn.Identity(), nn.Dropout2d(), nn.AlphaDropout(), ops.StochasticDepth(0.3, "row"),
        nn.Sequential(nn.Dropout(inplace=True)), nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (8, 8))),
        nn.Sequential(ops.Permute([0, 2, 3, 1]), ops.Permute([0, 3, 1, 2])), lambda h: h.view(h.size(0), -1),
        lambda h: torch.reshape(h, (h.shape[0], -1)), lambda h: h.contiguous().reshape(2, 4, -1),
        lambda h: h.transpose(1, 2).transpose(1, 2), lambda h: h.permute(0, 2, 3, 1).permute(0, 3, 1, 2),
        lambda h: torch.cat(h.split(1, 1), 1), lambda h: torch.concat([h[:, :1], h[:, 1:]], dim=1),
        lambda h: torch.stack([h, h], 1)[:, 0], lambda h: torch.stack(h.unbind(1), dim=1),
        lambda h: F.pad(h, (1, 1, 1, 1))[..., 1:-1, 1:-1], lambda h: F.dropout2d(h, training=False),
        lambda h: ops.stochastic_depth(h, 0.5, "batch", training=False), lambda h: h.clone().to(torch.float64),
    ],
    "channels in another order": [
        lambda h: h[:, [2, 3, 0, 1]], lambda h: torch.roll(h, 2, 1), swapped,
        lambda h: torch.cat(h.tensor_split(2, 1)[::-1], dim=1),
    ],
    "channel shuffle": [nn.ChannelShuffle(2), shuffled, lambda h: torch.stack([h[:, :2], h[:, 2:]], 2).flatten(1, 2)],
    "sum": [
        lambda h: h + h.relu(), grown, lambda h: h.add(h.relu()), lambda h: torch.add(h, h.relu()),
        lambda h: torch.add(input=h, other=h.relu()), lambda h: sum([h, h.relu()]), lambda h: h - -h.relu(),
        lambda h: torch.stack([h, torch.relu(h)]).sum(0),
    ],
    "weighted sum": [
        lambda h: h + 3 * h.relu(), lambda h: torch.add(h, h.relu(), alpha=3), lambda h: h.sub(h.relu(), alpha=-3),
    ],
    "sum with a constant": [
        lambda h: h + 2, lambda h: 2.0 + h, lambda h: h - -2, lambda h: torch.sub(h, -2), lambda h: h.add_(2),
        Held(torch.add, 2.0), Held(torch.add, 2.0, learned=True), Held(lambda h, value: value + h, 2.0),
    ],
    "difference": [lambda h: h - h.tanh(), lambda h: torch.subtract(h, h.tanh()), lambda h: h.sub(h.tanh())],
    "factor": [
        lambda h: h * 2, lambda h: 2 * h, lambda h: h.mul(2), lambda h: torch.mul(h, 2), lambda h: h / 0.5,
        lambda h: h.div_(0.5), Held(torch.mul, 2.0), Held(torch.multiply, 2.0, learned=True), Held(torch.div, 0.5),
        Held(lambda h, value: value * h, torch.full((1, 4, 1, 1), 2.0)),
    ],
    "convolution": [
        same(nn.Conv2d, 4, 2, 3, padding=1), same(nn.Conv2d, 4, 2, 3, padding="same"),
        Own(lambda h, w, b: F.conv2d(h, w, b, padding=1), CONV), nn.Sequential(nn.ZeroPad2d(1), CONV),
        Own(lambda h, w, b: torch.conv2d(h, weight=w, bias=b, padding="same"), CONV),
        Own(lambda h, w, b: F.conv2d(F.pad(h, (1,) * 4), w, b), CONV),
        made_anew(same(nn.Conv2d, 4, 2, 3, padding=1)),
    ],
    "convolution that pads": [
        nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), same(nn.Conv2d, 4, 2, 2)), PADDED, same(ByHand, 4, 2, 2),
        same(nn.Conv2d, 4, 2, 2, padding="same"),
    ],
    "convolution around the edge": [
        same(nn.Conv2d, 4, 2, 3, padding=1, padding_mode="circular"),
        nn.Sequential(nn.CircularPad2d(1), same(nn.Conv2d, 4, 2, 3)),
        Own(lambda h, w, b: F.conv2d(F.pad(h, (1,) * 4, "circular"), w, b), CONV),
    ],
    "convolution and batch norm": [
        nn.Sequential(same(nn.Conv2d, 4, 2, 3, padding=1), NORM),
        nn.Sequential(same(nn.Conv2d, 4, 2, 3, padding="same"), NORM),
        nn.Sequential(
            same(nn.Conv2d, 4, 2, 3, padding=1),
            Own(lambda h, w, b: F.batch_norm(h, **STATISTICS, weight=w, bias=b), NORM),
        ),
    ],
    "linear layer": [
        nn.Sequential(nn.Flatten(), LINEAR), nn.Sequential(nn.Flatten(), Own(F.linear, LINEAR)),
        nn.Sequential(nn.Flatten(), Own(lambda h, w, b: h @ w.T + b, LINEAR)),
        nn.Sequential(nn.Flatten(), Own(lambda h, w, b: torch.einsum("bi,oi->bo", h, w).add(b), LINEAR)),
    ],
    "layer norm": [
        nn.LayerNorm((4, 8, 8)), nn.GroupNorm(1, 4), lambda h: F.layer_norm(h, (4, 8, 8)), normed_by_factor,
        lambda h: F.group_norm(h, 1), lambda h: F.layer_norm(h.flatten(1), (256,)), lambda h: normed(h, (1, 2, 3)),
    ],
    "layer norm of channels": [
        LayerNorm2d(4), lambda h: normed(h, 1),
        lambda h: F.layer_norm(h.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2),
    ],
    "instance norm": [nn.InstanceNorm2d(4), F.instance_norm, nn.GroupNorm(4, 4), lambda h: normed(h, (2, 3))],
    "gate": [
        lambda h: h * torch.sigmoid(h.mean((2, 3), keepdim=True)), lambda h: F.adaptive_avg_pool2d(h, 1).sigmoid() * h,
        lambda h: h.mul(torch.sigmoid(h.mean((2, 3))).view(-1, 4, 1, 1).expand_as(h)),
        lambda h: torch.mul(h, 1 - torch.sigmoid(-h.mean((2, 3), keepdim=True))),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_has_the_map_of_the_first(name, monkeypatch):
    monkeypatch.setattr(sys.modules[explain.lrp.__module__], "STABILIZER", 1e-13)
    first, *others = SPELLINGS[name]
    wanted = explain.lrp(Small(first), SMALL, 0)
    assert wanted.abs().max() > 1e-3
    for place, other in enumerate(others, 1):
        net, x = Small(other), SMALL.clone()
        torch.testing.assert_close(net(SMALL), Small(first)(SMALL), atol=1e-9, rtol=0, msg=f"the test's own {place}")
        for call in ("traced", "kept"):
            found = explain.lrp(net, x, 0)
            torch.testing.assert_close(found, wanted, atol=1e-8, rtol=1e-6, msg=f"spelling {place}, {call}")
        assert torch.equal(x, SMALL)


UNITS = {
    name: units[0]
    for name, units in SPELLINGS.items()
    if isinstance(units[0], (nn.ReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.LeakyReLU, nn.PReLU))
}


@pytest.mark.parametrize("name", [*UNITS, "max-pool", "average", "circular"])
def test_first_spellings_equal_zennit(name):
    """Two layers deep: what a unit lets through below zero must count for z+ too."""
    first = {"average": nn.AvgPool2d(2), "circular": SPELLINGS["convolution around the edge"][1]}
    last = same(nn.Conv2d, 2 if name == "circular" else 4, 2, 3)
    net = Small(nn.Sequential(first[name] if name in first else SPELLINGS[name][0], last))
    with Gradient(model=net, composite=EpsilonPlus()) as attribution:
        _, theirs = attribution(SMALL.clone(), torch.eye(4, dtype=X.dtype)[[0, 0]])
    torch.testing.assert_close(explain.lrp(net, SMALL, 0), theirs.detach(), atol=1e-9, rtol=1e-6)


CONSERVING = [
    "max-pool",
    "average",
    "reshape",
    "channel shuffle",
    "sum",
    "weighted sum",
    "difference",
    "factor",
    "gate",
]


@pytest.mark.parametrize("name", CONSERVING)
def test_without_biases_each_rule_conserves(name, monkeypatch):
    monkeypatch.setattr(sys.modules[explain.lrp.__module__], "STABILIZER", 1e-15)
    net = Small(nn.Sequential(nn.ReLU(), Spelled(SPELLINGS[name][0])), bias=False)
    torch.testing.assert_close(explain.lrp(net, SMALL + 0.3, 0).sum((1, 2, 3)), torch.ones(2).double())


def test_a_layer_norm_is_linear_with_its_deviation_held_fixed():
    """Ali et al. 2022, written out with a matrix for each image."""
    norm = nn.LayerNorm(64).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    net = nn.Sequential(nn.Flatten(), norm, same(nn.Linear, 64, 3).double())
    x = SMALL[:, :1]
    found = explain.lrp(net, x, 1)
    for image, relevance in zip(x, found, strict=True):
        h = image.flatten()
        matrix = norm.weight[:, None] * (torch.eye(64) - 1 / 64) / (h.var(correction=0) + norm.eps).sqrt()
        z = matrix @ h + norm.bias
        share = z * net[2].weight[1] / (net[2](z)[1] + 1e-6 * net[2](z)[1].sign())
        expected = h * (matrix.T @ (share / (z + 1e-6 * z.sign())))
        torch.testing.assert_close(relevance.flatten(), expected.detach())


class Gated(nn.Module):
    """A product of two signals, of which the second may be a gate."""

    def __init__(self, gate):
        super().__init__()
        torch.manual_seed(0)
        self.signal, self.other, self.last = (nn.Linear(n, m).double() for n, m in ((64, 5), (64, 5), (5, 2)))
        self.gate = gate

    def forward(self, x):
        x = x[:, 0].flatten(1)
        return self.last(self.signal(x) * self.gate(self.other(x)))


@pytest.mark.parametrize("gate", [torch.sigmoid, F.hardsigmoid, lambda h: h.softmax(1), torch.tanh])
def test_a_product_gives_all_to_the_signal(gate):
    net, x = Gated(gate), SMALL[:, :1]
    h, a, y = x.flatten(1), net.signal(x.flatten(1)), net(x)[:, :1]
    share = a * gate(net.other(h)) * net.last.weight[0] / (y + 1e-6 * y.sign())
    expected = h * ((share / (a + 1e-6 * a.sign())) @ net.signal.weight)
    torch.testing.assert_close(explain.lrp(net, x, 0), expected.detach().view(x.shape))


class Attentive(nn.Module):
    def __init__(self, attend):
        super().__init__()
        self.inner, self.last = Spelled(attend), nn.Linear(64, 2).double()

    def forward(self, x):
        return self.last(self.inner(x[:, 0]).flatten(1))


def sideways(x):
    return x.relu() @ x.transpose(1, 2)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Attentive(lambda x: F.scaled_dot_product_attention(x, x, x)), "dot_product_attention in inner .*is missing"),
        (Attentive(sideways), "matmul in inner .Spelled.*attention is missing"),
        (Attentive(lambda x: torch.einsum("bij,bkj->bik", x, x.relu())), "einsum.*attention is missing"),
        (Gated(torch.relu), "mul: of two factors"),
        (Attentive(lambda x: 1 / (x + 2)), "div in inner .*what divides a constant"),
        (Attentive(lambda x: x * x), "mul in inner .*of two factors"),
        (Attentive(lambda x: x**2), "pow in inner"),
        (Attentive(lambda x: F.normalize(x)), "normalize in inner"),
        (Attentive(lambda x: torch.layer_norm(x, (8,))), "layer_norm in inner"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2).double(), nn.LogSoftmax(1)), r"2 \(LogSoftmax\)"),
        (nn.Sequential(nn.ConvTranspose2d(3, 1, 8), nn.Flatten(), nn.Linear(225, 2)).double(), "0 .ConvTranspose2d"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_refused_by_name(net, message):
    with pytest.raises(ValueError, match=message) as refusal:
        explain.lrp(net, SMALL, 0)
    assert "0x" not in str(refusal.value)


class Cosine(nn.Linear):
    def forward(self, x):
        return F.linear(F.normalize(x), self.weight)


class Twice(nn.Conv2d):
    def forward(self, x):
        return super().forward(super().forward(x))


class Unlike(nn.Conv2d):
    def forward(self, x):
        return x * self.weight.mean()


class Rectified(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


@pytest.mark.parametrize(
    ("inner", "name"),
    [
        (nn.Sequential(nn.Flatten(), Cosine(256, 6)), r"inner\.1 \(Cosine\)"),
        (Rectified(4, 2, 3), r"inner \(Rectified\)"),
        (Twice(4, 4, 3), r"inner \(Twice\)"),
        (Unlike(4, 4, 3), r"inner \(Unlike\)"),
    ],
)
def test_a_layer_of_ones_own_that_does_more_is_refused_by_name(inner, name):
    with pytest.raises(ValueError, match=f"no rule for {name}"):
        explain.lrp(Small(inner), SMALL, 0)


def test_a_convolution_that_makes_its_weights_is_read_with_those_that_it_makes():
    layer, plain = same(Standardized, 4, 2, 3).double(), same(nn.Conv2d, 4, 2, 3, padding=1).double()
    with torch.no_grad():
        weight = plain.weight - plain.weight.mean((1, 2, 3), keepdim=True)
        plain.weight.copy_(weight / weight.std((1, 2, 3), keepdim=True))
    torch.testing.assert_close(
        explain.lrp(Small(layer), SMALL, 0), explain.lrp(Small(plain), SMALL, 0), atol=1e-7, rtol=0
    )


def test_a_linear_layer_of_many_rows_is_one_of_each_row():
    rows, wide = same(nn.Linear, 4, 3), same(nn.Linear, 256, 192)
    with torch.no_grad():
        wide.weight.copy_(torch.kron(torch.eye(64), rows.weight))
        wide.bias.copy_(rows.bias.repeat(64))
    last = (ops.Permute([0, 2, 3, 1]), rows), (ops.Permute([0, 2, 3, 1]), nn.Flatten(), wide)
    found, wanted = (explain.lrp(Small(nn.Sequential(*layers)), SMALL, 0) for layers in last)
    torch.testing.assert_close(found, wanted)


INSIDE = [
    *(
        SPELLINGS["layer norm of channels"][0],
        SPELLINGS["gate"][0],
        SPELLINGS["convolution around the edge"][0],
        PADDED,
    ),
    *(nn.GELU(), nn.InstanceNorm2d(4), lambda h: (h - 0.1) / h.std(), swapped, same(Standardized, 4, 2, 3)),
]


@pytest.mark.parametrize("inner", INSIDE)
def test_gradients_of_further_rules_equal_finite_differences(inner):
    net = Small(nn.Sequential(Spelled(inner), Spelled(torch.tanh)))
    for name, weight in net.inner.named_parameters():
        nn.init.normal_(weight, 1.0 if name.endswith("weight") else 0.0, 0.3)
    x = SMALL.clone().requires_grad_()
    check_slopes(net, x, None, [x, net.conv.weight, net.conv.bias, net.last.weight])


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head, self.settings = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(144, 2), {}
        self.skip = True

    def forward(self, x):
        h = self.a(x)
        if self.skip and not self.settings:
            return self.head((h + self.b(h)).flatten(1))
        return self.head(self.b(h).flatten(1))


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("change", [lambda net: setattr(net, "skip", False), lambda net: net.settings.update(skip=0)])
def test_a_net_that_decides_otherwise_is_traced_anew(change, trusting):
    net = Skipping().double()
    explain.lrp(net, SMALL, 0)
    change(net)
    wanted = explain.lrp(copy.deepcopy(net), SMALL, 0)
    if trusting and net.skip:
        return  # in a loop only what a net is made of is looked at, not what it gives
    with checks.trusted() if trusting else contextlib.nullcontext():
        assert torch.equal(explain.lrp(net, SMALL, 0), wanted)


def test_a_kept_graph_is_not_traced_again(monkeypatch):
    net = Skipping().double()
    first = explain.lrp(net, SMALL, 0)
    monkeypatch.setattr(sys.modules["atexlib.explain.graphs"], "trace", None)
    assert torch.equal(explain.lrp(net, SMALL, 0), first)


def test_a_kept_graph_does_not_keep_its_net():
    net = Skipping().double()
    explain.lrp(net, SMALL, 0)
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None


def test_images_are_not_written_on():
    net, x = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(192, 2).double()), SMALL.clone()
    explain.lrp(net, x, 0)
    explain.lrp(net, x, 0)
    assert torch.equal(x, SMALL)


def test_images_normalised_in_the_net_leave_a_share_to_the_mean():
    class Normalising(Small):
        def forward(self, x):
            return super().forward((x - 0.25) / 0.5)

    whole, inside = Normalising(nn.Identity()), Small(nn.Identity())
    z = SMALL - 0.25
    inner = explain.lrp(inside, z / 0.5, 0)
    torch.testing.assert_close(explain.lrp(whole, SMALL, 0), SMALL * inner / (z + 1e-6 * z.sign()))


def test_a_net_in_training_mode_is_looked_at_in_eval_mode_and_given_back():
    net = shaken(vision.resnet18(num_classes=10))
    expected = explain.lrp(net, X, 0)
    before = net.bn1.running_mean.clone()
    torch.testing.assert_close(explain.lrp(net.train(), X, 0), expected)
    assert net.training
    assert net.bn1.training
    assert torch.equal(net.bn1.running_mean, before)
