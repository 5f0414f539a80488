"""The cheapest rivals, and the defence that joins them: each is what it says."""

import pytest
import torch
from conftest import FEW, FORTY, flat, seeded

from atexlib import defend, nets

PLAIN = {"epochs": 2, "batch_size": 10}


def test_smoothing_without_a_pass_changes_no_weight(base):
    for options in ({"beta": 2.0}, {"pooling": "average"}, {"beta": 2.0, "pooling": 3.0}):
        swapped = defend.smoothing(base, FORTY, epochs=0, **options).model
        assert torch.equal(flat(swapped), flat(base))
        assert torch.equal(swapped(FORTY[0]), defend.smooth(base, **options)(FORTY[0]))
        assert not torch.equal(swapped(FORTY[0]), base(FORTY[0]))
    with pytest.raises(ValueError, match="beta and pooling are both None"):
        defend.smoothing(base, FORTY, epochs=1)


def test_smoothing_is_training_of_the_smooth_copy(base):
    smooth = defend.smooth(base, pooling="average")
    wanted = nets.fit(smooth, FORTY, generator=seeded(3), **PLAIN).model
    assert torch.equal(
        flat(defend.smoothing(base, FORTY, pooling="average", generator=seeded(3), **PLAIN).model), flat(wanted)
    )


def test_training_anew_forgets_the_net_it_was_given(base):
    other = nets.fit(base, FORTY, **PLAIN).model
    first, second = (flat(defend.anew(net, FORTY, generator=seeded(4), **PLAIN).model) for net in (base, other))
    assert torch.equal(first, second)
    before = torch.random.get_rng_state()
    defend.anew(base, FORTY, **PLAIN)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_steady_maps_without_their_parts_are_the_naive_defence(base):
    options = {**FEW, "weight": 2.0}
    bare = defend.steady(base, FORTY, plain_epochs=0, fidelity=0.0, generator=seeded(5), **options).model
    naive = defend.naive(defend.smooth(base, pooling="average"), FORTY, generator=seeded(5), **options).model
    assert torch.equal(flat(bare), flat(naive))
    for part in ({"plain_epochs": 1}, {"fidelity": 0.5}):
        whole = defend.steady(base, FORTY, **{"plain_epochs": 0, "fidelity": 0.0, **options, **part}).model
        assert not torch.equal(flat(whole), flat(bare))


def test_a_teacher_takes_the_place_of_a_part_of_the_labels(base):
    """With all else at zero one step's loss is cross entropy and distillation in the proportion asked for."""
    x, y = (values[:10] for values in FORTY)
    pupil = defend.anew(base, FORTY, epochs=1, batch_size=10).model
    told = defend.distillation(pupil(x), base(x), temperature=2.0).mean().item()
    right = torch.nn.functional.cross_entropy(pupil(x), y).item()
    for fidelity in (0.3, 1.0):
        options = {"a2": 0.0, "weight": 0.0, "teacher": base, "fidelity": fidelity, "epochs": 1, "batch_size": 10}
        loss = defend.naive(pupil, (x, y), eps=0.1, **options).history[0]["loss"]
        assert loss == pytest.approx((1 - fidelity) * right + fidelity * told, rel=1e-4)
    for wrong in ({"fidelity": 0.5}, {"teacher": base}):
        with pytest.raises(ValueError, match="pass both, or neither"):
            defend.naive(pupil, (x, y), eps=0.1, epochs=1, **wrong)
