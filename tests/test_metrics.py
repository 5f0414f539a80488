import numpy as np
import pytest
import torch
from conftest import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import rankdata, spearmanr
from skimage.metrics import structural_similarity

from atexlib.maps import alike, shape


def pair(shape, *, ties, dtype=torch.float32):
    a = torch.rand(shape, generator=seeded(1), dtype=dtype)
    b = 0.5 * a + 0.5 * torch.rand(shape, generator=seeded(2), dtype=dtype)
    return (a.mul(5).round() / 5, b.clamp_min(0.4)) if ties else (a, b)


SHAPES = [(5, 1, 28, 28), (3, 3, 9, 11), (2, 1, 7, 7)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_spearman_equals_scipy(shape, ties):
    a, b = pair(shape, ties=ties)
    expected = [spearmanr(p.flatten().double(), q.flatten().double()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(alike.spearman(a, b), expected, atol=1e-12)


@given(hnp.arrays(np.float32, (2, 9), elements=st.integers(-3, 3).map(float)))
def test_ranks_equal_scipys(values):
    np.testing.assert_array_equal(alike.average_ranks(torch.from_numpy(values)), rankdata(values, axis=1))


def test_spearman_of_a_constant_map_is_nan():
    a, b = pair((3, 1, 8, 8), ties=False)
    a[1] = 0.5
    assert alike.spearman(a, b).isnan().tolist() == [False, True, False]


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_spearman_sees_only_ranks(seed):
    a, b = torch.rand(2, 4, 1, 5, 5, generator=seeded(seed))
    torch.testing.assert_close(alike.spearman(a, b), alike.spearman(a.exp(), 3 * b - 1))
    torch.testing.assert_close(alike.spearman(a, b), alike.spearman(b, a))
    torch.testing.assert_close(alike.spearman(a, -b), -metrics.spearman(a, b))
    torch.testing.assert_close(alike.spearman(a, a), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 10, 49])
def test_topk_intersection_equals_sets(k):
    a, b = pair((6, 1, 7, 7), ties=False)
    tops = [[set(np.argsort(m.flatten().numpy())[-k:].tolist()) for m in maps] for maps in (a, b)]
    assert alike.topk_intersection(a, b, k).tolist() == [len(p & q) / k for p, q in zip(*tops, strict=True)]


def test_topk_counts_entries_of_all_channels():
    a = torch.zeros(1, 3, 2, 2)
    a[0, 2, 0, 0], a[0, 0, 1, 1] = 2.0, 1.0
    assert shape.topk_mask(a, 2).nonzero().tolist() == [[0, 0, 1, 1], [0, 2, 0, 0]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data_range", [1.0, 2.5])
def test_ssim_equals_scikit_image(shape, data_range):
    a, b = pair(shape, ties=True)
    expected = [
        structural_similarity(p.double().numpy(), q.double().numpy(), data_range=data_range, channel_axis=0)
        for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(alike.ssim(a, b, data_range=data_range), expected, atol=1e-12)


def test_metrics_return_one_number_an_image():
    a, b = pair((4, 3, 8, 9), ties=False)
    for metric in (alike.spearman, alike.topk_intersection, alike.ssim):
        assert metric(a, b).shape == (4,)
        torch.testing.assert_close(metric(a, a), torch.ones(4, dtype=torch.float64))
        assert metric(a.requires_grad_(), b).requires_grad is False
