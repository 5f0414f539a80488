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
