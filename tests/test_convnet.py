"""The paper's ConvNet."""

import torch
from conftest import seeded

from atexlib import nets


def test_convnet_is_the_papers():
    net = nets.ConvNet()
    shapes = [tuple(weight.shape) for weight in net.parameters() if weight.ndim > 1]
    assert shapes == [(32, 1, 3, 3), (32, 32, 3, 3), (120, 1568), (10, 120)]
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    x = torch.linspace(-2, 2, 9)
    assert torch.allclose(net.act1(x), torch.log1p(torch.exp(10 * x)) / 10, atol=1e-6)


def test_the_same_generator_gives_the_same_weights():
    first, second, other = (nets.ConvNet(generator=seeded(seed)).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
