"""The losses of fooling, and the numbers by which an image counts as fooled, in closed form."""

import pytest
import scipy.stats
import torch
from conftest import seeded

from atexlib import attack
from atexlib.attack import fooling_losses
from atexlib.maps import alike


def dot(row, column, side=14):
    maps = torch.zeros(1, 1, side, side)
    maps[0, 0, row, column] = 1
    return maps


def test_the_frame_is_a_seventh_of_the_side_wide():
    mask = fooling_losses.frame(torch.zeros(1, 1, 14, 28))
    assert mask[2:-2, 4:-4].sum() == 0
    assert mask.sum() == 14 * 28 - 10 * 20
    assert fooling_losses.location(mask.expand(2, 1, -1, -1), None).tolist() == [0.0, 0.0]
    assert fooling_losses.location(1 - mask.expand(1, 1, -1, -1), None).item() == 1


def test_topk_looks_at_the_top_tenth_of_the_original():
    original = torch.rand(3, 1, 10, 10, generator=seeded())
    mask = fooling_losses.top_mask(original)
    assert mask.sum((1, 2, 3)).tolist() == [10, 10, 10]
    assert (original[mask].min() > original[~mask].min()).item()
    expected = [h[m].mean() for h, m in zip(original, mask, strict=True)]
    torch.testing.assert_close(fooling_losses.topk(original, original), torch.stack(expected))
    torch.testing.assert_close(fooling_losses.measured_loss("topk", 0.25 * original, original), torch.full((3,), 0.25))
    assert fooling_losses.topk((~mask).float(), original).sum() == 0


def test_center_mass_is_the_way_that_the_centre_went():
    h, original = dot(3, 10), dot(1, 3)
    assert fooling_losses.center_mass(h, original).item() == pytest.approx(-9)
    assert fooling_losses.measured_loss("center_mass", h, original).item() == pytest.approx(9 / 28)


def test_active_is_zero_where_the_two_maps_are_swapped():
    pair = torch.rand(2, 2, 8, 8, generator=seeded())
    assert fooling_losses.active(pair.flip(1), pair).tolist() == [0, 0]
    squares = (pair[:, 0] - pair[:, 1]).square().mean((1, 2))
    torch.testing.assert_close(fooling_losses.active(pair, pair), squares)
    found = attack.judged(pair, pair.flip(1), loss="active")
    assert found["success"].tolist() == [True, True]  # a clean swap
    assert not attack.judged(pair, pair, loss="active")["success"].any()


def test_active_is_judged_by_both_maps():
    original = torch.rand(4, 2, 8, 8, generator=seeded(), dtype=torch.float64)
    h = original.flip(1) + 0.3 * torch.rand(original.shape, generator=seeded(1))
    swapped, own = (
        [alike.spearman(h[:, c : c + 1], original[:, k : k + 1]) for c, k in pairs]
        for pairs in (((0, 1), (1, 0)), ((0, 0), (1, 1)))
    )
    expected = torch.minimum(swapped[0] - own[0], swapped[1] - own[1])
    torch.testing.assert_close(fooling_losses.measured_loss("active", h, original), expected)
    same = original[:, 1:].repeat(1, 2, 1, 1)  # both classes show the second's map: no swap
    assert not attack.judged(original, same, loss="active")["success"].any()


EDGES = {
    "location": lambda h, share: (
        fooling_losses.frame(h) * (1 - (share * h[0].numel() / fooling_losses.frame(h).sum()).sqrt())
    ),
    "topk": lambda h, share: share * h,
}


@pytest.mark.parametrize(
    ("loss", "value", "counts"),
    [("location", 0.19, True), ("location", 0.21, False), ("topk", 0.29, True), ("topk", 0.31, False)],
)
def test_an_image_counts_up_to_the_end_of_the_range(loss, value, counts):
    original = torch.rand(2, 1, 14, 14, generator=seeded())
    h = EDGES[loss](original, torch.tensor(value)).expand_as(original)
    found = attack.judged(original, h, loss=loss)
    torch.testing.assert_close(found["test_loss"], torch.full((2,), value))
    assert found["success"].tolist() == [counts, counts]


@pytest.mark.parametrize(("shift", "counts"), [(2, False), (3, True)])
def test_a_centre_counts_that_moved_by_a_tenth(shift, counts):
    found = attack.judged(dot(5, 4), dot(5, 4 + shift), loss="center_mass")
    assert found["test_loss"].item() == pytest.approx(shift / 28)
    assert found["success"].item() == counts


def test_a_swap_counts_from_a_difference_of_a_tenth():
    original = torch.rand(1, 2, 8, 8, generator=seeded(), dtype=torch.float64)
    outcomes = set()
    for part in torch.linspace(0.4, 0.7, 61):
        h = (1 - part) * original + part * original.flip(1)
        own, other = (
            [scipy.stats.spearmanr(h[0, c].flatten(), o[0, c].flatten()).statistic for c in (0, 1)]
            for o in (original, original.flip(1))
        )
        difference = min(b - a for a, b in zip(own, other, strict=True))
        found = attack.judged(original, h, loss="active")
        assert found["success"].item() == (difference >= 0.1)
        outcomes |= {found["success"].item()} if abs(difference - 0.1) < 0.05 else set()
    assert outcomes == {True, False}


def test_a_pair_is_dead_if_one_of_its_maps_is():
    pair = torch.rand(1, 2, 8, 8, generator=seeded())
    half = pair.clone()
    half[:, 1] = 0
    assert attack.judged(pair, half, loss="active")["dead"].item()
    assert attack.judged(half, pair, loss="active")["dead_before"].item()


def test_fading_starts_at_a_tenth_of_the_original():
    original = torch.tensor([[2.0], [2.0], [2.0], [0.0], [2.0]])
    peaks = torch.tensor([[2.0], [0.2], [0.1], [0.0], [-0.2]])
    assert fooling_losses.fading(peaks, original).tolist() == pytest.approx([0, 0, 0.5, 0, 2])
