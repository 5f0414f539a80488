"""Canvases: every pixel of the images is there, in the right half."""

import pytest
import torch
from conftest import seeded
from hypothesis import given
from hypothesis import strategies as st

from atexlib import data


@given(st.integers(1, 12), st.integers(1, 12), st.integers(12, 20))
def test_padding_keeps_the_image_in_the_middle(height, width, side):
    x = torch.rand(2, 3, height, width, generator=seeded(), dtype=torch.float64) + 0.5
    found = data.padded(x, side)
    assert found.shape == (2, 3, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    assert torch.equal(found[:, :, top : top + height, left : left + width], x)
    assert found.sum().item() == pytest.approx(x.sum().item())


def test_single_objects_lie_left_or_right():
    x = torch.rand(40, 1, 6, 6, generator=seeded()) + 0.1
    found = data.singles(x, generator=seeded(1))
    left, right = found.split(6, dim=3)
    is_left = (left == x).flatten(1).all(1)
    is_right = (right == x).flatten(1).all(1)
    assert (is_left ^ is_right).all()
    assert 10 < is_left.sum() < 30
    assert right[is_left].sum() == left[is_right].sum() == 0
    assert torch.equal(found, data.singles(x, generator=seeded(1)))


def test_pairs_hold_both_classes_by_turns():
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 0])
    x = labels.float().view(-1, 1, 1, 1) + 0.01 * torch.arange(7).view(-1, 1, 1, 1) + torch.zeros(7, 1, 2, 2)
    found = data.pairs(x, labels, (2, 0))
    # Images 2 and 5 are of class 2, images 0 and 4 the first two of class 0.
    expected = torch.tensor([[2.02, 2.02, 0, 0], [0.04, 0.04, 2.05, 2.05]])
    torch.testing.assert_close(found[:, 0, 0], expected)


def test_wrong_arguments_are_named():
    x, labels = torch.rand(3, 1, 6, 6), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match="side=6"):
        data.padded(x, 5)
    with pytest.raises(ValueError, match="two different"):
        data.pairs(x, labels, (1, 1))
    with pytest.raises(ValueError, match="not both"):
        data.pairs(x, labels, (1, 7))
