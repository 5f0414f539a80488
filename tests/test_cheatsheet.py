"""The code of the cheat sheet runs as it stands."""

import functools
import re
from pathlib import Path

import pytest

import atexlib

PAGE = (Path(__file__).parents[1] / "book" / "cheatsheet.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def test_there_are_blocks():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block, trained, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = functools.partial(atexlib.audit, steps=2, starts=1, attacks=["untargeted", "distance"])
    for room in (atexlib, atexlib.judge):
        monkeypatch.setattr(room, "audit", quick)
    few = digits.first(3)
    exec(compile(block, "cheatsheet.md", "exec"), {"model": trained, "images": few.images, "labels": few.labels})
