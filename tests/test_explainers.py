import captum.attr
import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn

from atexlib import explain, nets

pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-8, atol=1e-8)


def test_gradient_equals_captum(net, x):
    target = net(x).argmax(1)
    close(explain.gradient(net, x), captum.attr.Saliency(net).attribute(x, target, abs=False))
    close(explain.gradient(net, x, 2), captum.attr.Saliency(net).attribute(x, 2, abs=False))


def test_gradient_x_input_equals_captum(net, x):
    theirs = captum.attr.InputXGradient(net).attribute(x, net(x).argmax(1))
    close(explain.gradient_x_input(net, x), theirs)


@pytest.mark.parametrize("baseline", [0.0, 0.3])
def test_integrated_gradients_equal_captum(net, x, baseline):
    theirs = captum.attr.IntegratedGradients(net).attribute(x, baseline, net(x).argmax(1), n_steps=20)
    close(explain.integrated_gradients(net, x, baseline=baseline, steps=20), theirs)


def test_integrated_gradients_are_complete(x):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Softplus(4), nn.Linear(16, 3)).double()
    maps = explain.integrated_gradients(net, x, 1, steps=64)
    close(maps.sum((1, 2, 3)), net(x)[:, 1] - net(torch.zeros_like(x))[:, 1])


@pytest.mark.parametrize("layer", ["conv1", "act2"])
def test_grad_cam_equals_captum(net, x, layer):
    cam = captum.attr.LayerGradCam(net, getattr(net, layer)).attribute(x, net(x).argmax(1))
    close(explain.grad_cam(net, x, layer=layer), F.interpolate(cam, size=(8, 8), mode="bilinear"))


@pytest.mark.parametrize("layer", ["conv1", "act2", "fc1"])
def test_the_gradient_at_a_layer_equals_captum(net, x, layer):
    module = getattr(net, layer)
    theirs = captum.attr.LayerGradientXActivation(net, module, multiply_by_inputs=False)
    close(explain.gradient(net, x, layer=layer), theirs.attribute(x, net(x).argmax(1)))
    close(explain.gradient(net, x, 2, layer=module), theirs.attribute(x, 2))


def test_the_gradient_at_a_layer_can_be_differentiated(net, x):
    def total(scale):
        return explain.gradient(net, x[:2] * scale, 1, layer="conv1", create_graph=True)

    assert torch.autograd.gradcheck(total, torch.ones((), dtype=x.dtype, requires_grad=True))


def test_grad_cam_reads_the_last_convolution_unless_told(net, x):
    assert torch.equal(explain.grad_cam(net, x), explain.grad_cam(net, x, layer=net.conv2))


def test_smoothgrad_equals_captum_on_the_same_noise(net, x, monkeypatch):
    noise = torch.randn((7, 1, 8, 8), generator=seeded(3), dtype=x.dtype) * 0.2
    target = net(x).argmax(1)
    maps = [captum.attr.Saliency(net).attribute(x + draw, target, abs=False) for draw in noise]
    close(explain.smoothgrad(net, x, samples=7, sigma=0.2, generator=seeded(3)), torch.stack(maps).mean(0))


def test_smoothgrad_of_a_quadratic_is_its_gradient_at_the_mean_of_the_copies(x):
    class Quadratic(nn.Module):
        def forward(self, x):
            return torch.stack([x.square().sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)

    maps = explain.smoothgrad(Quadratic(), x, 0, samples=400, sigma=0.1)
    assert (maps - 2 * x).abs().max() < 2 * 0.1 * 5 / 20  # five standard errors
    assert not torch.equal(maps, 2 * x)


def test_a_map_does_not_depend_on_its_neighbours_in_the_batch(net, x, explainer):
    torch.testing.assert_close(explainer(net, x)[2:3], explainer(net, x[2:3]))


def test_a_map_is_a_function_of_its_input(net, x, explainer):
    assert torch.equal(explainer(net, x), explainer(net, x))


def test_shape_target_and_graph(net, x, explainer):
    maps = explainer(net, x)
    assert maps.shape == x.shape
    assert not maps.requires_grad
    target = net(x).argmax(1)
    torch.testing.assert_close(maps, explainer(net, x, target))
    assert not torch.allclose(maps, explainer(net, x, (target + 1) % 4))
    assert x.grad is None
    assert all(weight.grad is None for weight in net.parameters())
    torch.testing.assert_close(explainer(net, x, create_graph=True).detach(), maps)


def test_second_derivatives_by_x_are_exact(net, x, explainer):
    target = net(x).argmax(1)[:2]
    assert torch.autograd.gradcheck(lambda z: explainer(net, z, target, create_graph=True), x[:2].requires_grad_())


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_second_derivatives_by_the_weights_are_exact(net, x, explainer, needs_gradient):
    x = x[:2].requires_grad_(needs_gradient)
    weight = net.conv1.weight
    probe = torch.randn(x.shape, generator=seeded(9), dtype=x.dtype)

    def value():
        return (explainer(net, x, 1, create_graph=True) * probe).sum()

    (slope,) = torch.autograd.grad(value(), weight)
    direction = torch.randn(weight.shape, generator=seeded(8), dtype=x.dtype)
    step, ends = 1e-7, []  # small, for LRP bends sharply where its denominators are near zero
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * direction
        ends.append(value().item())
        with torch.no_grad():
            weight -= sign * step * direction
    numeric = (ends[0] - ends[1]) / (2 * step)
    assert (slope * direction).sum().item() == pytest.approx(numeric, rel=1e-6)


@pytest.mark.parametrize("name", ["smoothgrad", "integrated_gradients"])
def test_chunks_change_neither_values_nor_derivatives(net, x, name):
    results = []
    for chunk in (1000, 13, 1):
        z = x.clone().requires_grad_()
        maps = explain.EXPLAINERS[name](net, z, create_graph=True, chunk=chunk)
        slopes = torch.autograd.grad(maps.square().sum(), [z, net.conv1.weight, net.fc2.weight])
        results.append([maps, *slopes])
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
def test_chunks_bound_what_is_in_the_net_at_once(net, x, create_graph):
    sizes = []
    net.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    maps = explain.smoothgrad(net, x, 1, samples=10, chunk=12, create_graph=create_graph)
    if create_graph:
        maps.sum().backward()
    assert max(sizes) == 12
    # The images once, to look at their logits; all copies but the first chunk are computed again.
    assert sum(sizes) == 6 + 60 + (48 if create_graph else 0)


def test_explainers_work_on_nets_with_in_place_relus(x, explainer):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(108, 4)).double()
    assert explainer(net, x, create_graph=True).isfinite().all()


def test_linear_net_by_hand():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False)).double()
    weights = torch.tensor([[1.0, 2, 3, 4], [-1, 0, 1, 0]], dtype=torch.float64)
    net[1].weight.data = weights
    x = torch.tensor([[[[1.0, 2], [3, 4]]]], dtype=torch.float64)
    assert explain.gradient(net, x).flatten().tolist() == [1, 2, 3, 4]
    assert explain.gradient_x_input(net, x).flatten().tolist() == [1, 4, 9, 16]
    for name in ("smoothgrad", "integrated_gradients"):
        expected = weights[1] * (x.flatten() if name == "integrated_gradients" else 1)
        torch.testing.assert_close(explain.EXPLAINERS[name](net, x, 1).flatten(), expected)


def test_the_models_module_is_not_touched(net, x, explainer):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    explainer(net, x, create_graph=True)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
    assert isinstance(net, nets.ConvNet)
