import pytest
import torch
import torch.fx
from conftest import seeded
from torch import nn

from atexlib import explain, nets
from atexlib.nets import convolution

LAYERS = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "uneven": {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    "grouped": {"groups": 2, "padding": 1, "bias": False},
    "same": {"padding": "same"},
    "reflected": {"padding": 1, "padding_mode": "reflect"},
}


@pytest.fixture(params=LAYERS)
def layer(request):
    return nn.Conv2d(2, 4, 3, **LAYERS[request.param]).double()


def test_values_and_derivatives_equal_torchs(layer):
    x = torch.randn(2, 2, 7, 6, generator=seeded(1), dtype=torch.float64).requires_grad_()

    def curved(x):
        with convolution.FixedWeights():
            return torch.tanh(layer(x))

    torch.testing.assert_close(curved(x), torch.tanh(layer(x)))

    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(curved, x)


def test_the_second_derivative_skips_the_gradient_of_the_weights(net, x):
    """A frozen net gives the same second derivative, and computes no gradient by a convolution's weights."""

    def slope():
        z = x.clone().requires_grad_()
        maps = explain.gradient(net, z, 1, create_graph=True)
        with torch.profiler.profile() as profile:
            found = torch.autograd.grad(maps.square().sum(), z)[0]
        return found, {event.key for event in profile.key_averages()}

    plain, with_waste = slope()
    with nets.frozen(net):
        frozen, without = slope()
    torch.testing.assert_close(frozen, plain)
    assert "aten::_convolution_double_backward" in with_waste
    assert "aten::_convolution_double_backward" not in without


def test_functional_convolutions_and_traced_nets_are_seen_too(x):
    """Weights may be handed to F.conv2d by anything: a module of one's own, a graph of torch.fx."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.rand(2, 1, 3, 3, generator=seeded(1), dtype=torch.float64))

        def forward(self, x):
            return torch.conv2d(x, weight=self.kernel).sum((2, 3))

    own = Own()
    for net in (own, torch.fx.symbolic_trace(own)):
        z = x.clone().requires_grad_()
        with nets.frozen(net):
            out = net(z)
            assert "_Convolve" in out.grad_fn.next_functions[0][0].name()
        torch.testing.assert_close(out, net(z))
    with nets.frozen(own):
        graph = torch.fx.symbolic_trace(own)
    assert dict(graph.named_parameters()).keys() == {"kernel"}


def test_functional_transforms_and_autocast_work(x):
    net = nets.ConvNet(side=8, width=4, hidden=8).double().eval()

    def score(z):
        return net(z[None])[0, 1]

    single = nets.ConvNet(side=8, width=4, hidden=8).eval()
    plain = torch.func.vmap(torch.func.grad(score))(x)
    with nets.frozen(net):
        torch.testing.assert_close(torch.func.vmap(torch.func.grad(score))(x), plain)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = single(x.float())
    assert mixed.dtype == torch.bfloat16


@pytest.mark.parametrize("view", [lambda z: z.view(len(z), -1), lambda z: z.view(z.size(0), 2, 36).flatten(1)])
def test_a_net_may_view_its_maps_as_rows(view, x):
    """Under fixed weights channels come last, and then torch refuses a view as rows."""

    class Viewing(nn.Sequential):
        def forward(self, x):
            return self[1](view(self[0](x)))

    net = Viewing(nn.Conv2d(1, 2, 3), nn.Linear(72, 3)).double()
    with nets.frozen(net):
        torch.testing.assert_close(net(x), net[1](net[0](x).flatten(1)))


POOLS = {"plain": {}, "overlapping": {"stride": 1, "padding": 1}, "uneven": {"stride": (2, 1), "ceil_mode": True}}


@pytest.mark.parametrize("options", POOLS.values(), ids=POOLS)
def test_pooling_has_torchs_derivatives(options):
    layer = nn.MaxPool2d(3, **options)
    x = torch.randn(2, 3, 7, 6, generator=seeded(1), dtype=torch.float64).to(memory_format=torch.channels_last)

    def curved(x):
        with convolution.FixedWeights():
            return torch.tanh(layer(x.to(memory_format=torch.channels_last)))

    x.requires_grad_()
    torch.testing.assert_close(curved(x), torch.tanh(layer(x)))
    assert torch.autograd.gradcheck(curved, x)
    assert torch.autograd.gradgradcheck(curved, x)
    with convolution.FixedWeights():
        assert [values.dtype for values in nn.MaxPool2d(2, return_indices=True)(x)] == [torch.float64, torch.int64]


def test_one_image_without_an_axis_of_images_is_torchs_own_case():
    layer, x = nn.Conv2d(1, 2, 3).double(), torch.rand(1, 8, 8, generator=seeded(1), dtype=torch.float64)
    with convolution.FixedWeights():
        (slope,) = torch.autograd.grad(layer(x.requires_grad_()).sum(), x)
    assert slope.shape == x.shape
