"""The naive defence: its loss written out, and what it is for."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import FEW, FORTY, flat, seeded
from torch import nn

from atexlib import attack, defend, explain, nets

X, Y = FORTY


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 4)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(4, 64, generator=seeded(8)) / 8)

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_a_linear_net_has_no_maps_to_straighten():
    net, x = Linear().double(), X.double()
    with_maps, without = (
        defend.naive(net, (x, Y), weight=weight, generator=seeded(1), **FEW).model for weight in (100.0, 0.0)
    )
    torch.testing.assert_close(flat(with_maps), flat(without), atol=1e-6, rtol=0)


def test_one_step_of_naive_is_the_loss_written_out(base):
    """Eq. 2 with two neighbours, by hand."""
    by_hand = copy.deepcopy(base).to(memory_format=torch.channels_last)
    generator = seeded(3)
    order = torch.randperm(10, generator=generator)
    x, y = X[:10][order], Y[:10][order]
    noise = torch.rand((20, 1, 8, 8), generator=generator)
    near = (x.repeat(2, 1, 1, 1) + 0.1 * (2 * noise - 1)).clamp(0, 1)
    loss = 2.0 * F.cross_entropy(by_hand(x), y) + 0.5 * F.cross_entropy(by_hand(near), y.repeat(2))
    clean, moved = (explain.gradient(by_hand, z, c, create_graph=True) for z, c in ((x, y), (near, y.repeat(2))))
    a, b = (maps.abs().flatten(1) for maps in (clean.repeat(2, 1, 1, 1), moved))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    correlation = (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)
    (loss + 3.0 * (1 - correlation).mean()).backward()
    torch.optim.Adam(by_hand.parameters(), lr=1e-3).step()
    options = {"eps": 0.1, "epochs": 1, "batch_size": 10, "a1": 2.0, "a2": 0.5, "weight": 3.0, "samples": 2}
    library = defend.naive(base, (X[:10], Y[:10]), generator=seeded(3), **options).model
    apart = (flat(by_hand) - flat(library)).abs() > 1e-4
    assert apart.double().mean() < 0.01  # where a gradient is zero up to rounding, Adam's first step has any sign


def test_naive_training_makes_the_maps_at_neighbours_alike(base):
    near = (X + 0.1 * (2 * torch.rand(X.shape, generator=seeded(6)) - 1)).clamp(0, 1)

    def unlike(net):
        maps = (explain.gradient(net, z, Y) for z in (X, near))
        return attack.Distance()(next(maps))(next(maps)).mean().item()

    defended = defend.naive(base, FORTY, eps=0.1, epochs=20, batch_size=10, weight=10.0).model
    assert unlike(defended) < 0.7 * unlike(base)


def test_ascent_on_a_relu_net_is_said_to_be_no_more_than_chance():
    relu = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=None, generator=seeded(2))
    with pytest.warns(UserWarning, match="no more than 'random'.*with_softplus"):
        defend.naive(relu, FORTY, neighbors="ascent", eps=0.1, epochs=1)
