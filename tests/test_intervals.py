import numpy as np
import pytest
import scipy.stats
import torch
from conftest import seeded

from atexlib.maps import bootstrap, two_level, wilson


def test_equals_scipys_bootstrap():
    values = torch.rand(80, generator=seeded(1)) ** 2
    ours = bootstrap(values, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values.double().numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.mean == pytest.approx(values.double().mean().item())
    assert ours.low == pytest.approx(theirs.low, abs=2e-3)
    assert ours.high == pytest.approx(theirs.high, abs=2e-3)


def test_covers_the_true_mean_about_as_often_as_it_says():
    draws = torch.randn(300, 60, generator=seeded(2), dtype=torch.float64)
    intervals = [bootstrap(row, resamples=400, level=0.9) for row in draws]
    covered = np.mean([interval.low < 0 < interval.high for interval in intervals])
    assert 0.83 < covered < 0.95


def test_same_seed_same_interval():
    values = torch.rand(30, generator=seeded(1))
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, generator=seeded(5)) != bootstrap(values)
    assert str(bootstrap(torch.ones(4))) == "1.000"


def test_with_one_seed_two_levels_are_students_t_over_images():
    values = torch.rand(80, generator=seeded(1), dtype=torch.float64) ** 2
    ours, theirs = two_level(values[None]), scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert ours.mean == pytest.approx(values.mean().item())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_seeds_that_differ_alone_give_students_t_on_their_means():
    means = torch.tensor([0.0, 0.3, 0.9, 0.4], dtype=torch.float64)
    ours, theirs = two_level(means[:, None].expand(4, 500)), scipy.stats.ttest_1samp(means, 0).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    alone = two_level(means[:, None])
    assert (alone.low, alone.high) == pytest.approx((theirs.low, theirs.high))


# Spreads of seeds, of images and of the rest: of Spearman in the tables' cells, of differences between two defences, of
# a defence whose seeds differ, of one whose seeds do not.
@pytest.mark.parametrize("spreads", [(0.01, 0.2, 0.2), (0.03, 0.2, 0.3), (0.05, 0.1, 0.2), (0.0, 0.2, 0.1)])
@pytest.mark.parametrize("seeds", [3, 5])
def test_an_interval_over_seeds_and_images_covers_the_truth_as_often_as_it_says(seeds, spreads):
    draw = seeded(seeds)
    hits = 0
    for _ in range(600):
        effects = [torch.randn(shape, generator=draw) for shape in ((seeds, 1), (1, 128), (seeds, 128))]
        found = two_level(sum(spread * effect for spread, effect in zip(spreads, effects, strict=True)))
        hits += found.low < 0 < found.high
    assert hits >= 0.93 * 600 - 12  # two standard errors of the count


def test_a_share_never_gets_an_interval_without_width():
    all_of_them = two_level(torch.ones(3, 50))
    theirs = scipy.stats.binomtest(50, 50).proportion_ci(method="wilson")
    assert (all_of_them.low, all_of_them.high) == pytest.approx((theirs.low, 1.0), abs=1e-3)
    half = two_level((torch.rand(1, 400, generator=seeded(6)) < 0.5).double())
    assert 0.08 < half.high - half.low < 0.11
    equal = two_level(torch.full((3, 50), 0.25))
    assert (equal.low, equal.high) == pytest.approx((0.25 - 3 / 50, 0.25 + 3 / 50))


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (0, 10), (1, 2), (9, 10), (10, 10), (37, 400)])
def test_wilsons_interval_is_scipys(hits, count):
    theirs = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    ours = wilson(hits, count)
    assert ours == pytest.approx((hits / count, theirs.low, theirs.high), abs=1e-4)


def test_one_number_has_no_interval():
    assert str(two_level(torch.tensor([[0.5]]))) == "0.500 [no interval]"


def test_two_levels_cover_the_true_ratio_and_leave_out_nan():
    pair = torch.rand(3, 400, 2, generator=seeded(3), dtype=torch.float64) + torch.tensor([1.0, 2.0])
    ratio = two_level(pair, statistic=lambda means: means[..., 1] / means[..., 0])
    assert ratio.low < 2.5 / 1.5 < ratio.high
    holes = pair[..., 0].clone()
    holes[0, :5] = float("nan")
    assert two_level(holes).mean == pytest.approx(holes.nanmean().item())
    assert two_level(holes) == two_level(holes)


@pytest.mark.parametrize("known", [0, 1])
def test_a_seed_with_hardly_a_number_leaves_an_interval(known):
    values = torch.rand(3, 40, generator=seeded(4), dtype=torch.float64)
    values[1, known:] = float("nan")
    interval = two_level(values)
    assert interval.low < values.nanmean().item() < interval.high
    if not known:
        assert interval == two_level(values[[0, 2]])


def test_a_ratio_leaves_out_a_seed_that_lacks_one_of_the_two():
    pair = torch.rand(3, 40, 2, generator=seeded(5), dtype=torch.float64) + 1
    pair[2, :, 0] = float("nan")
    ratio = {"statistic": lambda means: means[..., 1] / means[..., 0]}
    assert two_level(pair, **ratio) == two_level(pair[:2], **ratio)
