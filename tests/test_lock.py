"""requirements.txt pins all that requirements.in leads to, and pyproject.toml admits the Pythons it was made for."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")


def requirements(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-e "))]


def pins(name):
    """The versions for this Python and platform."""
    found = [each for each in requirements(name) if each.marker is None or each.marker.evaluate()]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in found}


def closure(names):
    """These distributions and what they need here, after what the installed ones say of themselves."""
    seen, todo = set(), [(name, "") for name in names]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for each in map(Requirement, metadata.requires(name) or []):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(each.name), wanted) for wanted in ("", *each.extras)]
    return {name for name, _ in seen}


@pytest.mark.parametrize("name", ["requirements.in", "requirements.txt"])
def test_the_library_is_in_place_and_every_pin_is_exact(name):
    assert "-e ." in (ROOT / name).read_text(encoding="utf-8").splitlines()
    for each in requirements(name):
        assert [pin.operator for pin in each.specifier] == ["=="], each
        assert "*" not in str(each.specifier), each


def test_what_people_pin_is_in_the_lock():
    assert pins("requirements.in").items() <= pins("requirements.txt").items()


def test_what_is_installed_is_the_lock():
    installed = {canonicalize_name(each.name): each.version for each in metadata.distributions()}
    lock = pins("requirements.txt")
    assert {name: installed.get(name) for name in lock} == lock, "run `make .venv/.ready`"


def test_the_lock_is_all_that_is_needed_and_no_more():
    assert closure({"atexlib", *pins("requirements.in")}) - {"atexlib"} == set(pins("requirements.txt"))


@pytest.mark.parametrize("python", PYTHONS)
def test_each_pin_admits_each_python(python):
    refusing = {}
    for name in pins("requirements.txt"):
        wanted = metadata.metadata(name).get("Requires-Python")
        # A late patch release: before 3.11.5 there is another soupsieve.
        if wanted and f"{python}.99" not in SpecifierSet(wanted):
            refusing[name] = wanted
    assert not refusing


def test_the_library_admits_the_pythons_of_the_lock_and_no_others():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    admitted = SpecifierSet(project["requires-python"])
    assert [python for python in ("3.10", *PYTHONS, "3.14") if python in admitted] == list(PYTHONS)
