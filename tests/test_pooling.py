"""Smooth pooling: closed forms, limits, every spelling of max-pooling."""

import pytest
import torch
import torch.nn.functional as F
from conftest import curved, seeded
from torch import nn

from atexlib import explain, maps, nets
from atexlib.nets.pooling import FirstOfWindow

IMAGES = torch.rand(3, 2, 9, 9, generator=seeded(1), dtype=torch.float64)
WINDOWS = [(2, 2, 0), (3, 2, 1), (3, 1, 0)]


@pytest.mark.parametrize("window", WINDOWS)
def test_log_mean_exp_goes_from_the_average_to_the_maximum(window):
    sharp, blunt = (nets.SmoothMaxPool2d(*window, beta=beta)(IMAGES) for beta in (2000.0, 1e-5))
    size, step, edge = window
    torch.testing.assert_close(sharp, F.max_pool2d(IMAGES, *window), atol=2e-3, rtol=0)
    if not edge:
        torch.testing.assert_close(blunt, F.avg_pool2d(IMAGES, *window), atol=1e-5, rtol=0)
    middle = nets.SmoothMaxPool2d(*window, beta=3.0)(IMAGES)
    assert (middle <= F.max_pool2d(IMAGES, *window) + 1e-12).all()
    if not edge:
        by_hand = IMAGES.mul(3).exp().unfold(2, size, step).unfold(3, size, step).mean((4, 5)).log() / 3
        torch.testing.assert_close(middle, by_hand)


def test_its_second_derivative_is_that_of_finite_differences():
    pool = nets.SmoothMaxPool2d(2, beta=4.0)
    assert torch.autograd.gradgradcheck(pool, IMAGES[:1, :1, :4, :4].clone().requires_grad_())


def test_the_first_of_a_window_is_a_convolution_that_skips():
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    skipping = F.conv2d(IMAGES, conv.weight, conv.bias, stride=2, padding=1)[:, :, :4, :4]
    torch.testing.assert_close(FirstOfWindow(2)(conv(IMAGES)), skipping)
    with pytest.raises(ValueError, match="padding is 1"):
        FirstOfWindow(3, 2, 1)


class Spelt(nn.Module):
    """A net that spells its pooling in one of four ways."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.pool, self.how = nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), how

    def forward(self, x):
        x = self.conv(x)
        pooled = {
            "module": self.pool,
            "functional": lambda x: F.max_pool2d(x, 2),
            "keywords": lambda x: F.max_pool2d(input=x, kernel_size=2, stride=2),
            "torch": lambda x: torch.max_pool2d(x, 2),
        }[self.how](x)
        return pooled.mean((2, 3))


@pytest.mark.parametrize("pooling", ["average", "strided", 3.0])
def test_every_spelling_of_max_pooling_is_found(pooling):
    found = []
    for how in ("module", "functional", "keywords", "torch"):
        torch.manual_seed(0)
        net = Spelt(how).double()
        before = net(IMAGES)
        smooth = nets.with_pooling(net, pooling)
        assert torch.equal(net(IMAGES), before)
        assert not torch.equal(smooth(IMAGES), before)
        found.append(smooth(IMAGES))
    assert all(torch.equal(one, found[0]) for one in found)


def test_what_cannot_be_smoothed_is_refused():
    with pytest.raises(ValueError, match="holds no max-pooling"):
        nets.with_pooling(nn.Sequential(nn.Conv2d(1, 2, 3)), "average")
    for pool, words in {
        nn.MaxPool2d((2, 3)): r"kernel_size of a max-pooling is \(2, 3\)",
        nn.MaxPool2d(2, dilation=2): "dilation of a max-pooling is 2",
        nn.MaxPool2d(2, ceil_mode=True): "ceil_mode=True",
    }.items():
        with pytest.raises(ValueError, match=words):
            nets.with_pooling(nn.Sequential(pool), "average")
    for wrong in ("mean", 0.0, -1.0):
        with pytest.raises(ValueError, match="pooling is"):
            nets.with_pooling(nets.ConvNet(), wrong)
    with pytest.raises(ValueError, match="beta is 0"):
        nets.SmoothMaxPool2d(2, beta=0.0)


def test_the_convnet_pools_after_its_units_where_that_is_not_the_same():
    net = curved()
    x = torch.rand(2, 1, 8, 8, generator=seeded(3), dtype=torch.float64)
    smooth = nets.with_pooling(net, "average")
    after = smooth.pool(smooth.act1(smooth.conv1(x)))
    after = smooth.pool(smooth.act2(smooth.conv2(after)))
    torch.testing.assert_close(smooth(x), smooth.fc2(smooth.act3(smooth.fc1(after.flatten(1)))))


def test_on_a_black_ground_max_pooling_leaps_with_the_least_noise_and_smooth_pooling_does_not():
    x = torch.zeros(4, 1, 8, 8, dtype=torch.float64)
    x[:, :, 2:6, 2:6] = torch.rand(4, 1, 4, 4, generator=seeded(4), dtype=torch.float64)
    noisy = (x + 1e-6 * torch.rand(x.shape, generator=seeded(5), dtype=torch.float64)).clamp(0, 1)
    for net, steady in ((curved(), False), (nets.with_pooling(curved(), "average"), True)):
        target = nets.predict(net, x).argmax(1)
        a, b = (explain.gradient(net, images, target).abs() for images in (x, noisy))
        assert bool((maps.spearman(a, b) > 0.999).all()) == steady
