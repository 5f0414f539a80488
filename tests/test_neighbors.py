"""The samples of the defences, checked by code that did not make them."""

import numpy as np
import pytest
import torch
from conftest import seeded
from hypothesis import given, settings
from hypothesis import strategies as st

from atexlib import defend
from atexlib.defend import neighbors

SHAPES = {"grey": (5, 1, 8, 8), "RGB": (5, 3, 7, 6)}


@pytest.fixture(params=SHAPES, ids=str)
def pair(request):
    """Images and explanations, grey and RGB, in float64."""
    generator = seeded(3)
    shape = SHAPES[request.param]
    return torch.rand(shape, generator=generator).double(), torch.randn(shape, generator=generator).double()


def rows(shift):
    return shift.numpy().reshape(len(shift), -1)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("linf", np.inf)])
def test_samples_along_lie_on_the_line_of_the_explanation(pair, norm, order):
    x, phi = pair
    shift = rows(defend.along(x, phi, radius=0.3, norm=norm, generator=seeded()) - x)
    direction = rows(phi)
    cosine = (shift * direction).sum(1) / np.linalg.norm(shift, axis=1) / np.linalg.norm(direction, axis=1)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-12)
    delta = 0.3 * (2 * torch.rand(len(x), generator=seeded(), dtype=torch.float64).numpy() - 1)
    np.testing.assert_allclose(np.sign(cosine), np.sign(delta))
    np.testing.assert_allclose(np.linalg.norm(shift, order, axis=1), np.abs(delta), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(neighbors.NORMS), st.sampled_from(neighbors.NOISES))
def test_samples_orthogonal_are_orthogonal_and_keep_their_distance_along(seed, norm, noise):
    for shape in SHAPES.values():
        x, phi = (torch.randn(shape, generator=seeded(seed + i), dtype=torch.float64) for i in range(2))
        x_i = defend.along(x, phi, radius=0.4, generator=seeded(seed))
        options = {"radius": 0.4, "norm": norm, "noise": noise}
        x_p = defend.orthogonal(x_i, phi, generator=seeded(seed), **options)
        shift, direction = rows(x_p - x_i), rows(phi)
        unit = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        np.testing.assert_allclose((shift * unit).sum(1), 0, atol=1e-12)
        np.testing.assert_allclose((rows(x_p - x) * unit).sum(1), (rows(x_i - x) * unit).sum(1), atol=1e-12)
        assert (np.abs(shift) > 0).any(axis=1).all()
        if norm == "l2":
            assert (np.linalg.norm(shift, axis=1) <= 0.4).all()


def test_noise_is_drawn_as_it_says():
    x, zero = torch.zeros(400, 1, 8, 8), torch.zeros(400, 1, 8, 8)
    for noise, low in (("symmetric", -0.2), ("printed", 0.0)):
        u = defend.orthogonal(x, zero, radius=0.2, noise=noise, generator=seeded())
        assert u.min() >= low
        assert u.max() <= 0.2
        assert u.mean().item() == pytest.approx((low + 0.2) / 2, abs=0.003)
        assert u.std().item() == pytest.approx((0.2 - low) / 12**0.5, abs=0.003)


def test_the_ascent_climbs_stays_orthogonal_and_within_the_radius(pair):
    x, phi = pair
    weights = torch.randn(x.shape, generator=seeded(9), dtype=torch.float64)

    def loss(z):
        return (z * weights).sum((1, 2, 3))

    climbed = defend.orthogonal_ascent(loss, x, phi, radius=0.1, steps=2, generator=seeded())
    drawn = defend.orthogonal(x, phi, radius=0.1, generator=seeded())
    assert (loss(climbed) > loss(drawn)).all()
    shift = rows(climbed - x)
    np.testing.assert_allclose((shift * rows(phi)).sum(1), 0, atol=1e-12)
    assert np.abs(shift).max() <= 0.1 * (1 + 1e-12)


def test_an_image_without_explanation_stays_on_its_line_and_gets_plain_noise():
    x, zero = torch.rand(3, 1, 4, 4, generator=seeded()), torch.zeros(3, 1, 4, 4)
    assert torch.equal(defend.along(x, zero, radius=0.1), x)
    assert torch.isfinite(defend.orthogonal(x, zero, radius=0.1, norm="l2")).all()


def test_the_same_seed_gives_the_same_samples(pair):
    for sample in (defend.along, defend.orthogonal):
        first, second, other = (sample(*pair, radius=0.1, generator=seeded(i)) for i in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
