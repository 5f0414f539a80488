"""The examples in the docstrings run as they stand, and every public function has one."""

import doctest
import importlib
import inspect
import pkgutil

import matplotlib
import pytest
import torch

import atexlib
from atexlib import attack, data, defend, detect, experiments, explain, judge, maps, nets, show

MODULES = ["atexlib", *(found.name for found in pkgutil.walk_packages(atexlib.__path__, "atexlib."))]
ROOMS = (explain, attack, defend, detect, judge, maps, nets, data, show, experiments)
MISSING = set()  # what still lacks an example


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, monkeypatch):
    matplotlib.use("Agg")
    torch.manual_seed(0)  # as in the examples, nets are made without a generator
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST)
    said = []
    for found in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(found, out=said.append, clear_globs=False)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def public():
    """Functions and classes in the faces of the rooms, by room and name; plain values and types have no docstring."""
    for room in ROOMS:
        for name in room.__all__:
            value = getattr(room, name)
            if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("atexlib."):
                yield f"{room.__name__.removeprefix('atexlib.')}.{name}", value


def has_example(value):
    """Whether a docstring holds an example; that of a class may stand at one of its methods."""
    members = [value, *(vars(value).values() if inspect.isclass(value) else ())]
    return any(">>>" in (inspect.getdoc(member) or "") for member in members)


def test_every_public_function_has_an_example():
    lacking = {name for name, value in public() if not has_example(value)}
    assert lacking - MISSING == set()
    assert MISSING - lacking == set(), "these have an example by now: take them off the list"
