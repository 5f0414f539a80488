import numpy as np
import pytest
import scipy.stats
import torch
from conftest import seeded

from atexlib.maps import bootstrap, two_level


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
    assert str(bootstrap(torch.ones(4))) == "1.000 [1.000, 1.000]"


def test_with_one_seed_two_levels_are_one():
    values = torch.rand(80, generator=seeded(1)) ** 2
    ours, plain = two_level(values[None], resamples=20_000), bootstrap(values, resamples=20_000)
    assert ours.mean == pytest.approx(plain.mean)
    assert ours.low == pytest.approx(plain.low, abs=2e-3)
    assert ours.high == pytest.approx(plain.high, abs=2e-3)


def test_seeds_that_differ_widen_the_interval():
    """With many images the variance of the mean is that of the seeds' means, divided by their number."""
    means = torch.tensor([0.0, 0.3, 0.9, 0.4], dtype=torch.float64)
    values = means[:, None] + 0.01 * torch.randn(4, 500, generator=seeded(2), dtype=torch.float64)
    interval = two_level(values, resamples=20_000)
    draws = np.random.default_rng(0).choice(means.numpy(), (50_000, 4)).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)


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
