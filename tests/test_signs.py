"""Signs of manipulation: each against a case whose answer is known, and each raised by a liar."""

import functools

import pytest
import torch
from conftest import curved, seeded
from torch import nn

from atexlib import attack, explain, judge
from atexlib.judge import signs
from atexlib.judge.signs import faith

X = torch.rand(8, 1, 8, 8, generator=seeded(3), dtype=torch.float64)
NET = curved()


def scored(name, net=NET, explainer=explain.gradient, images=X):
    accused = signs.Accused(net, images)
    asked = accused if signs.SIGNS[name].of_net else signs.Suspect(accused, "mine", explainer)
    return signs.SIGNS[name].score(asked)


def picture(model, x, target=None, *, create_graph=False):
    return torch.eye(8, dtype=x.dtype).expand(len(x), 1, 8, 8)


def test_a_smooth_net_follows_its_slopes_and_no_decorated_one_does():
    assert scored("differences") < 1e-4
    for style in attack.STYLES:
        assert scored("differences", attack.Decorated(NET, style)) > 0.1, style


def test_the_error_of_a_finite_step_is_no_sign(monkeypatch):
    monkeypatch.setattr(faith, "STEP", 0.001)  # so long that the smooth net bends on the way
    assert scored("differences") == 0
    monkeypatch.setattr(faith, "EXACT", 0.0)
    assert 1e-9 < scored("differences") < 1e-3


def test_the_sign_of_differences_grows_with_the_decoration():
    found = [scored("differences", attack.Decorated(NET, "constant", mix=mix)) for mix in (0.0, 0.5, 1.0)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(0, abs=1e-4)


def test_one_picture_for_all_images_is_quite_the_same_and_disjoint_ones_are_not():
    assert scored("sameness", explainer=picture) == pytest.approx(1)

    def own_pixel(model, x, target=None, *, create_graph=False):
        return torch.eye(64, dtype=x.dtype)[: len(x)].view(-1, 1, 8, 8)

    assert scored("sameness", explainer=own_pixel) == pytest.approx(0)


class Bright(nn.Module):
    """Two logits that know nothing but the mean of the upper half."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        upper = 8 * self.weight * x[:, :, :4].mean((1, 2, 3))
        return torch.stack([upper, 5 - upper], 1)


def rows(top):
    def mark(model, x, target=None, *, create_graph=False):
        maps = torch.zeros_like(x)
        maps[:, :, :4] = top
        maps[:, :, 4:] = 1 - top
        return maps

    return mark


def test_a_map_of_what_the_net_does_not_read_deletes_worse_than_one_of_what_it_reads():
    assert scored("deletion", Bright(), rows(0.0)) > scored("deletion", Bright(), rows(1.0)) + 0.2


def test_the_share_on_idle_pixels_is_counted_exactly():
    images = X.clone()
    images[:, :, :2] = 0.5  # a quarter of the pixels never change

    def mark(model, x, target=None, *, create_graph=False):
        maps = torch.zeros_like(x)
        maps[:, :, 0, :4] = 1
        maps[:, :, 5, :4] = 1
        return maps

    assert scored("idle", explainer=mark, images=images) == pytest.approx(0.5)


def test_what_lies_in_the_images_own_plane_is_not_off_the_manifold():
    generator = seeded(9)
    axes = torch.linalg.qr(torch.randn(64, 3, generator=generator, dtype=torch.float64)).Q
    images = (0.5 + (torch.rand(40, 3, generator=generator, dtype=torch.float64) - 0.5) @ axes.T / 4).view(-1, 1, 8, 8)
    inside, outside = axes[:, 0], torch.linalg.qr(torch.cat([axes, torch.ones(64, 1).double()], 1)).Q[:, 3]

    def along(direction):
        def explainer(model, x, target=None, *, create_graph=False):
            return direction.view(1, 1, 8, 8).expand(len(x), -1, -1, -1)

        return explainer

    assert scored("manifold", explainer=along(inside), images=images) == pytest.approx(0, abs=1e-6)
    assert scored("manifold", explainer=along(outside), images=images) == pytest.approx(1, abs=1e-6)
    assert scored("manifold", explainer=along(inside + outside), images=images) == pytest.approx(0.5, abs=1e-6)


def test_a_map_that_a_patch_turns_is_noticed_and_a_steady_one_is_not():
    def triggered(model, x, target=None, *, create_graph=False):
        on = (x[:, :, -1, -1] == x[:, :, -1, -1].round()).view(-1, 1, 1, 1)
        return torch.where(on, x.flip(3), x)

    assert scored("patches", explainer=picture) == pytest.approx(0)
    assert scored("unsteadiness", explainer=picture) == pytest.approx(0)
    assert scored("retraining", explainer=picture) == pytest.approx(0)
    assert scored("patches", explainer=triggered) > 0.2


def test_a_layer_of_rank_one_is_ruled_by_one_direction():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4, dtype=torch.float64))
    with torch.no_grad():
        net[1].weight.copy_(torch.outer(torch.arange(1.0, 5), torch.arange(64.0)))
    assert scored("layers", net) == pytest.approx(1)
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(4, 64))
    assert scored("layers", net) == pytest.approx(0.25)


def test_steepness_is_a_logarithm_of_slopes_in_units_of_the_logits():
    steep, flat = (scored("steepness", nn.Sequential(NET, Times(factor))) for factor in (7.0, 1.0))
    assert steep == pytest.approx(flat)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_every_sign_is_asked_once_and_leaves_the_net_as_it_was():
    layer = {"gradient": explain.gradient, "lrp of a layer": functools.partial(explain.lrp, layer="conv1")}
    before = [weight.clone() for weight in NET.parameters()]
    found = judge.suspicion(NET, X, explainers=layer)
    assert list(found) == ["net", *layer]
    assert sorted([*found["net"], *found["gradient"]]) == sorted(signs.SIGNS)
    assert found == judge.suspicion(NET, X, explainers=layer)
    assert all(torch.equal(a, b) for a, b in zip(before, NET.parameters(), strict=True))
    assert all(value == value for row in found.values() for value in row.values())
