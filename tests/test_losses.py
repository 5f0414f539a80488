"""The losses of the later defences: slopes by the weights, closed forms on linear and quadratic nets."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import FORTY, curved, flat, seeded
from torch import nn

from atexlib import defend, nets
from atexlib.defend.losses import parts
from atexlib.defend.losses.feature_smoothing import Blurred
from atexlib.defend.losses.low_curvature import CentredSoftplus
from atexlib.defend.losses.r2et import thickness

LOSSES = {name: chosen for name, chosen in defend.DEFENSES.items() if chosen.loss is not None}
X = torch.rand(5, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 3, 1])
STRONG = {"weight": 0.7}  # so that no term is lost in the cross entropy


def shaped(name):
    chosen, net = LOSSES[name], curved()
    return net if chosen.shape is None else chosen.shape(net, chosen.settings)


def value(name, net, x=X, y=Y, *, seed=3, **options):
    known = LOSSES[name].settings
    strong = {key: number for key, number in STRONG.items() if key in known}
    return LOSSES[name].loss(net, x, y, seeded(seed), **{**known, **strong, **options})


def cross_entropy(net, x=X, y=Y):
    return F.cross_entropy(net(x), y)


class Quadratic(nn.Module):
    """Logits x' A_c x of pictures of four pixels: the Hessian of logit c is A_c + A_c'."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(3, 4, 4, generator=seeded(6), dtype=torch.float64) / 2)

    def forward(self, x):
        flat = x.flatten(1)
        return torch.einsum("bi,cij,bj->bc", flat, self.a, flat)


def linear():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(4, 64, generator=seeded(7), dtype=torch.float64) / 4)
    return net


SMALL = torch.rand(3, 1, 2, 2, generator=seeded(8), dtype=torch.float64)
SMALL_Y = torch.tensor([2, 0, 1])


def slope_along(function, net, direction, step=1e-6):
    """The derivative of `function(net)` along a direction of the weights, by a central difference."""
    found = []
    for sign in (1, -1):
        moved, place = copy.deepcopy(net), 0
        with torch.no_grad():
            for weight in moved.parameters():
                weight += sign * step * direction[place : place + weight.numel()].view(weight.shape)
                place += weight.numel()
        found.append(function(moved).item())
    return (found[0] - found[1]) / (2 * step)


def slope_by_graph(loss, net, direction):
    slopes = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, materialize_grads=True)
    return (torch.cat([slope.flatten() for slope in slopes]) * direction).sum().item()


def held_map(net, x, near, g):
    """l2 + cosine with the clean map held: what its slope is the slope of."""
    moved = parts.logits_and_map(net, near, Y)[1]
    term = 0.01 * parts.length_squared(g - moved) + (1 - parts.cosine(g, moved)) / 2
    return cross_entropy(net) + STRONG["weight"] * term.mean()


@pytest.mark.parametrize("name", LOSSES)
def test_its_slope_by_the_weights_is_that_of_finite_differences(name):
    net = shaped(name)
    direction = torch.randn(len(flat(net)), generator=seeded(4), dtype=torch.float64)
    direction /= direction.norm()
    function = lambda moved: value(name, moved)  # noqa: E731
    if name == "l2_cosine":
        g = parts.logits_and_map(net, X, Y)[1].detach()
        near = parts.uniform_in_ball(X, LOSSES[name].settings["eps"], seeded(3))
        function = lambda moved: held_map(moved, X, near, g)  # noqa: E731
        assert function(net).item() == pytest.approx(value(name, net).item())
    expected = slope_along(function, net, direction)
    assert slope_by_graph(value(name, net), net, direction) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert abs(expected) > 1e-4


@pytest.mark.parametrize("name", LOSSES)
def test_it_changes_neither_the_net_nor_the_images(name):
    net, x = shaped(name), X.clone()
    before, modes = flat(net).clone(), [module.training for module in net.modules()]
    with torch.no_grad():  # as when it is validated by
        first = value(name, net, x)
    assert first.isfinite()
    assert torch.equal(flat(net), before)
    assert [module.training for module in net.modules()] == modes
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert torch.equal(value(name, net, x), first)


@pytest.mark.parametrize("name", [name for name, chosen in LOSSES.items() if "weight" in chosen.settings])
def test_without_weight_and_radius_it_is_the_cross_entropy(name):
    net, off = shaped(name), {"weight": 0.0}
    off |= {"eps": 0.0} if "eps" in LOSSES[name].settings else {}
    off |= {"sharpness": 0.0} if name == "lcnn" else {}
    assert value(name, net, **off).item() == pytest.approx(cross_entropy(net).item())
    if name != "lcnn":
        assert value(name, net).item() != pytest.approx(cross_entropy(net).item())


@pytest.mark.parametrize(
    "name", ["at", "feature_smoothing", "igr", "adv_aat", "ig_sum_norm", "trades", "aat", "l2_cosine"]
)
def test_in_a_ball_of_no_radius_nothing_is_lost(name):
    net = shaped(name)
    assert value(name, net, eps=0.0).item() == pytest.approx(cross_entropy(net).item(), abs=1e-9)
    assert value(name, net, eps=0.1).item() > cross_entropy(net).item()


@pytest.mark.parametrize("name", ["hessian", "l2_cosine", "aat"])
def test_a_linear_net_has_nothing_to_mend(name):
    net = linear()
    assert value(name, net).item() == pytest.approx(cross_entropy(net).item(), abs=1e-9)


def test_the_gradient_norm_of_a_linear_net_in_closed_form():
    net = linear()
    rest = net(X).softmax(1) - F.one_hot(Y, 4)
    squared = (rest @ net[1].weight).square().sum(1).mean()
    assert value("gradient_norm", net, weight=2.0).item() == pytest.approx((cross_entropy(net) + 2 * squared).item())


def test_the_hessian_norm_of_a_quadratic_net_is_that_of_its_matrix():
    net = Quadratic()
    many, labels = SMALL.repeat(2000, 1, 1, 1), SMALL_Y.repeat(2000)
    term = LOSSES["hessian"].loss(net, many, labels, seeded(), weight=1.0) - cross_entropy(net, many, labels)
    matrices = net.a + net.a.mT
    assert term.item() == pytest.approx(matrices.square().sum((1, 2))[SMALL_Y].mean().item(), rel=0.05)


def test_the_step_of_cure_is_the_second_derivative_along_it():
    net, step = Quadratic(), 1e-3
    term = LOSSES["cure"].loss(net, SMALL, SMALL_Y, seeded(), weight=1.0, step=step)
    term = (term - cross_entropy(net, SMALL, SMALL_Y)) / step**2
    squared = []
    for x, y in zip(SMALL, SMALL_Y, strict=True):
        loss = lambda z, y=y: F.cross_entropy(net(z.view(1, 1, 2, 2)), y[None])  # noqa: E731
        z = torch.autograd.functional.jacobian(loss, x.flatten()).sign()
        turned = torch.autograd.functional.hessian(loss, x.flatten()) @ (z / z.norm())
        squared.append(turned.square().sum())
    assert term.item() == pytest.approx(torch.stack(squared).mean().item(), rel=1e-2)


def test_ssr_takes_the_largest_eigenvalue_of_the_whole_matrix():
    net = curved()
    term = (value("ssr", net, weight=2.0) - cross_entropy(net)) / 2
    largest = []
    for x in X.split(1):
        jacobian = torch.autograd.functional.jacobian(lambda z: net(z)[0], x).flatten(1)
        p = net(x)[0].softmax(0)
        whole = jacobian.T @ (p.diag() - p.outer(p)) @ jacobian
        largest.append(torch.linalg.eigvalsh(whole)[-1])
    assert term.item() == pytest.approx(torch.stack(largest).mean().item())


def test_the_triplet_at_the_image_itself_by_hand():
    net = curved()
    z = parts.climb(net, lambda z: z.sum((1, 2, 3)), X, eps=0.0, steps=1, generator=seeded())
    logits = net(z)
    rival = (logits - 1e9 * F.one_hot(Y, 4)).argmax(1)
    maps = [torch.autograd.functional.jacobian(lambda x: net(x).sum(0), z)[c] for c in range(4)]
    d = [[1 - F.cosine_similarity(maps[c][i].flatten(), z[i].flatten(), dim=0) for c in range(4)] for i in range(5)]
    terms = [math.log(1 + math.exp(d[i][Y[i]] - d[i][rival[i]])) for i in range(5)]
    expected = cross_entropy(net, z).item() + 0.5 * sum(terms) / 5
    assert value("triplet", net, weight=0.5, eps=0.0).item() == pytest.approx(expected)


def test_thickness_pairs_the_smallest_of_the_top_with_the_largest_below():
    maps = torch.tensor([[[[1.0, -8.0, 4.0], [0.0, 2.0, 6.0]]]])
    assert thickness(maps, 2).item() == ((8 - 2) + (6 - 4)) / 2
    assert thickness(maps, 50).item() == thickness(maps, 3).item() == ((8 - 0) + (6 - 1) + (4 - 2)) / 3


def test_r2et_of_a_linear_net_is_the_thickness_alone():
    net = linear()
    wanted = cross_entropy(net) - 0.7 * thickness(net[1].weight[Y].view(5, 1, 8, 8), 10).mean()
    assert value("r2et", net, k=10).item() == pytest.approx(wanted.item(), abs=1e-9)


def test_climbing_stays_in_the_ball_and_raises_the_score():
    net = curved()
    loss = lambda z: F.cross_entropy(net(z), Y, reduction="none")  # noqa: E731
    z = parts.climb(net, loss, X, eps=0.1, steps=5, generator=seeded())
    assert (z - X).abs().max() <= 0.1
    assert z.min() >= 0
    assert z.max() <= 1
    assert (loss(z) > loss(X)).all()


def test_smoothed_features_begin_as_they_were_and_are_a_blur():
    net = curved()
    smooth = LOSSES["feature_smoothing"].shape(net, {})
    torch.testing.assert_close(smooth(X), net(X))
    block = Blurred(2)
    nn.init.dirac_(block.mix.weight)
    spot = torch.zeros(1, 2, 5, 5)
    spot[:, 0, 2, 2] = 16
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close((block(spot) - spot)[0, 0, 1:4, 1:4], expected)
    assert block(spot)[0, 1].abs().max() == 0
    with pytest.raises(ValueError, match="1 convolutions"):
        LOSSES["feature_smoothing"].shape(nn.Sequential(nn.Conv2d(1, 1, 3)), {})


def test_a_learned_beta_is_seen_and_set_as_any_other():
    net = shaped("lcnn")
    assert net.act1.beta == pytest.approx(4.0)
    assert nets.with_beta(net, 2.0).act1.beta == pytest.approx(2.0)
    assert net.act1.beta == pytest.approx(4.0)
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)
    unit = CentredSoftplus(4.0).double()
    torch.testing.assert_close(unit(z), F.softplus(z, beta=4.0) - math.log(2) / 4, rtol=1e-6, atol=1e-7)
    blunter = LOSSES["lcnn"].loss(net, X, Y, seeded(), weight=0.0, sharpness=0.5) - cross_entropy(net)
    assert blunter.item() == pytest.approx(0.5 * 3 * 4.0)
    with pytest.raises(ValueError, match="no softplus unit"):
        LOSSES["lcnn"].shape(nn.Sequential(nn.ReLU()), {})


def test_an_average_that_keeps_nothing_is_the_net_itself(base):
    options = {"epochs": 2, "batch_size": 10, "lr": 1e-3}
    last = defend.averaged(base, FORTY, decay=0.0, **options).model
    plain = nets.fit(base, FORTY, **options).model
    torch.testing.assert_close(flat(last), flat(plain), rtol=1e-4, atol=1e-6)
    slow = defend.averaged(base, FORTY, decay=1.0, **options).model
    torch.testing.assert_close(flat(slow), flat(base))


def test_whoever_says_its_cost_names_the_setting_of_its_strength():
    for chosen in defend.DEFENSES.values():
        assert (chosen.strength is None) == (chosen.cost is None)
        assert chosen.strength is None or chosen.settings[chosen.strength] > 0
