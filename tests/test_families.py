"""The small VGG19, ResNet50 and DenseNet121: the published depths, by torchvision's own nets."""

import pytest
import torch
import torchvision
from conftest import seeded
from torch import nn

from atexlib import attack, explain, nets


def shapes(net):
    """Kernel, stride and channels of each convolution but the first, in order."""
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    return [(c.kernel_size, c.stride, c.in_channels, c.out_channels) for c in layers[1:]]


@pytest.mark.parametrize("name", nets.MODELS)
def test_the_blocks_are_the_published_ones_narrower(name):
    full = getattr(torchvision.models, name)
    with torch.device("meta"):
        published = shapes(full(weights=None))
    found = shapes(nets.small(name, divisor=8))
    assert [(k, s, i // 8, o // 8) for k, s, i, o in published] == found
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in nets.small(name).modules())
    with torch.device("meta"):
        assert norms == sum(isinstance(module, nn.BatchNorm2d) for module in full(weights=None).modules())


@pytest.mark.parametrize("name", nets.MODELS)
def test_maps_are_read_where_they_have_eight_pixels(name):
    net = nets.small(name, channels=3, classes=7, generator=seeded()).eval()
    x = torch.rand(2, 3, 32, 32, generator=seeded(1))
    assert net(x).shape == (2, 7)
    assert net(torch.rand(2, 3, 32, 64)).shape == (2, 7)  # a wide canvas fits too
    assert explain.lrp(net, x, 1, layer=nets.LAYERS[name]).shape[2:] == (8, 8)
    assert explain.grad_cam(net, x, 1, layer=nets.LAYERS[name]).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("name", nets.MODELS)
def test_the_generator_draws_the_weights(name):
    first, same, other = (nets.small(name, generator=seeded(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, same[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize("explainer", ["lrp", "grad_cam", "gradient"])
@pytest.mark.parametrize("name", nets.MODELS)
def test_each_family_can_be_fooled_for_a_step(name, explainer):
    net = nets.small(name, divisor=16, generator=seeded()).eval()
    x, y = torch.rand(2, 1, 32, 32, generator=seeded(1)), torch.arange(2)
    layer = None if explainer == "gradient" else nets.LAYERS[name]
    found = attack.fool(net, (x, y), explainer=explainer, layer=layer, steps=1, lr=1e-3, batch_size=2)
    changed = [key for key, value in net.state_dict().items() if not torch.equal(value, found.model.state_dict()[key])]
    assert changed
    assert not any("running" in key for key in changed)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="resnet50"):
        nets.small("resnet5")
    with pytest.raises(ValueError, match="divisor is 3"):
        nets.small("vgg19", divisor=3)
