import numpy as np
import pytest
import scipy.stats
import torch
from conftest import seeded

from atexlib.intervals import bootstrap


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
