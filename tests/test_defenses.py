"""Every defence goes through the same tests; then each loss is checked against a closed form."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn

from atexlib import attack, explain, nets
from atexlib.defend import atex, naive, neighbours
from atexlib.nets import ConvNet, training

X = torch.rand(40, 1, 8, 8, generator=seeded(4))
Y = (X.mean((1, 2, 3)) > X.mean()).long() + 2 * (X[:, 0, :4].mean((1, 2)) > X[:, 0, 4:].mean((1, 2))).long()
FEW = {"eps": 0.1, "epochs": 2, "batch_size": 10}
DEFENSES = {
    "naive": lambda net, **o: naive.naive(net, (X, Y), **FEW | o).model,
    "naive, ascent": lambda net, **o: naive.naive(net, (X, Y), neighbors="ascent", samples=2, **FEW | o).model,
    "naive, SmoothGrad": lambda net, **o: naive.naive(net, (X, Y), target_map="smoothgrad", **FEW | o).model,
    "naive, top-k": lambda net, **o: naive.naive(net, (X, Y), distance=attack.Untargeted(k=9), **FEW | o).model,
    "atex": lambda net, **o: atex.atex(net, (X, Y), **FEW | o).model,
    "atex, ascent": lambda net, **o: atex.atex(net, (X, Y), directions="ascent", **FEW | o).model,
    "atex, mixed": lambda net, **o: atex.atex(net, (X, Y), directions="mixed", along_samples=2, **FEW | o).model,
    "atex, printed": lambda net, **o: atex.atex(net, (X, Y), norm="l2", noise="printed", **FEW | o).model,
    "atex, labels": lambda net, **o: (
        atex.atex(net, (X, Y), fidelity=0.0, label_weight=1.0, steps_per_batch=2, **FEW | o).model
    ),
}


@pytest.fixture
def base():
    net = ConvNet(side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2))
    return nets.fit(net, (X, Y), epochs=8, batch_size=10, lr=1e-2).model


@pytest.fixture(params=DEFENSES)
def defend(request):
    return DEFENSES[request.param]


def weights(net):
    return torch.cat([weight.detach().flatten() for weight in net.parameters()])


def test_a_defence_trains_a_copy_and_leaves_its_argument_alone(base, defend):
    before, mode = weights(base).clone(), base.training
    defended = defend(base)
    assert torch.equal(weights(base), before)
    assert base.training == mode
    assert all(weight.requires_grad for weight in defended.parameters())
    assert weights(defended).isfinite().all()
    assert not torch.equal(weights(defended), before)
    assert not defended.training


def test_a_defence_is_a_function_of_its_seed(base, defend):
    first, second, other = (weights(defend(base, generator=seeded(i))) for i in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_defence_keeps_an_epoch_by_validation(base, defend):
    kept = []
    optimise = training.optimise

    def watch(*arguments, **options):
        fitted = optimise(*arguments, **options)
        kept.append(fitted)
        return fitted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atex, "optimise", watch)
        patch.setattr(naive, "optimise", watch)
        defend(base, epochs=3, validation=(X[:20], Y[:20]), lr=0.05)
    (fitted,) = kept
    scores = [entry["score"] for entry in fitted.history]
    assert len(scores) == 3
    assert fitted.best_epoch == 1 + scores.index(max(scores))


def test_distillation_is_the_divergence_of_the_softened_predictions():
    logits, wanted = (torch.randn(6, 5, generator=seeded(i), dtype=torch.float64) for i in range(2))
    p, q = (torch.distributions.Categorical(logits=values / 3) for values in (wanted, logits))
    expected = 9 * torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(atex.distillation(logits, wanted, temperature=3.0), expected)


def test_atex_without_its_second_term_has_nothing_to_learn(base):
    same = atex.atex(base, (X, Y), alpha=0.0, eps=0.1, epochs=1, batch_size=40, lr=1e-6).model
    torch.testing.assert_close(weights(same), weights(base), atol=2e-6, rtol=0)


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

    for directions in atex.DIRECTIONS:
        atex.atex(Wrapped(), (X, Y), directions=directions, **FEW).model
    with pytest.raises(RuntimeError, match="once_differentiable"):
        naive.naive(Wrapped(), (X, Y), **FEW).model


def test_maps_that_are_handed_in_are_not_computed_again(base, monkeypatch):
    maps = atex.smooth_maps(base, X, sigma=0.1)
    monkeypatch.setattr(atex, "smooth_maps", lambda *_, **__: pytest.fail("the maps were computed again"))
    given, again, other = (weights(atex.atex(base, (X, Y), maps=m, **FEW).model) for m in (maps, maps, maps.flip(0)))
    assert torch.equal(given, again)
    assert not torch.equal(given, other)


def test_smooth_maps_do_not_depend_on_the_batch(base):
    whole, parts = (atex.smooth_maps(base, X, sigma=0.1, batch_size=size) for size in (40, 7))
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(whole, explain.smoothgrad(base, X, samples=10, sigma=0.1))


def test_the_climbing_directions_defend_what_random_ones_do_not_see(base):
    """After training, the prediction drifts less at orthogonal samples that climb."""
    maps = atex.smooth_maps(base, X, sigma=0.1)

    def drift(net):
        def loss(z):
            return atex.distillation(net(z), base(X).detach(), temperature=1.0)

        with nets.frozen(net):
            z = neighbours.orthogonal_ascent(loss, X, maps, radius=0.2, steps=5, generator=seeded(7))
            return loss(z).mean().item()

    options = {"eps": 0.2, "epochs": 30, "batch_size": 20, "maps": maps, "lr": 3e-3, "temperature": 1.0}
    ascent = atex.atex(base, (X, Y), directions="ascent", **options).model
    assert drift(ascent) < 0.7 * drift(base)


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
        naive.naive(net, (x, Y), weight=weight, generator=seeded(1), **FEW).model for weight in (100.0, 0.0)
    )
    torch.testing.assert_close(weights(with_maps), weights(without), atol=1e-6, rtol=0)


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
    library = naive.naive(base, (X[:10], Y[:10]), generator=seeded(3), **options).model
    apart = (weights(by_hand) - weights(library)).abs() > 1e-4
    assert apart.double().mean() < 0.01  # where a gradient is zero up to rounding, Adam's first step has any sign


def test_naive_training_makes_the_maps_at_neighbours_alike(base):
    near = (X + 0.1 * (2 * torch.rand(X.shape, generator=seeded(6)) - 1)).clamp(0, 1)

    def unlike(net):
        maps = (explain.gradient(net, z, Y) for z in (X, near))
        return attack.Distance()(next(maps))(next(maps)).mean().item()

    defended = naive.naive(base, (X, Y), eps=0.1, epochs=20, batch_size=10, weight=10.0).model
    assert unlike(defended) < 0.7 * unlike(base)


def test_ascent_on_a_relu_net_is_said_to_be_no_more_than_chance():
    relu = ConvNet(side=8, width=4, hidden=12, classes=4, beta=None, generator=seeded(2))
    with pytest.warns(UserWarning, match="no more than 'random'.*with_softplus"):
        DEFENSES["naive, ascent"](relu, epochs=1)


def test_labels_of_validation_may_be_of_any_whole_type(defend, base):
    first, second = (
        defend(base, epochs=1, validation=(X[:10], labels)).state_dict() for labels in (Y[:10], Y[:10].int())
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
