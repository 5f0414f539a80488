"""The register of explainers: by name or as a function is the same, everywhere."""

import dataclasses
import functools

import pytest
import torch
from conftest import FORTY, flat, seeded

from atexlib import attack, explain, judge
from atexlib.explain import registry

QUICK = {"eps": 0.1, "steps": 2}
USES = {  # what takes an explainer, and what it gives as tensors
    "manipulate": lambda net, x, e: attack.manipulate(net, x, attack.Untargeted(k=9), explainer=e, **QUICK).x,
    "heatmap": lambda net, x, e: explain.heatmap(net, x, 1, explainer=e),
    "is_dead": lambda net, x, e: explain.is_dead(net, x, 1, explainer=e),
    "scaled": lambda net, x, e: explain.scaled(x - 0.3, explainer=e),
    "one_channel": lambda net, x, e: explain.one_channel(net, x, 1, explainer=e),
    "shown_maps": lambda net, x, e: attack.shown_maps(net, x, torch.arange(len(x)) % 4, explainer=e),
    "average_case": lambda net, x, e: judge.average_case(net, x, radius=0.1, samples=2, explainer=e).value,
    "max_min": lambda net, x, e: judge.max_min(net, x, explainer=e, **QUICK).value,
    "min_max": lambda net, x, e: judge.min_max(net, x, explainer=e, rounds=1, **QUICK).value,
}


@pytest.mark.parametrize("name", explain.EXPLAINERS)
@pytest.mark.parametrize("use", USES)
def test_a_name_gives_what_the_function_gives(net, x, use, name):
    x = x[:2]
    by_name, by_function = (USES[use](net, x, e) for e in (name, explain.EXPLAINERS[name]))
    assert torch.equal(by_name, by_function)


@pytest.mark.parametrize("name", explain.EXPLAINERS)
def test_fooling_by_name_is_fooling_by_function(base, name):
    options = {"loss": "topk", "steps": 1, "batch_size": 5, "lr": 1e-3}
    nets = [attack.fool(base, FORTY, explainer=e, **options).model for e in (name, explain.EXPLAINERS[name])]
    assert torch.equal(*map(flat, nets))
    assert not torch.equal(flat(nets[0]), flat(base))


@pytest.mark.parametrize("name", explain.EXPLAINERS)
def test_success_by_name_is_success_by_function(base, name):
    x, y = (values[:4] for values in FORTY)
    found = [attack.success(base, base, x, y, loss="topk", explainer=e) for e in (name, explain.EXPLAINERS[name])]
    for key, value in found[0].items():
        torch.testing.assert_close(value, found[1][key], equal_nan=True)


@pytest.mark.parametrize("given", [lambda name: [name], lambda name: {name: explain.EXPLAINERS[name]}])
def test_an_audit_takes_names_or_functions(base, given):
    x, y = (values[:3] for values in FORTY)
    options = {"steps": 2, "starts": 1, "attacks": ["untargeted"], "progress": False}
    for name in ("gradient", "grad_cam"):
        found = judge.audit(base, x, y, explainers=given(name), **options)
        expected = judge.audit(base, x, y, explainers={name: name}, **options)  # a name under a name
        assert found.table.equals(expected.table)


def test_every_explainer_is_entered_with_its_traits():
    assert list(explain.EXPLAINERS) == list(registry.TRAITS) == list(explain.available())
    for name, function in explain.EXPLAINERS.items():
        assert explain.find(name) is function
        assert explain.find(function) is function
        assert explain.traits(name) is explain.traits(function) is registry.TRAITS[name]
        assert explain.traits(functools.partial(function)) is registry.TRAITS[name]


def test_a_function_that_is_not_entered_counts_as_unsigned():
    def brightness(model, x, target=None, *, create_graph=False):
        return x

    expected = explain.Traits(label="brightness", signed=False, reads_layer=False, from_zero=False)
    assert explain.traits(brightness) == expected
    assert explain.traits(functools.partial(brightness, create_graph=True)) == expected

    class Called:
        def __call__(self, model, x, target=None, *, create_graph=False):
            return x

    assert explain.traits(Called()) == dataclasses.replace(expected, label="Called")


def test_a_function_of_the_same_name_as_an_explainer_is_another_one():
    def lrp(model, x, target=None, *, create_graph=False):
        return x

    assert not explain.traits(lrp).signed
    assert explain.traits("lrp").signed


def test_an_explainer_of_ones_own_is_entered_and_can_be_used_by_name(net, x):
    @explain.explainer(label="brightness", signed=False)
    def brightness(model, x, target=None, *, create_graph=False):
        return x

    try:
        assert explain.available()[-1] == "brightness"
        found = explain.heatmap(net, x, 1, explainer="brightness")
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        torch.testing.assert_close(found, (x - low) / (high - low))
    finally:
        del registry.EXPLAINERS["brightness"], registry.TRAITS["brightness"]


def test_a_layer_is_refused_by_what_reads_none(net, x):
    for name, traits in registry.TRAITS.items():
        if traits.reads_layer:
            assert explain.heatmap(net, x, 1, explainer=name, layer="conv1").ndim == 4
        else:
            with pytest.raises(ValueError, match=f"{name} reads no layer"):
                explain.heatmap(net, x, 1, explainer=name, layer="conv1")


def test_draws_are_the_same_by_name(net, x):
    draws = [
        judge.average_case(net, x, radius=0.1, samples=2, explainer="smoothgrad", generator=seeded(seed)).value
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
