import pytest
import torch
from conftest import seeded
from scipy.optimize import minimize_scalar
from torch import nn

from atexlib import explain, judge, nets
from atexlib.judge import stability


class Ridge(nn.Module):
    """f(x) = sigma(<w, x>), one output: the paper's own example of a stable model."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        z = torch.sigmoid((x * self.weights).sum((1, 2, 3)))
        return torch.stack([z, -z], 1)  # of two classes the first is predicted


@pytest.fixture
def ridge():
    weights = torch.tensor([[[0.9, -1.2]]], dtype=torch.float64)  # |w| = 1.5
    return Ridge(weights)


X = torch.tensor([[[[0.5, 0.3]]], [[[0.2, 0.9]]]], dtype=torch.float64)


def slope_of_sigmoid(z):
    return torch.sigmoid(z) * torch.sigmoid(-z)


def test_the_papers_example_is_stable_only_when_gamma_may_follow_the_shift(ridge):
    """On a ridge every map is a multiple of w, so max-min is 0; min-max is half the spread of the lengths."""
    wide = {"eps": 4.0, "bounds": (-9.0, 9.0), "steps": 60, "starts": 3}
    assert judge.max_min(ridge, X, **wide).value.max() < 1e-7
    printed = judge.min_max(ridge, X, **wide)
    z = (X * ridge.weights).sum((1, 2, 3)).detach()
    reach = 4.0 * ridge.weights.abs().sum().detach()
    farthest = torch.maximum((z + reach).abs(), (z - reach).abs())
    spread = slope_of_sigmoid(torch.zeros(2)).double() - slope_of_sigmoid(farthest)  # 0 lies within reach of both
    exact = 1.5 * spread / 2
    assert (printed.value <= exact + 1e-9).all()  # a search finds a lower bound
    assert (printed.value > 0.95 * exact).all()
    assert printed.relative.max() > 0.4


def test_worst_cases_of_a_linear_net_are_zero():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    x = torch.rand(4, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    with pytest.warns(UserWarning, match="does not change with the input"):
        assert judge.max_min(net, x, eps=0.3, steps=3).value.max() < 1e-12
    assert judge.average_case(net, x, radius=0.3).value.max() < 1e-12


def test_average_case_of_a_quadratic():
    """Gradient 2x: the mean distance is that of 2 (x' - x), here by a plain loop over the same kind of draws."""

    class Quadratic(nn.Module):
        def forward(self, x):
            z = x.square().sum((1, 2, 3))
            return torch.stack([z, -z], 1)

    x = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    result = judge.average_case(Quadratic(), x, radius=0.2, samples=400, generator=seeded(1))
    draws = 0.4 * torch.rand(20_000, 64, generator=seeded(2), dtype=torch.float64) - 0.2
    expected = 2 * draws.norm(dim=1).mean()
    torch.testing.assert_close(result.value, expected.expand(2), rtol=0.01, atol=0)
    torch.testing.assert_close(result.relative, result.value / 8)  # |2x| = sqrt(64)
    again = judge.average_case(Quadratic(), x, radius=0.2, samples=400, generator=seeded(1))
    assert torch.equal(result.value, again.value)


def test_gamma_free_is_at_most_gamma_fixed_and_both_beat_chance(net, x):
    options = {"eps": 0.1, "steps": 30}
    free, fixed = judge.max_min(net, x, **options), judge.min_max(net, x, **options)
    assert (free.value <= fixed.value + 1e-9).all()
    clean = explain.gradient(net, x)
    target = net(x).argmax(1)
    chance = torch.zeros(len(x), dtype=x.dtype)
    for draw in range(50):
        shift = 0.2 * torch.rand(x.shape, generator=seeded(draw), dtype=x.dtype) - 0.1
        maps = explain.gradient(net, (x + shift).clamp(0, 1), target).flatten(1)
        unit = clean.flatten(1) / clean.flatten(1).norm(dim=1, keepdim=True)
        along = (maps * unit).sum(1, keepdim=True).clamp_min(0)
        chance = torch.maximum(chance, (maps - along * unit).norm(dim=1))
    assert (free.value > chance).all()
    torch.testing.assert_close(free.relative, free.value / clean.flatten(1).norm(dim=1))


def test_max_min_counts_a_reversed_map_in_full():
    clean = torch.tensor([[[[3.0, 4.0]]]], dtype=torch.float64)
    assert stability._residual(-2 * clean, clean, None).item() == 10
    assert stability._residual(7 * clean, clean, None).item() == pytest.approx(0)


def test_both_scale_with_the_logits(net, x):
    class Scaled(nn.Module):
        def forward(self, z):
            return 3 * net(z)

    for measure in (judge.max_min, judge.min_max):
        one, three = measure(net, x, eps=0.05, steps=10), measure(Scaled(), x, eps=0.05, steps=10)
        torch.testing.assert_close(three.value, 3 * one.value)
        torch.testing.assert_close(three.relative, one.relative)


def test_best_gamma_equals_scipys():
    pool = torch.randn(5, 3, 1, 2, 2, generator=seeded(4), dtype=torch.float64)
    clean = pool[0]
    gamma, value = stability.best_gamma(pool, clean)
    for i in range(3):

        def largest(g, i=i):
            return max((maps[i] - g * clean[i]).norm().item() for maps in pool)

        best = minimize_scalar(largest, bounds=(0, 10), method="bounded", options={"xatol": 1e-10})
        assert value[i].item() == pytest.approx(best.fun, rel=1e-6)
        assert gamma[i].item() == pytest.approx(best.x, abs=1e-4)


def test_the_worst_case_of_a_relu_net_is_found_through_its_softplus_copy(x):
    relu = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=None, generator=seeded(2)).eval()
    options = {"eps": 0.1, "steps": 5}
    with pytest.warns(UserWarning, match="second-order"):
        alone = judge.max_min(relu, x.float(), **options)
    guided = judge.max_min(relu, x.float(), surrogate=nets.with_softplus(relu, 10), **options)
    assert (guided.value > alone.value).all()
