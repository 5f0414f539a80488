"""What one map is like: closed forms, plain loops, SciPy."""

import numpy as np
import pytest
import torch
from conftest import seeded
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from atexlib import attack
from atexlib.maps import shape

A, B = (torch.randn((4, 1, 6, 7), generator=seeded(i), dtype=torch.float64) for i in (0, 1))


def test_normalize():
    maps = torch.tensor([[[[-4.0, 1], [2, 1]]], [[[0.0, 0], [0, 0]]]])
    assert shape.normalize(maps)[0].flatten().tolist() == [1, 0.25, 0.5, 0.25]
    assert shape.normalize(maps, by="l1")[0].flatten().tolist() == [0.5, 0.125, 0.25, 0.125]
    assert not shape.normalize(maps)[1].any()


def test_topk_counts_entries_of_all_channels():
    a = torch.zeros(1, 3, 2, 2)
    a[0, 2, 0, 0], a[0, 0, 1, 1] = 2.0, 1.0
    assert shape.topk_mask(a, 2).nonzero().tolist() == [[0, 0, 1, 1], [0, 2, 0, 0]]


def test_center_of_mass_equals_scipys():
    expected = torch.tensor([center_of_mass(m[0].abs().numpy()) for m in A])
    torch.testing.assert_close(shape.center_of_mass(A), expected)
    moved = attack.CenterMass()(A)(B)
    torch.testing.assert_close(moved, (shape.center_of_mass(B) - expected).norm(dim=1))


def test_total_variation_of_simple_maps():
    flat, dot, halves = torch.ones(1, 1, 6, 6), torch.zeros(1, 1, 6, 6), torch.zeros(1, 1, 6, 6)
    dot[0, 0, 2, 3] = -7.0
    halves[0, 0, :, :3] = 1
    found = [shape.total_variation(maps).item() for maps in (flat, dot, halves)]
    assert found == pytest.approx([0, 4, 6 / 18])


@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_total_variation_equals_a_loop_and_knows_no_scale(seed, scale):
    maps = torch.randn(2, 2, 5, 4, generator=seeded(seed), dtype=torch.float64)
    a = maps[0].abs().numpy() / maps[0].abs().sum().item()
    expected = np.abs(np.diff(a, axis=1)).sum() + np.abs(np.diff(a, axis=2)).sum()
    assert shape.total_variation(-scale * maps)[0].item() == pytest.approx(expected)
    assert 0 <= expected <= 4


def test_mass_on_a_mask():
    maps = torch.tensor([[[[1.0, -3.0], [4.0, 2.0]]]])
    assert shape.mass_on(maps, torch.tensor([[[[True, True], [False, False]]]])).item() == pytest.approx(0.4)
