"""Attacks without slopes, or with one shift for all images: in the ball, labels kept, and better than luck."""

import pytest
import torch
from conftest import curved, seeded
from scipy.stats import spearmanr
from torch import nn

from atexlib import attack, explain, nets

NET = curved()
X = torch.rand(6, 1, 8, 8, generator=seeded(3), dtype=torch.float64)
EPS = 0.1


def scores(net, z, x, objective=None):
    """The objective's value at z, computed here."""
    target = net(x).argmax(1)
    clean, changed = (explain.gradient(net, images, target) for images in (x, z))
    return (objective or attack.Distance())(clean)(changed)


@pytest.mark.parametrize("objective", [attack.Distance(), attack.Untargeted(k=5), attack.RankDistance()])
def test_random_search_keeps_ball_bounds_and_label_and_gains(objective):
    z = attack.random_search(NET, X, objective, eps=EPS, queries=60)
    assert ((z - X).abs() <= EPS).all()
    assert z.min() >= 0
    assert z.max() <= 1
    assert torch.equal(NET(z).argmax(1), NET(X).argmax(1))
    clean = scores(NET, X, X, objective)
    gained = scores(NET, z, X, objective)
    assert (gained >= clean - 1e-9).all()
    assert (gained > clean + 1e-3).all()


def test_more_queries_never_leave_less_and_a_seed_gives_the_same_images():
    made = [attack.random_search(NET, X, attack.Distance(), eps=EPS, queries=q, generator=seeded(1)) for q in (5, 80)]
    again = attack.random_search(NET, X, attack.Distance(), eps=EPS, queries=80, generator=seeded(1))
    assert torch.equal(made[1], again)
    assert scores(NET, made[1], X).mean() > scores(NET, made[0], X).mean()


def test_random_search_moves_maps_that_have_no_slope():
    net = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=None, generator=seeded(2)).double().eval()
    with pytest.warns(UserWarning, match="took no step"):
        blind = attack.manipulate(net, X, attack.Distance(), eps=EPS, steps=5)
    assert blind.unchanged.all()
    z = attack.random_search(net, X, attack.Distance(), eps=EPS, queries=60)
    assert (scores(net, z, X) > 0.01).all()


def test_one_shift_moves_the_maps_of_images_that_it_was_not_fitted_on():
    fitted, others = X[:3], X[3:]
    shift = attack.universal(NET, fitted, attack.Distance(), eps=EPS, steps=40)
    assert shift.shape == (1, 1, 8, 8)
    assert (shift.abs() <= EPS).all()
    moved = scores(NET, (others + shift).clamp(0, 1), others).mean()
    luck = []
    for seed in range(8):
        corner = EPS * torch.randn(1, 1, 8, 8, generator=seeded(seed), dtype=torch.float64).sign()
        luck.append(scores(NET, (others + corner).clamp(0, 1), others).mean())
    assert moved > torch.stack(luck).mean()
    again = attack.universal(NET, fitted, attack.Distance(), eps=EPS, steps=40)
    assert torch.equal(shift, again)


def test_soft_ranks_are_nearly_spearmans():
    a, b = torch.rand(2, 5, 1, 12, 12, generator=seeded(), dtype=torch.float64)
    b = 0.6 * a + 0.4 * b
    soft = 1 - attack.RankDistance()(a)(b)
    known = [spearmanr(p.flatten(), q.flatten()).statistic for p, q in zip(a, b, strict=True)]
    assert torch.allclose(soft, torch.tensor(known), atol=0.03)
    assert torch.allclose(attack.RankDistance()(a)(a.exp() ** 4), torch.zeros(5, dtype=torch.float64), atol=0.02)


def test_soft_ranks_of_a_constant_map_are_finite_and_have_finite_slopes():
    maps = torch.ones(2, 1, 6, 6, requires_grad=True)
    score = attack.RankDistance()(torch.rand(2, 1, 6, 6, generator=seeded()))(maps)
    slope = torch.autograd.grad(score.sum(), maps)[0]
    assert score.isfinite().all()
    assert slope.isfinite().all()


class Undecided(nn.Module):
    """A net that all but ties two classes on one image."""

    def __init__(self, x):
        super().__init__()
        self.net = curved()
        logits = self.net(x).detach()
        first, second = logits[0].topk(2).indices
        self.register_buffer("lift", torch.zeros_like(logits[0]))
        self.lift[second] = logits[0, first] - logits[0, second] - 1e-3

    def forward(self, x):
        return self.net(x) + self.lift


def test_no_trial_that_loses_the_label_is_kept():
    net = Undecided(X[:1]).eval()
    for objective in (attack.Distance(), attack.Untargeted(k=5)):
        for seed in range(3):
            options = {"eps": EPS, "queries": 60, "generator": seeded(seed)}
            z = attack.random_search(net, X[:1], objective, **options)
            assert torch.equal(net(z).argmax(1), net(X[:1]).argmax(1))
