"""ATEX: each term of its loss against a closed form, and what it is for."""

import sys

import pytest
import torch
from conftest import FEW, FORTY, flat, seeded
from torch import nn

from atexlib import defend, explain, nets
from atexlib.defend.atex import DIRECTIONS

X, Y = FORTY


def test_distillation_is_the_divergence_of_the_softened_predictions():
    logits, wanted = (torch.randn(6, 5, generator=seeded(i), dtype=torch.float64) for i in range(2))
    p, q = (torch.distributions.Categorical(logits=values / 3) for values in (wanted, logits))
    expected = 9 * torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(defend.distillation(logits, wanted, temperature=3.0), expected)


def test_atex_without_its_second_term_has_nothing_to_learn(base):
    same = defend.atex(base, FORTY, alpha=0.0, eps=0.1, epochs=1, batch_size=40, lr=1e-6).model
    torch.testing.assert_close(flat(same), flat(base), atol=2e-6, rtol=0)


def test_atex_needs_no_second_derivative(base):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, slope):
            return slope

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = base

        def forward(self, x):
            return self.net(Once.apply(x))

    for directions in DIRECTIONS:
        defend.atex(Wrapped(), FORTY, directions=directions, **FEW)
    with pytest.raises(ValueError, match="differentiated once only"):
        defend.naive(Wrapped(), FORTY, **FEW)


def test_maps_that_are_handed_in_are_not_computed_again(base, monkeypatch):
    maps = defend.smooth_maps(base, X, sigma=0.1)
    room = sys.modules[defend.atex.__module__]
    monkeypatch.setattr(room, "smooth_maps", lambda *_, **__: pytest.fail("the maps were computed again"))
    given, again, other = (flat(defend.atex(base, FORTY, maps=m, **FEW).model) for m in (maps, maps, maps.flip(0)))
    assert torch.equal(given, again)
    assert not torch.equal(given, other)


def test_smooth_maps_do_not_depend_on_the_batch(base):
    whole, parts = (defend.smooth_maps(base, X, sigma=0.1, batch_size=size) for size in (40, 7))
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(whole, explain.smoothgrad(base, X, samples=10, sigma=0.1))


def test_the_climbing_directions_defend_what_random_ones_do_not_see(base):
    """After training, the prediction drifts less at orthogonal samples that climb."""
    maps = defend.smooth_maps(base, X, sigma=0.1)

    def drift(net):
        def loss(z):
            return defend.distillation(net(z), base(X).detach(), temperature=1.0)

        with nets.frozen(net):
            z = defend.orthogonal_ascent(loss, X, maps, radius=0.2, steps=5, generator=seeded(7))
            return loss(z).mean().item()

    options = {"eps": 0.2, "epochs": 30, "batch_size": 20, "maps": maps, "lr": 3e-3, "temperature": 1.0}
    ascent = defend.atex(base, FORTY, directions="ascent", **options).model
    assert drift(ascent) < 0.7 * drift(base)
