import pytest
import torch
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
    return nn.Conv2d(2, 4, 3, **LAYERS[request.param]).double().requires_grad_(False)


def test_values_and_derivatives_equal_torchs(layer):
    x = torch.randn(2, 2, 7, 6, generator=seeded(1), dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(convolution.with_fixed_weights(layer, x), layer(x))

    def curved(x):
        return torch.tanh(convolution.with_fixed_weights(layer, x))

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
