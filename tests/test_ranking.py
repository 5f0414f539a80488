"""Areas under ROC curves against scikit-learn, and thresholds against counting."""

import pytest
import torch
from conftest import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from atexlib import maps

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=20)


@given(NUMBERS, NUMBERS)
@settings(max_examples=50, deadline=None)
def test_the_area_is_that_of_scikit_learn_and_of_the_curve_and_turns_with_the_sign(positive, negative):
    first, second = torch.tensor(positive), torch.tensor(negative)
    found = maps.auc(first, second)
    truth = [1] * len(positive) + [0] * len(negative)
    assert found.mean == pytest.approx(roc_auc_score(truth, positive + negative))
    assert found.low <= found.mean <= found.high
    assert found.high > found.low  # an interval of no width would claim to know all nets
    assert maps.auc(-first, -second).mean == pytest.approx(1 - found.mean)
    alarms, hits = maps.roc(first, second)
    assert torch.trapezoid(hits, alarms).item() == pytest.approx(found.mean)


def test_the_curve_of_a_shared_number_is_one_straight_line():
    """Of four positives one lies above all; the other three share their number with half of the negatives."""
    alarms, hits = maps.roc(torch.ones(7), torch.ones(64))
    assert (alarms.tolist(), hits.tolist()) == ([0, 1], [0, 1])
    alarms, hits = maps.roc(torch.tensor([1.0, 1.0, 1.0, 2.0]), torch.tensor([1.0, 0.0]))
    assert (alarms.tolist(), hits.tolist()) == ([0, 0, 0.5, 1], [0, 0.25, 1, 1])


def test_the_interval_of_the_area_covers_as_often_as_it_says():
    """Two normal distributions one apart: the area is Phi(1 / sqrt 2)."""
    generator, truth, inside = seeded(1), 0.7602499, 0
    for _ in range(400):
        draws = torch.randn(2, 20, generator=generator, dtype=torch.float64)
        found = maps.auc(draws[0] + 1, draws[1])
        inside += found.low <= truth <= found.high
    assert 0.92 <= inside / 400 <= 0.99


@pytest.mark.parametrize(("count", "above"), [(100, 5), (20, 1), (19, 0), (2, 0)])
def test_so_few_lie_above_the_threshold(count, above):
    values = torch.rand(count, generator=seeded())
    limit = maps.threshold(values, rate=0.05)
    assert int((values > limit).sum()) == above
    assert limit in values.double()
