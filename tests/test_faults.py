"""benchmarks/faults.py: its table shows no result lost, it runs, and it would see a loss."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SORTS = (
    "killed",
    "full disk",
    "no space",
    "cut off",
    "digit of a card",
    "bit of a net",
    "two sweeps",
    "power cut",
    "renames",
)
CODE = """
import random
import sys

sys.path.insert(0, "benchmarks")
import faults

faults.SPECS = faults.SPECS[:2]
whole, seconds = faults.undisturbed()
found = [faults.killed(whole, seconds, random.Random(1), times=2), faults.killed_writing(whole, after=False)]
assert [line["lost"] + line["found broken"] for line in found] == [0, 0], found
assert found[1]["times"] == found[1]["finished before"] == len(whole) == 3, found


def in_place(path, save):
    path.parent.mkdir(parents=True, exist_ok=True)
    save(str(path))
    with path.open("rb+") as file:
        faults.os.fsync(file.fileno())
    faults.os.replace(path, path)


faults.files.write = in_place
assert faults.killed_writing(whole, after=False)["found broken"] == 3
"""


def test_no_result_was_lost_and_every_sort_of_fault_was_tried():
    found = json.loads((ROOT / "benchmarks/faults.json").read_text())["rows"]
    assert all(any(sort in line["fault"] for line in found) for sort in SORTS)
    assert sum(line["times"] for line in found if line["fault"].startswith("killed at")) == 20
    for line in found:
        assert line["lost"] == 0
        assert line["found broken"] == 0 or not any(
            sort in line["fault"] for sort in ("killed", "no space", "full disk")
        )
        assert line["times"] > 0
        assert line["finished before"] > 0
    assert all(
        line["found broken"] == line["times"] for line in found if "cut off" in line["fault"] or "bit" in line["fault"]
    )


def test_the_script_finds_nothing_lost_and_would_find_what_is():
    """Written in place, under the final name, a file that is killed half-way is broken: the script must see that.

    A net and two cards here, so the kills at each write leave none, one and two finished.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
