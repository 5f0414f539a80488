"""Every defence goes through the same tests: those of the register, and the ways to call them."""

import copy
import functools

import pytest
import torch
from conftest import FEW, FORTY, flat, seeded

from atexlib import attack, defend


def of_the_register(chosen, net, **options):
    few = {key: value for key, value in FEW.items() if key != "eps" or key in chosen.settings}
    return chosen.train(net, FORTY, **{**chosen.settings, **few, **options})


WAYS = {
    "naive": lambda net, **o: defend.naive(net, FORTY, **FEW | o),
    "naive, ascent": lambda net, **o: defend.naive(net, FORTY, neighbors="ascent", samples=2, **FEW | o),
    "naive, SmoothGrad": lambda net, **o: defend.naive(net, FORTY, target_map="smoothgrad", **FEW | o),
    "naive, top-k": lambda net, **o: defend.naive(net, FORTY, distance=attack.Untargeted(k=9), **FEW | o),
    "atex": lambda net, **o: defend.atex(net, FORTY, **FEW | o),
    "atex, ascent": lambda net, **o: defend.atex(net, FORTY, directions="ascent", **FEW | o),
    "atex, free": lambda net, **o: defend.atex(net, FORTY, directions="free", **FEW | o),
    "atex, mixed": lambda net, **o: defend.atex(net, FORTY, directions="mixed", along_samples=2, **FEW | o),
    "atex, printed": lambda net, **o: defend.atex(net, FORTY, norm="l2", noise="printed", **FEW | o),
    "atex, labels": lambda net, **o: defend.atex(
        net, FORTY, fidelity=0.0, label_weight=1.0, steps_per_batch=2, **FEW | o
    ),
    **{
        f"{name} of the register": functools.partial(of_the_register, chosen)
        for name, chosen in defend.DEFENSES.items()
    },
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def test_a_defence_trains_a_copy_and_leaves_its_argument_alone(base, way):
    before, mode = flat(base).clone(), base.training
    defended = way(base).model
    assert torch.equal(flat(base), before)
    assert base.training == mode
    assert all(weight.requires_grad for weight in defended.parameters())
    assert flat(defended).isfinite().all()
    assert not torch.equal(flat(defended), before)
    assert not defended.training


def test_a_defence_is_a_function_of_its_seed(base, way):
    first, second, other = (flat(way(base, generator=seeded(i)).model) for i in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", [name for name in WAYS if "ema" not in name])  # which returns the average of all
def test_a_defence_keeps_an_epoch_by_validation(base, name):
    way, options = WAYS[name], {"epochs": 3, "lr": 0.05}
    if "own" in name:
        options["plain_epochs"] = 0  # of which one would be kept by validation, too
    few = tuple(values[:20] for values in FORTY)
    fitted = way(base, validation=few, **options)
    scores = [list(entry.values())[2] for entry in fitted.history]  # after the epoch and its loss
    assert len(scores) == 3
    assert fitted.best_epoch == 1 + scores.index(max(scores))
    last = way(base, **options)  # without validation it is the last epoch's net that comes back
    assert last.best_epoch == 3
    assert torch.equal(flat(fitted.model), flat(last.model)) == (fitted.best_epoch == 3)


def test_labels_of_validation_may_be_of_any_whole_type(base, way):
    images, labels = (values[:10] for values in FORTY)
    first, second = (flat(way(base, epochs=1, validation=(images, y)).model) for y in (labels, labels.int()))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", defend.DEFENSES)
def test_what_the_register_says_of_a_defence_is_so(base, name):
    chosen = defend.DEFENSES[name]
    assert chosen.label
    if chosen.takes_maps:
        options = {**chosen.settings, **FEW}
        drawn = [torch.randn(FORTY[0].shape, generator=seeded(i)) for i in (0, 1)]
        one, other = (flat(chosen.train(base, FORTY, maps=maps, **options).model) for maps in drawn)
        assert not torch.equal(one, other)
    else:
        with pytest.raises(TypeError, match="maps"):
            of_the_register(chosen, base, maps=FORTY[0], epochs=1)
    shaped = base if chosen.shape is None else chosen.shape(base, chosen.settings)
    made = of_the_register(chosen, base, epochs=1).model
    twin = copy.deepcopy(shaped)
    twin.load_state_dict(made.state_dict())
    torch.testing.assert_close(twin(FORTY[0]), made(FORTY[0]))  # in eval mode, channels last or not
    assert chosen.start in ("none", *defend.DEFENSES)


def test_a_defence_of_ones_own_is_listed_and_can_be_taken_out_again():
    @defend.defense("nothing", label="no defence", settings={"eps": 0.5})
    def nothing(model, data, *, epochs, eps):
        return model, eps

    try:
        assert defend.available()[-1] == "nothing"
        assert defend.DEFENSES["nothing"].train is nothing
        assert dict(defend.DEFENSES["nothing"].settings) == {"eps": 0.5}
    finally:
        del defend.DEFENSES["nothing"]
