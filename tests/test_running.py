"""Nets are called in eval mode, frozen, batch by batch, and come back as they were."""

import contextlib

import pytest
import torch
from conftest import seeded
from torch import nn

from atexlib import nets


def test_frozen_gives_modes_and_flags_back():
    net = nets.ConvNet()
    net.train()
    net.fc1.eval()
    net.conv1.weight.requires_grad_(False)
    with contextlib.suppress(KeyError), nets.frozen(net):
        assert not net.training
        assert not any(weight.requires_grad for weight in net.parameters())
        raise KeyError
    assert net.training
    assert not net.fc1.training
    assert [name for name, weight in net.named_parameters() if not weight.requires_grad] == ["conv1.weight"]
    assert "forward" not in vars(net.conv1)


def test_predict_works_in_eval_mode_and_gives_the_mode_back():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 3)).train()
    images = torch.randn(10, 1, 4, 4, generator=seeded())
    assert torch.allclose(nets.predict(net, images, batch_size=3), net[2](images.flatten(1)))
    assert net.training


def test_prediction_gives_each_module_its_mode_back_also_after_an_error():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(2 * 36, 3)).train()
    net[1].eval()
    nets.predict(net, torch.rand(2, 1, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True]
    with pytest.raises(ValueError, match="Sequential cannot take images"):
        nets.predict(net, torch.rand(2, 3, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True]
