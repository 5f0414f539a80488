"""Heat maps as a user sees them."""

import pytest
import torch
from conftest import seeded
from torch import nn

from atexlib import explain


@pytest.mark.parametrize("name", ["lrp", "gradient_x_input", "integrated_gradients"])
def test_relevance_below_zero_is_cut_off(trained, digits, name):
    x, y = digits.images[:4], digits.labels[:4]
    raw = explain.EXPLAINERS[name](trained, x, y).clamp_min(0)
    assert raw.min() == 0
    expected = raw / raw.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(explain.heatmap(trained, x, y, explainer=name), expected)


def test_a_net_in_training_is_explained_in_eval_mode_and_left_as_it_was(digits):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
    x, y = digits.images[:3], digits.labels[:3]
    for explainer in ("gradient", "grad_cam", "lrp"):
        expected = explain.heatmap(net.eval(), x, y, explainer=explainer)
        assert torch.equal(explain.heatmap(net.train(), x, y, explainer=explainer), expected)
        assert net.training
        assert net[1].training
    assert net[1].running_mean.abs().sum() == 0


def test_a_map_of_one_value_is_dead_unless_it_starts_from_zero():
    flat = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    for weight in flat.parameters():
        nn.init.ones_(weight)
    x, y = torch.ones(2, 1, 8, 8), torch.tensor([0, 1])
    for name, dead in {"gradient": True, "lrp": True, "grad_cam": False}.items():
        assert explain.is_dead(flat, x, y, explainer=name).tolist() == [dead] * 2
        assert explain.heatmap(flat, x, y, explainer=name).unique().tolist() == [0.0 if dead else 1.0]


@pytest.mark.parametrize("name", explain.EXPLAINERS)
def test_heat_maps_lie_between_zero_and_one(trained, digits, name):
    h = explain.heatmap(trained, digits.images[:6], digits.labels[:6], explainer=name)
    assert h.shape == (6, 1, 28, 28)
    assert h.min() >= 0
    assert h.amax((1, 2, 3)).tolist() == pytest.approx([1] * 6)
    assert not explain.is_dead(trained, digits.images[:6], digits.labels[:6], explainer=name).any()


def test_grad_cam_is_divided_by_its_largest_value_and_cut_at_zero(trained, digits):
    x, y = digits.images[:4], digits.labels[:4]
    raw = explain.grad_cam(trained, x, y).relu()
    torch.testing.assert_close(
        explain.heatmap(trained, x, y, explainer="grad_cam"), raw / raw.amax((1, 2, 3), keepdim=True)
    )


def test_the_gradient_is_read_at_a_layer_that_is_named(trained, digits):
    y = digits.labels[:4]
    x = digits.images[:4] + 0.01 * torch.rand(4, 1, 28, 28, generator=seeded(1))  # no ties, which rounding decides
    at = torch.zeros(4, *trained.conv1(x).shape[1:], requires_grad=True)
    handle = trained.conv1.register_forward_hook(lambda _module, _inputs, output: output + at)
    slopes = torch.autograd.grad(trained(x).gather(1, y.unsqueeze(1)).sum(), at)[0].abs().sum(1, keepdim=True)
    handle.remove()
    low, high = slopes.amin((1, 2, 3), keepdim=True), slopes.amax((1, 2, 3), keepdim=True)
    h = explain.heatmap(trained, x, y, explainer="gradient", layer="conv1")
    torch.testing.assert_close(h, (slopes - low) / (high - low))
    assert torch.equal(explain.gradient(trained, x, y), explain.gradient(trained, x, y))
