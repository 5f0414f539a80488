"""LRP of every family of torchvision: a finite map that conserves relevance, or a refusal by name."""

import sys

import pytest
import torch
from conftest import seeded
from torch import nn
from torchvision import models as vision

from atexlib import explain

OPTIONS = {
    "googlenet": {"init_weights": False},
    "inception_v3": {"init_weights": False},
    "vit_b_16": {"image_size": 64},
}
EXPLAINED = (
    "resnet18 vgg11_bn densenet121 squeezenet1_1 regnet_y_400mf googlenet inception_v3 mobilenet_v2 mobilenet_v3_small "
    "mnasnet0_5 shufflenet_v2_x0_5 efficientnet_b0 convnext_tiny"
)
# A convolution of each channel by itself, without a unit after it: where its few weights give nothing above zero and
# its output is below zero, z+ has nobody to give the relevance to.
LOSING = ("mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "efficientnet_b0")
REFUSED = {
    "vit_b_16": r"encoder\.layers\.encoder_layer_11\.self_attention \(MultiheadAttention\)",
    "swin_t": r"shifted_window_attention in features\.7\.1\.attn \(ShiftedWindowAttention\)",
}


def made(name):
    torch.manual_seed(0)
    return getattr(vision, name)(weights=None, num_classes=5, **OPTIONS.get(name, {})).eval()


def images(name):
    side = 75 if name == "inception_v3" else 64
    return torch.rand(1, 3, side, side, generator=seeded(1), dtype=torch.float64)


@pytest.fixture(scope="module", params=EXPLAINED.split())
def family(request):
    """A family's name, and a net of it that has no biases."""
    net = made(request.param).double()
    for name, weight in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
    return request.param, net


def test_a_family_has_a_map_that_conserves_relevance(family, monkeypatch):
    """Deep random nets let signals fade, so that only without a stabilizer nothing is lost."""
    monkeypatch.setattr(sys.modules[explain.lrp.__module__], "STABILIZER", 1e-200)
    name, net = family
    found = explain.lrp(net, images(name), 1)
    assert found.shape == images(name).shape
    if name in LOSING:
        assert 0.5 < found.sum().item() < 1
    else:
        assert found.sum().item() == pytest.approx(1, abs=1e-6)
    assert torch.equal(explain.lrp(net, images(name), 1), found)


def test_a_family_with_biases_has_a_finite_map_whose_gradient_is_finite(family):
    name, net = family
    with torch.no_grad():
        for key, weight in net.named_parameters():
            if key.endswith("bias"):
                weight.fill_(0.1)
    x = images(name).float().requires_grad_()
    found = explain.lrp(net.float(), x, 1, create_graph=True)
    (slope,) = torch.autograd.grad(found.square().sum(), x)
    assert found.isfinite().all()
    assert found.any()
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", REFUSED)
def test_attention_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"no rule for {REFUSED[name]}.*attention is missing") as refusal:
        explain.lrp(made(name), images(name).float(), 1)
    assert "0x" not in str(refusal.value)
