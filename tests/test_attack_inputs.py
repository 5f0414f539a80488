import copy
import dataclasses
import functools

import pytest
import torch
from conftest import objective_of, seeded
from torch import nn
from torchvision.models import VisionTransformer

from atexlib import attack, explain, nets
from atexlib.attack import manipulate

EPS = {"linf": 0.1, "l2": 0.5}


def verify(model, x, result, *, eps, norm, tolerance=None, bounds=(0, 1)):
    """The constraints, checked from scratch: nothing here is shared with the attack."""
    with torch.no_grad():
        before, after = model(x), model(result.x)
    shift = (result.x.double() - x.double()).reshape(len(x), -1).numpy()
    size = abs(shift).max(1) if norm == "linf" else (shift**2).sum(1) ** 0.5
    assert (size <= eps).all()
    assert result.x.min() >= bounds[0]
    assert result.x.max() <= bounds[1]
    assert torch.equal(before.argmax(1), after.argmax(1))
    rows = torch.arange(len(x))
    labels = before.argmax(1)
    probability = (after.softmax(1) - before.softmax(1))[rows, labels].abs()
    if tolerance is not None:
        assert (probability <= tolerance).all()
    torch.testing.assert_close(result.prediction_shift, probability)
    torch.testing.assert_close(result.logit_shift, (after - before)[rows, labels].abs())
    torch.testing.assert_close(result.distance, torch.from_numpy(size).to(x.dtype))
    assert torch.equal(result.target, labels)
    assert result.label_kept.all()
    assert torch.equal(result.unchanged, torch.from_numpy((shift == 0).all(1)))
    assert (result.score >= result.clean_score).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("tolerance", [None, 0.02])
def test_every_objective_keeps_every_constraint(net, x, objective, norm, tolerance):
    options = {"eps": EPS[norm], "norm": norm}
    result = manipulate(net, x, objective, **options, steps=15, starts=2, prediction_tolerance=tolerance)
    verify(net, x, result, **options, tolerance=tolerance)
    assert (~result.unchanged).sum() >= 5
    assert (result.score > result.clean_score)[~result.unchanged].all()


def test_every_explainer_can_be_manipulated(net, x, explainer):
    result = manipulate(net, x, attack.Distance(), eps=0.1, explainer=explainer, steps=10)
    verify(net, x, result, eps=0.1, norm="linf")
    assert (result.score > result.clean_score + 0.001).all()
    torch.testing.assert_close(result.map, explainer(net, result.x, result.target))
    torch.testing.assert_close(result.clean_map, explainer(net, x, result.target))
    torch.testing.assert_close(result.score, attack.Distance()(result.clean_map)(result.map))


def test_constraints_hold_in_float32_at_every_size(x, objective):
    net = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2)).eval()
    for eps in (1e-5, 1e-3, 0.3):
        for norm in ("linf", "l2"):
            result = manipulate(net, x.float(), objective, eps=eps, norm=norm, steps=4)
            verify(net, x.float(), result, eps=eps, norm=norm)


def test_a_tight_tolerance_binds(net, x):
    loose = manipulate(net, x, attack.Distance(), eps=0.2, steps=30)
    tight = manipulate(net, x, attack.Distance(), eps=0.2, steps=30, prediction_tolerance=0.003)
    assert loose.prediction_shift.max() > 0.02
    assert tight.prediction_shift.max() <= 0.003
    assert (tight.score > tight.clean_score).any()
    none = manipulate(net, x, attack.Distance(), eps=0.2, steps=5, prediction_tolerance=0.0)
    assert none.unchanged.all()


def plain_sign_ascent(model, x, objective, *, eps, steps, step):
    """The textbook attack: constant signed steps, projection, the best iterate that keeps the label."""
    target = model(x).argmax(1)
    score = objective(explain.gradient(model, x, target))
    z, best = x.clone(), score(explain.gradient(model, x, target))
    for _ in range(steps):
        z = z.detach().requires_grad_()
        value = score(explain.gradient(model, z, target, create_graph=True))
        slope = torch.autograd.grad(value.sum(), z)[0]
        z = (x + (z + step * slope.sign() - x).clamp(-eps, eps)).clamp(0, 1).detach()
        value = score(explain.gradient(model, z, target))
        better = (model(z).argmax(1) == target) & (value > best)
        best = torch.where(better, value, best)
    return best


@pytest.mark.parametrize("name", ["untargeted", "targeted", "target_map"])
@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_at_least_as_strong_as_plain_sign_ascent(net, name, eps):
    x = torch.rand(64, 1, 8, 8, generator=seeded(6), dtype=torch.float64)
    objective = objective_of(name, x)
    result = manipulate(net, x, objective, eps=eps, steps=30)
    for step in (eps / 10, eps / 4):
        plain = plain_sign_ascent(net, x, objective, eps=eps, steps=30, step=step)
        assert result.score.mean() >= plain.mean() - 1e-3


def test_finds_the_best_corner_of_a_tiny_problem():
    """Two pixels and a quadratic net: the best map in the ball is found by trying a fine grid."""

    class Quadratic(nn.Module):
        def forward(self, x):
            a, b = x[:, 0, 0, 0], x[:, 0, 0, 1]
            return torch.stack([a * a * b + a + b + 5, 0 * a], 1)  # gradient (2ab + 1, a^2 + 1)

    x = torch.tensor([[[[0.6, 0.5]]]], dtype=torch.float64)
    result = manipulate(Quadratic(), x, attack.Untargeted(k=1), eps=0.2, steps=50)
    grid = torch.linspace(-0.2, 0.2, 401, dtype=torch.float64)
    a, b = 0.6 + grid.view(-1, 1), 0.5 + grid.view(1, -1)
    share = (2 * a * b + 1) / (2 * a * b + 1 + a * a + 1)
    assert result.score.item() == pytest.approx(-share.min().item(), abs=1e-4)


def test_the_first_start_is_x_and_more_starts_never_hurt(net, x, objective):
    one = manipulate(net, x, objective, eps=0.1, steps=6)
    three = manipulate(net, x, objective, eps=0.1, steps=6, starts=3)
    assert (three.score >= one.score - 1e-12).all()
    assert (three.score > one.score).any()


def test_the_same_seed_gives_the_same_numbers(net, x):
    runs = [
        manipulate(net, x, attack.Distance(), eps=0.1, steps=5, starts=2, generator=seeded(seed)).x
        for seed in (3, 3, 4)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def relu_net():
    return nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=None, generator=seeded(2)).double().eval()


def test_a_relu_net_is_not_attacked_in_silence(x):
    with pytest.warns(UserWarning, match="with_softplus") as record:
        result = manipulate(relu_net(), x, attack.Untargeted(k=10), eps=0.2, steps=5, starts=1)
    assert len(record) == 1
    assert record[0].filename == __file__
    assert result.unchanged.all()
    assert torch.equal(result.x, x)


@pytest.mark.filterwarnings("error")
def test_a_surrogate_attacks_a_relu_net(x, objective):
    net = relu_net()
    result = manipulate(net, x, objective, eps=0.3, steps=20, surrogate=nets.with_softplus(net, 5.0))
    verify(net, x, result, eps=0.3, norm="linf")
    assert (result.score > result.clean_score).sum() >= 3
    torch.testing.assert_close(result.map, explain.gradient(net, result.x, result.target))


def test_a_surrogate_whose_probabilities_differ_still_guides(net, x):
    """At x the surrogate's probability is farther from the model's than the tolerance: no reason to chase that gap."""

    class Sharper(nn.Module):
        def forward(self, z):
            return 8 * net(z)

    with torch.no_grad():
        gap = (Sharper()(x).softmax(1).amax(1) - net(x).softmax(1).amax(1)).abs()
    options = {"eps": 0.1, "steps": 15, "prediction_tolerance": 0.01}
    assert (gap > 0.01).all()
    own = manipulate(net, x, attack.Distance(), **options)
    guided = manipulate(net, x, attack.Distance(), surrogate=Sharper(), **options)
    verify(net, x, guided, eps=0.1, norm="linf", tolerance=0.01)
    assert guided.score.mean() > 0.5 * own.score.mean()


@pytest.mark.filterwarnings("ignore:The attack took")
def test_a_linear_net_cannot_be_attacked(x):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    result = manipulate(net, x, attack.Distance(), eps=0.5, steps=5, starts=3)
    assert result.unchanged.all()


def test_one_image_that_cannot_be_attacked_does_not_stop_the_others(net, x):
    class Half(nn.Module):
        """Linear where the first pixel is dark, curved elsewhere."""

        def forward(self, z):
            gate = (z[:, :1, 0, 0] > 0.5).to(z.dtype)
            return gate * net(z) + (1 - gate) * z.flatten(1)[:, 3:7]

    x = x.clone()
    x[:, 0, 0, 0] = torch.tensor([0.0, 0, 0, 1, 1, 1])
    result = manipulate(Half(), x, attack.Distance(), eps=0.2, steps=5)
    assert result.unchanged.tolist() == [True] * 3 + [False] * 3


def test_the_model_comes_back_as_it_was(net, x):
    net.train()
    before = copy.deepcopy(net.state_dict())
    manipulate(net, x, attack.Distance(), eps=0.1, steps=2)
    assert net.training
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not net._forward_hooks


def test_a_step_costs_one_map_and_its_derivative(net, x):
    """Per step the net runs forward once; only the checks before and after the ascent come on top."""
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    manipulate(net, x, attack.Distance(), eps=0.1, steps=10)
    short = len(calls)
    calls.clear()
    manipulate(net, x, attack.Distance(), eps=0.1, steps=25)
    assert len(calls) - short == 15


def test_rgb_and_options_of_an_explainer(x):
    net = nets.ConvNet(channels=3, side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2)).double()
    x = torch.rand(4, 3, 8, 8, generator=seeded(1), dtype=torch.float64)
    explainer = functools.partial(explain.smoothgrad, samples=3)
    result = manipulate(net, x, attack.Targeted.random_region(x, 3), eps=0.1, explainer=explainer, steps=5)
    verify(net.eval(), x, result, eps=0.1, norm="linf")


def test_attention_has_second_derivatives_here():
    torch.manual_seed(0)
    net = VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4
    ).eval()
    nn.init.normal_(net.heads.head.weight)  # torchvision starts it at zero
    x = torch.rand(2, 3, 16, 16, generator=seeded(1))
    result = manipulate(net, x, attack.Distance(), eps=0.1, steps=5)
    verify(net, x, result, eps=0.1, norm="linf")
    assert (result.score > 0).all()


def test_nothing_changes_where_gradients_are_switched_off(net, x):
    options = {"eps": 0.1, "steps": 3, "starts": 1}
    on = manipulate(net, x, attack.Distance(), **options)
    with torch.no_grad():
        off = manipulate(net, x, attack.Distance(), **options)
    assert torch.equal(on.x, off.x)


def test_what_was_moved_to_the_bounds_is_inside_them(net, x):
    bounds = (0.0, 0.1)  # float32's 0.1 lies above 0.1
    low = (0.1 * x.float()).clamp(*bounds)
    low[:, :, 0, 0] = 0.1
    net = copy.deepcopy(net).float()
    verify(net, low, manipulate(net, low, attack.Distance(), eps=0.02, steps=2, bounds=bounds), eps=0.02,
           norm="linf", bounds=(0, 0.1 + 1e-8))  # fmt: skip


def is_flat(net, x, objective):
    """Whether the objective has no slope at the clean images, as a distance from their maps has none."""
    z = x.clone().requires_grad_()
    maps = explain.gradient(net, z, net(x).argmax(1), create_graph=True)
    return torch.autograd.grad(objective(maps.detach())(maps).sum(), z)[0].abs().max() < 1e-9


TENSORS = [field.name for field in dataclasses.fields(attack.Manipulation) if field.name != "effort"]


def assert_alike(found, expected):
    for name in TENSORS:
        a, b = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    assert (found.effort.stepped, found.effort.images) == (expected.effort.stepped, expected.effort.images)


@pytest.mark.parametrize("size", [1, 4, 6, 10])
def test_batches_change_no_image(net, x, objective, size):
    """In batches: what an attack on each part gives, one after the other; and what the whole gives, pushes aside."""
    options = {"eps": 0.1, "steps": 6, "progress": False}
    found = manipulate(net, x, objective, batch_size=size, **options)
    generator = seeded()
    parts = [
        manipulate(net, x[rows], attack.of_rows(objective, rows), generator=generator, **options)
        for rows in torch.arange(len(x)).split(size)
    ]
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in TENSORS}
    assert_alike(found, attack.Manipulation(**joined, effort=attack.Effort.of([part.effort for part in parts])))
    if not is_flat(net, x, objective) or size >= len(x):
        assert_alike(found, manipulate(net, x, objective, **options))


def test_an_instance_for_some_rows_scores_them_alike(x, objective):
    clean, moved = (torch.randn(x.shape, generator=seeded(i), dtype=x.dtype) for i in (3, 4))
    rows = torch.tensor([4, 1])
    some = attack.of_rows(objective, rows)
    torch.testing.assert_close(some(clean[rows])(moved[rows]), objective(clean)(moved)[rows])


def test_a_batch_bounds_what_is_in_the_net_at_once(net, x):
    sizes = []
    net.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    manipulate(net, x, attack.Untargeted(k=10), eps=0.1, steps=2, batch_size=4)
    assert max(sizes) == 4


def test_an_objective_of_ones_own_gets_the_maps_of_each_batch(net, x):
    seen = []

    def brighter(clean):
        seen.append(clean)
        return lambda maps: maps.abs().sum((1, 2, 3))

    manipulate(net, x, brighter, eps=0.1, steps=1, batch_size=4)
    assert [len(clean) for clean in seen] == [4, 2]
    torch.testing.assert_close(torch.cat(seen), explain.gradient(net, x))


def test_progress_is_shown_only_when_asked_for(net, x, capsys):
    options = {"eps": 0.1, "steps": 2, "batch_size": 4}
    manipulate(net, x, attack.Distance(), **options)
    assert capsys.readouterr() == ("", "")
    manipulate(net, x, attack.Distance(), progress=True, **options)
    assert "manipulating" in capsys.readouterr().err


FLAT = {"distance": attack.Distance(), "center_mass": attack.CenterMass()}


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FLAT)
def test_a_random_push_gets_an_attack_off_the_flat_top(net, x, name, dtype, steps):
    """At the clean map a distance is flat: without a push the first step would follow rounding, or go nowhere."""
    net, x = copy.deepcopy(net).to(dtype), x.to(dtype)
    if dtype == torch.float64:
        assert is_flat(net, x, attack.Distance())
    runs = [manipulate(net, x, FLAT[name], eps=0.1, steps=steps, generator=seeded(seed)) for seed in (3, 3, 4)]
    for run in runs:
        assert not run.unchanged.any()
        assert (run.score > run.clean_score + {"distance": 1e-3, "center_mass": 0.02}[name]).all()
        assert ((run.map - run.clean_map).abs().amax((1, 2, 3)) > 0.01 * run.clean_map.abs().amax((1, 2, 3))).all()
    assert torch.equal(runs[0].x, runs[1].x)
    assert (runs[0].x != runs[2].x).flatten(1).any(1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FLAT)
def test_the_push_does_not_follow_the_rounding_of_the_map(net, x, name, dtype):
    """Another order of summing, as on another machine, gives maps that differ by rounding: the push stays."""
    net, x = copy.deepcopy(net).to(dtype), x.to(dtype)

    def rounded(seed):
        noise = torch.randn(x.shape, generator=seeded(seed), dtype=dtype) * torch.finfo(dtype).eps

        def explainer(model, z, target=None, *, create_graph=False):
            maps = explain.gradient(model, z, target, create_graph=create_graph)
            return maps * (1 + noise[: len(z)]) if create_graph else maps  # the two passes round differently

        return explainer

    def first_step(explainer):
        found = manipulate(net, x, FLAT[name], eps=0.02, steps=1, explainer=explainer, generator=seeded(7))
        assert not found.unchanged.any()
        return (found.x - x).sign()

    steps = [first_step(explainer) for explainer in (explain.gradient, rounded(1), rounded(2))]
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[0], steps[2])


SMOOTH = {
    "maximum": lambda: nets.ConvNet(side=8, width=4, hidden=12, classes=4, generator=seeded(2)),
    "average": lambda: nets.with_pooling(nets.ConvNet(side=8, width=4, hidden=12, classes=4, generator=seeded(3)), 2.0),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 4)),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("tolerance", [0.01, 0.05])
def test_a_larger_ball_never_scores_lower(x, name, tolerance):
    """Steps that look at score and constraint together: those that only come back lose in large balls."""
    torch.manual_seed(0)
    net = SMOOTH[name]().double().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(2)  # so that the tolerance binds
    found = [
        manipulate(net, x, attack.Distance(), eps=eps, steps=40, prediction_tolerance=tolerance)
        for eps in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    ]
    scores = torch.stack([one.score for one in found])
    free = manipulate(net, x, attack.Distance(), eps=0.4, steps=40).score
    assert (scores[:-1].diff(dim=0) > -1e-3).all()
    assert (
        scores.mean(1).diff() > 0
    ).all()  # a ball that spans most of [0, 1] has so many hills that one image may lose
    assert scores[-1].mean() > 0.7 * free.mean()
    assert all(one.prediction_shift.max() <= tolerance for one in found)


def test_slopes_see_the_part_of_a_change_that_is_no_jump():
    """A map that rises by 0.2 and jumps by 0.3 on the way to a corner."""
    x = torch.full((3, 1, 2, 2), 0.5, dtype=torch.float64)

    def explainer(_model, z, _target, *, create_graph=False):
        return 2 * z + 0.3 * (z - 0.5).sign()

    found = attack.slopes(
        nn.Identity(), attack.Ball(x, 0.1, "linf", (0, 1)), torch.zeros(3, dtype=torch.long), explainer, seeded()
    )
    assert found.stepped.all()
    assert found.seen == pytest.approx(0.4, abs=1e-6)


def test_a_held_prediction_costs_little_where_the_map_can_move_along_it():
    """Steps that only come back when the tolerance breaks stay far below those along its border."""
    net = nets.ConvNet(side=8, width=4, hidden=12, classes=4, generator=seeded(2)).double().eval()
    x = torch.rand(6, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(2)
    options = {"eps": 0.1, "steps": 40}
    free = manipulate(net, x, attack.Distance(), **options).score
    held = manipulate(net, x, attack.Distance(), prediction_tolerance=0.005, **options).score
    assert held.mean() > 0.86 * free.mean()
