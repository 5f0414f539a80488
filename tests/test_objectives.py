import pytest
import torch
from conftest import seeded

from atexlib import attack


def maps(seed, shape=(4, 1, 6, 7)):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def test_untargeted_is_minus_the_mass_on_the_clean_maps_top_k():
    clean, moved = maps(0), maps(1)
    score = attack.Untargeted(k=5)(clean)(moved)
    for c, m, value in zip(clean, moved, score, strict=True):
        top = c.abs().flatten().argsort()[-5:]
        assert value.item() == pytest.approx(-(m.abs().flatten()[top].sum() / m.abs().sum()).item())


def test_targeted_is_the_mass_in_the_mask():
    clean, moved = maps(0), maps(1)
    target = attack.Targeted.random_region(clean, size=3, generator=seeded(2))
    assert (target.mask.sum((1, 2, 3)) == 9).all()
    rows, columns = target.mask[:, 0].any(2), target.mask[:, 0].any(1)
    assert (rows.sum(1) == 3).all()
    assert (columns.sum(1) == 3).all()
    inside = (moved.abs() * target.mask).sum((1, 2, 3)) / moved.abs().sum((1, 2, 3))
    torch.testing.assert_close(target(clean)(moved), inside)


def test_random_region_reaches_every_place():
    mask = attack.Targeted.random_region(torch.zeros(4000, 1, 6, 6), size=2, generator=seeded()).mask
    corners = mask[:, 0].flatten(1).int().argmax(1)
    assert len(corners.unique()) == 25
    again = attack.Targeted.random_region(torch.zeros(4000, 1, 6, 6), size=2, generator=seeded()).mask
    assert torch.equal(mask, again)


def test_distance_and_target_map_are_correlations():
    clean, moved = maps(0), maps(1)
    pairs = zip(clean.abs().flatten(1), moved.abs().flatten(1), strict=True)
    expected = torch.stack([torch.corrcoef(torch.stack(two))[0, 1] for two in pairs])
    torch.testing.assert_close(attack.Distance()(clean)(moved), 1 - expected)
    torch.testing.assert_close(attack.TargetMap(clean)(maps(3))(moved), expected)


def test_scores_have_no_scale(objective, x):
    clean = torch.randn(x.shape, generator=seeded(3), dtype=x.dtype)
    moved = torch.randn(x.shape, generator=seeded(4), dtype=x.dtype)
    torch.testing.assert_close(objective(clean)(moved), objective(10 * clean)(0.1 * moved))


def test_scores_can_be_differentiated(objective, x):
    clean = torch.randn(x.shape, generator=seeded(3), dtype=x.dtype)
    moved = torch.randn(x.shape, generator=seeded(4), dtype=x.dtype).requires_grad_()
    assert objective(clean)(moved).shape == (len(x),)
    assert torch.autograd.gradcheck(objective(clean), moved)
