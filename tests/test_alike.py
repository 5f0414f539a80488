import itertools

import numpy as np
import pytest
import torch
from conftest import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kendalltau, rankdata, spearmanr
from skimage.metrics import structural_similarity

from atexlib.maps import alike


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


@pytest.mark.parametrize("correlation", [alike.spearman, alike.kendall])
@settings(deadline=None)
@given(seed=st.integers(0, 1000), levels=st.sampled_from([2, 5, 1000]))
def test_correlations_see_only_ranks(correlation, seed, levels):
    a, b = torch.randint(levels, (2, 4, 1, 5, 5), generator=seeded(seed)).double() / levels
    found = correlation(a, b)
    for other in (correlation(a.exp(), 3 * b - 1), correlation(b, a), -correlation(a, -b)):
        torch.testing.assert_close(found, other)
    torch.testing.assert_close(correlation(a, a), torch.ones(4, dtype=torch.float64))
    assert (found.abs() <= 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_kendall_equals_scipy(shape, ties, dtype):
    a, b = pair(shape, ties=ties, dtype=dtype)
    expected = [kendalltau(p.flatten(), q.flatten()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(alike.kendall(a, b), expected, atol=1e-12)


@settings(deadline=None)
@given(hnp.arrays(np.float64, (2, 1, 2, 3, 4), elements=st.integers(-2, 2).map(float)))
def test_kendall_of_maps_full_of_ties_equals_scipy(values):
    a, b = torch.from_numpy(values)
    expected = kendalltau(values[0], values[1]).statistic  # nan where a map is constant
    np.testing.assert_allclose(alike.kendall(a, b), [expected], atol=1e-12)


def test_kendall_of_a_constant_map_is_nan():
    a, b = pair((3, 1, 8, 8), ties=False)
    a[0], b[1], a[2], b[2] = 0.5, 0.5, 1.0, 2.0
    assert alike.kendall(a, b).isnan().all()
    assert not alike.kendall(*pair((3, 1, 8, 8), ties=False)).isnan().any()


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_kendall_of_the_smallest_maps_equals_scipy(side):
    a, b = torch.rand(2, 5, 1, 1, side + 1, generator=seeded(side))
    expected = [kendalltau(p.flatten(), q.flatten()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(alike.kendall(a, b), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 10, 49])
def test_topk_intersection_equals_sets(k):
    a, b = pair((6, 1, 7, 7), ties=False)
    tops = [[set(np.argsort(m.flatten().numpy())[-k:].tolist()) for m in maps] for maps in (a, b)]
    assert alike.topk_intersection(a, b, k).tolist() == [len(p & q) / k for p, q in zip(*tops, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("data_range", [1.0, 2.5])
def test_ssim_equals_scikit_image(shape, data_range):
    a, b = pair(shape, ties=True)
    expected = [
        structural_similarity(p.double().numpy(), q.double().numpy(), data_range=data_range, channel_axis=0)
        for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(alike.ssim(a, b, data_range=data_range), expected, atol=1e-12)


def dots(*places, shape=(1, 1, 6, 6)):
    """A map that is one at some places (channel, row, column), and rises a little elsewhere, always in one order."""
    maps = torch.linspace(0, 0.1, shape[1] * shape[2] * shape[3]).view(shape).clone()
    for place in places:
        maps[0, *place] = 1 + maps[0, *place]
    return maps


@pytest.mark.parametrize(
    ("a", "b", "window", "share"),
    [
        ([(0, 1, 1), (0, 4, 4)], [(0, 1, 2), (0, 4, 5)], 1, 1.0),  # moved by a pixel along a row
        ([(0, 1, 1), (0, 4, 4)], [(0, 2, 2), (0, 3, 3)], 1, 1.0),  # and along a diagonal
        ([(0, 1, 1), (0, 4, 4)], [(0, 1, 2), (0, 4, 5)], 0, 0.0),
        ([(0, 1, 1), (0, 4, 4)], [(0, 1, 1), (0, 4, 1)], 0, 0.5),
        ([(0, 1, 1), (0, 4, 4)], [(0, 1, 3), (0, 4, 4)], 1, 0.5),  # one of them by two
        ([(0, 1, 1), (0, 4, 4)], [(0, 1, 3), (0, 4, 4)], 2, 1.0),
        ([(0, 0, 0), (0, 5, 5)], [(0, 0, 5), (0, 5, 0)], 2, 0.0),  # edges do not meet
        ([(0, 0, 5), (0, 3, 2)], [(0, 1, 0), (0, 3, 2)], 1, 0.5),  # nor do the ends of two rows
        ([(0, 2, 2), (0, 2, 3)], [(0, 2, 4), (0, 5, 0)], 1, 0.5),  # it is the clean map's pixels that count
        ([(0, 2, 4), (0, 5, 0)], [(0, 2, 2), (0, 2, 3)], 1, 0.5),
        ([(0, 2, 2), (1, 4, 4)], [(1, 2, 2), (1, 4, 3)], 1, 0.5),  # another channel is another place
    ],
)
def test_lens_topk_by_hand(a, b, window, share):
    shape = (1, 2, 6, 6)
    assert alike.lens_topk(dots(*a, shape=shape), dots(*b, shape=shape), 2, window=window).tolist() == [share]


@pytest.mark.parametrize("shape", [(5, 1, 12, 12), (4, 3, 9, 7)])
def test_a_map_that_moved_by_a_pixel_counts_in_full(shape):
    a = torch.zeros(shape)
    a[..., 2:-2, 2:-2] = torch.rand(*shape[:2], shape[2] - 4, shape[3] - 4, generator=seeded(3))
    for moved in (a.roll(1, 2), a.roll(-1, 3), a.roll((1, 1), (2, 3))):
        assert alike.lens_topk(a, moved, 8).tolist() == [1.0] * len(a)
        assert (alike.topk_intersection(a, moved, 8) < 1).any()


def test_lens_topk_equals_a_loop():
    a, b = pair((4, 2, 6, 5), ties=False)
    k, window = 9, 1
    for one, other, found in zip(a, b, alike.lens_topk(a, b, k, window=window), strict=True):
        tops = [[np.unravel_index(i, m.shape) for i in np.argsort(m.flatten().numpy())[-k:]] for m in (one, other)]
        near = [
            any(p[0] == q[0] and max(abs(p[1] - q[1]), abs(p[2] - q[2])) <= window for q in tops[1]) for p in tops[0]
        ]
        assert found.item() == sum(near) / k


@settings(deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 60), channels=st.integers(1, 2))
def test_lens_topk_grows_with_its_window_from_topk(seed, k, channels):
    a, b = torch.rand(2, 3, channels, 5, 6, generator=seeded(seed))
    k = min(k, a[0].numel())
    found = [alike.lens_topk(a, b, k, window=window) for window in range(7)]
    assert torch.equal(found[0], alike.topk_intersection(a, b, k))
    for less, more in itertools.pairwise(found):
        assert ((less >= 0) & (less <= more) & (more <= 1)).all()
    assert channels > 1 or (found[-1] == 1).all()  # a window as wide as the map
    assert (alike.lens_topk(a, a, k) == 1).all()
    torch.testing.assert_close(found[1], alike.lens_topk(a.exp(), 3 * b - 1, k))  # only ranks count
    torch.testing.assert_close(found[1], alike.lens_topk(a.flip(2, 3), b.flip(2, 3), k))


def test_metrics_return_one_number_an_image():
    a, b = pair((4, 3, 8, 9), ties=False)
    for metric in (alike.spearman, alike.kendall, alike.topk_intersection, alike.lens_topk, alike.ssim):
        assert metric(a, b).shape == (4,)
        torch.testing.assert_close(metric(a, a), torch.ones(4, dtype=torch.float64))
        assert metric(a.requires_grad_(), b).requires_grad is False


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_are_scipys_on_either_device(dtype):
    """The GPU's way is walked here on the CPU, where `average_ranks` takes NumPy's; zeros of both signs are tied."""
    values = torch.randn(6, 50, generator=seeded(3), dtype=dtype).round(decimals=1)
    values[0, :4] = torch.tensor([0.0, -0.0, 0.0, -0.0], dtype=dtype)
    values[1] = 2.5
    wanted = torch.from_numpy(rankdata(values.numpy(), axis=1))
    for found in (alike.ranks_by_torch(values), torch.from_numpy(alike.ranks_by_numpy(values.numpy()))):
        torch.testing.assert_close(found.double(), wanted, atol=0, rtol=0)


def test_maps_of_tiny_values_need_a_range_for_ssim():
    a, b = (torch.rand(2, 1, 9, 9, generator=seeded(i)) for i in (1, 2))
    with pytest.raises(ValueError, match=r"the maps span 0\.00.*, next to nothing of a range of 1; normalise them"):
        alike.ssim(a / 200, b / 200)
    torch.testing.assert_close(alike.ssim(a / 200, b / 200, data_range=1 / 200), alike.ssim(a, b), atol=1e-4, rtol=0)
    assert alike.ssim(0 * a, 0 * b).tolist() == [1.0, 1.0]  # dead maps are no mistake
