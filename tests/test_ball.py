"""The ball that an attack may search."""

import pytest
import torch
from conftest import curved, seeded

from atexlib import attack
from atexlib.attack import Ball


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_ball(x, norm):
    ball = Ball(x, 0.3, norm, (0.0, 1.0))
    far = ball.project(x + torch.randn(x.shape, generator=seeded(), dtype=x.dtype))
    near = x + 0.01 * (0.5 - x)
    torch.testing.assert_close(ball.project(near), near)
    torch.testing.assert_close(ball.project(far), far)
    length = {"linf": (far - x).abs().amax((1, 2, 3)), "l2": (far - x).flatten(1).norm(dim=1)}[norm]
    assert (length <= 0.3).all()
    assert length.max() > 0.29 or norm == "l2"
    slope = torch.randn(x.shape, generator=seeded(2), dtype=x.dtype)
    steepest = ball.steepest(slope).flatten(1)
    dual = {"linf": slope.abs().sum((1, 2, 3)), "l2": slope.flatten(1).norm(dim=1)}[norm]
    torch.testing.assert_close((steepest * slope.flatten(1)).sum(1), dual)


def test_images_a_rounding_step_outside_the_bounds_are_taken_as_inside():
    """Undoing a normalisation leaves such pixels; what comes out lies inside."""
    x = torch.rand(2, 1, 8, 8, generator=seeded(3))
    x[0, 0, 0, 0], x[1, 0, 0, 0] = -2.98e-8, 1 + 1.2e-7
    net = curved().float()
    found = attack.manipulate(net, x, attack.Distance(), eps=0.1, steps=1)
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    x[0, 0, 0, 0] = -1e-5
    with pytest.raises(ValueError, match=r"x\.clamp\(0, 1\) brings it back"):
        attack.manipulate(net, x, attack.Distance(), eps=0.1, steps=1)


def test_grey_levels_are_the_nearest_ones_inside_the_ball(x):
    """Against a search among all sixteen levels, pixel by pixel."""
    ball = Ball(x, 0.1, "linf", (0.0, 1.0), levels=16)
    wanted = x + torch.randn(x.shape, generator=seeded(), dtype=x.dtype)
    found = ball.project(wanted)
    levels = torch.arange(16, dtype=x.dtype) / 15
    inside = (levels - x[..., None]).abs() <= 0.1
    aim = Ball(x, 0.1, "linf", (0.0, 1.0)).project(wanted)
    gaps = (levels - aim[..., None]).abs().masked_fill(~inside, 9)
    torch.testing.assert_close((found - aim).abs(), gaps.amin(-1))
    assert torch.equal(ball.project(found), found)


def test_a_pixel_without_a_level_in_reach_stays(x):
    assert torch.equal(Ball(0.4 + 0.2 * x, 0.1, "linf", (0.0, 1.0), levels=2).project(x), 0.4 + 0.2 * x)


@pytest.mark.parametrize("levels", [None, 16])
def test_what_is_held_stays(x, levels):
    where = x > 0.5
    found = Ball(x, 0.1, "linf", (0.0, 1.0), where, levels).corner(seeded())
    assert torch.equal(found[~where], x[~where])
    assert (found[where] != x[where]).any()
    slope = torch.randn(x.shape, generator=seeded(3), dtype=x.dtype)
    ball = Ball(x, 0.1, "linf", (0.0, 1.0), where)
    torch.testing.assert_close(ball.reach(slope), 0.1 * (slope.abs() * where).sum((1, 2, 3)))
