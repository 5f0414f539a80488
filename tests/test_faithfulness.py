"""How a map looks and whether it is right: closed forms, plain loops, SciPy."""

import math

import numpy as np
import pytest
import torch
from conftest import seeded
from scipy.ndimage import gaussian_filter
from torch import nn

from atexlib import explain, judge, nets


class Logistic(nn.Module):
    """Two classes, the second's logit is the weighted sum of the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.mark.parametrize("insert", [False, True])
def test_curves_equal_a_loop_over_pixels(x, insert):
    weight = torch.randn(1, 8, 8, generator=seeded(4), dtype=torch.float64)
    net, maps = Logistic(weight), torch.randn(x.shape, generator=seeded(5), dtype=torch.float64)
    function = judge.insertion if insert else judge.deletion
    found = function(net, x, maps, 1, steps=16, baseline=0.3)
    assert found.shape == (len(x), 17)
    for image, one, curve in zip(x, maps, found, strict=True):
        order = sorted(range(64), key=lambda i, one=one: -one.abs().flatten()[i].item())
        for step in range(17):
            first = order[: 4 * step]
            changed = torch.full((64,), 0.3, dtype=torch.float64) if insert else image.flatten().clone()
            changed[first] = image.flatten()[first] if insert else 0.3
            p = 1 / (1 + math.exp(-(changed * weight.flatten()).sum().item()))
            assert curve[step].item() == pytest.approx(p)


def test_the_right_order_falls_fastest(x):
    """Positive weights: no order makes deletion's area smaller than that of the map w x, none insertion's larger."""
    weight = torch.rand(1, 8, 8, generator=seeded(4), dtype=torch.float64)
    net = Logistic(weight)
    best = x * weight
    other = torch.randn(x.shape, generator=seeded(6), dtype=torch.float64)
    fall = [judge.area(judge.deletion(net, x, maps, 1)) for maps in (best, other)]
    rise = [judge.area(judge.insertion(net, x, maps, 1)) for maps in (best, other)]
    assert (fall[0] < fall[1]).all()
    assert (rise[0] > rise[1]).all()


def test_curves_go_from_the_image_to_the_empty_image_and_back(net, x):
    maps = explain.gradient(net, x)
    target = nets.predict(net, x).argmax(1)
    rows = torch.arange(len(x))
    whole = nets.predict(net, x).softmax(1)[rows, target]
    empty = nets.predict(net, torch.zeros_like(x)).softmax(1)[rows, target]
    fall, rise = (f(net, x, maps, steps=7) for f in (judge.deletion, judge.insertion))
    torch.testing.assert_close(fall[:, [0, -1]], torch.stack([whole, empty], 1))
    torch.testing.assert_close(rise[:, [-1, 0]], torch.stack([whole, empty], 1))


def test_area_of_a_straight_line():
    assert judge.area(torch.tensor([[0.0, 0.5, 1.0], [2.0, 2.0, 2.0]])).tolist() == [0.5, 2.0]


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_blurred_gradient_equals_scipy(net, sigma):
    x = torch.rand(2, 1, 8, 8, generator=seeded(7), dtype=torch.float64)
    found = judge.blurred_gradient(net, x, 1, sigma=sigma)
    radius = round(3 * sigma)
    for image, one in zip(explain.gradient(net, x, 1).abs(), found, strict=True):
        expected = gaussian_filter(image[0].numpy(), sigma, mode="mirror", radius=radius)
        np.testing.assert_allclose(one[0].numpy(), expected, atol=1e-10)


def test_a_kernel_wider_than_the_image_is_refused_before_any_work(net, x):
    with pytest.raises(ValueError, match="sigma is 3"):
        judge.blurred_gradient(net, x, 1, sigma=3.0)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.long])
def test_curves_take_whole_numbers_of_any_kind(net, x, kind):
    target = torch.ones(len(x), dtype=kind)
    assert torch.equal(judge.deletion(net, x, x, target, steps=4), judge.deletion(net, x, x, 1, steps=4))


def test_blurred_gradient_can_be_differentiated(net, x):
    z = x[:1].clone().requires_grad_()
    direction = torch.randn(z.shape, generator=seeded(8), dtype=torch.float64)
    value = (judge.blurred_gradient(net, z, 1, create_graph=True) * direction).sum()
    slope = torch.autograd.grad(value, z)[0]
    step = 1e-6 * torch.randn(z.shape, generator=seeded(9), dtype=torch.float64)
    ends = [(judge.blurred_gradient(net, x[:1] + s * step, 1) * direction).sum() for s in (1, -1)]
    assert ((ends[0] - ends[1]) / 2).item() == pytest.approx((slope * step).sum().item(), rel=1e-4)
