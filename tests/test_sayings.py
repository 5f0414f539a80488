"""What a chapter says of itself is so: how many, which, where, and which net; each figure is told in words.

A check takes a notebook (the dict of its JSON) and returns what is wrong with it. Each is first shown one spoiled.
"""

import json
import re
from pathlib import Path

import pytest

from atexlib import attack, explain

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
NUMBER = "|".join(NUMBERS)

# The last line before a list announces how many things stand in it.
LIST = re.compile(r"^(?![ \-*\d:|#])(.+)\n\n?((?:^(?:[-*]|\d+\.) .*\n?(?:^ +\S.*\n?)*)+)", re.M)
THINGS = re.compile(
    rf"\b({NUMBER}) (?:\*\*)?(things|parts|choices|controls|traps|ways|reasons|pieces|steps|tests)\b", re.I
)
REGISTERS = {"explainers": len(explain.EXPLAINERS), "objectives": len(attack.OBJECTIVES)}
COUNTED = re.compile(rf"(?:library has|how|all) ({NUMBER}) (?:common )?(explainers|objectives)\b", re.I)
# A live picture must be true on whatever data the page was built.
DATA = re.compile(r"MNIST|\bdigits?\b|\b(shirt|trouser|sneaker|coat|dress|sandal|pullover|ankle boot)s?\b", re.I)
NETS = {"no defence": "none", "naive": "naive", "ATEX": "atex", "ATEX with ascent": "atex_ascent"}
# Pictures that are shown, and of which nothing is claimed.
PICTURES_ALONE = {"c14-photos", "c14-six-figure"}


def source(cell):
    return "".join(cell["source"])


def code_cells(nb):
    return [cell for cell in nb["cells"] if cell["cell_type"] == "code"]


def prose(nb):
    text = "\n\n".join(source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown") + "\n"
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def check_lists(nb):
    problems = []
    for said, listed in LIST.findall(prose(nb)):
        count = len(re.findall(r"^(?:[-*]|\d+\.) ", listed, re.M))
        for number, things in THINGS.findall(re.split(r"(?<=[.!?]) ", said)[-1]):
            if NUMBERS[number.lower()] != count:
                problems.append(f"{number} {things} are announced, {count} are listed: {said[-60:]!r}")
    return problems


def check_registers(nb):
    found = COUNTED.findall(prose(nb))
    return [f"{n} {things}: there are {REGISTERS[things]}" for n, things in found if NUMBERS[n] != REGISTERS[things]]


def check_references_to_exercises(nb):
    """A chapter that names one of its exercises has it; those of other chapters are named by their chapter."""
    text = re.sub(r"exercises? \d+ of chapter \d+", "", prose(nb), flags=re.I)
    there = re.findall(r"\{admonition\} Exercise (\d+)", text)
    named = re.findall(r"\bExercise (\d+)\b", text)
    problems = [f"there is no exercise {number}" for number in sorted(set(named) - set(there))]
    return problems + [
        f"there is no chapter {n}" for n in re.findall(r"\bChapter (\d+)", text) if int(n) >= len(CHAPTERS)
    ]


def check_captions(nb):
    """Under a live figure no caption names a data set or a class: the page may have been built on others."""
    problems = []
    for cell in code_cells(nb):
        shown = cell["metadata"].get("mystnb", {})
        text = shown.get("figure", {}).get("caption", "") + shown.get("image", {}).get("alt", "")
        if (found := DATA.search(text)) and not re.search(r"^(figures|pages)\.", source(cell), re.M):
            problems.append(f"the caption of {cell['id']} is not true on every data set: {found[0]}")
    return problems


def check_nets(nb):
    """A net that is called by the name of a defence is the one that was trained by it."""
    problems = []
    for cell in code_cells(nb):
        for title, name in re.findall(r'"([^"]+)": lab\.defended\("(\w+)"\)', source(cell)):
            if NETS.get(title, name) != name:
                problems.append(f"{cell['id']} calls the net {name} {title!r}")
    return problems


def check_words(nb):
    """Each figure has words made by the run: in its cell, in the one before it or in the one after it."""
    cells, problems = code_cells(nb), []
    for k, cell in enumerate(cells):
        around = "\n".join(source(other) for other in cells[max(0, k - 1) : k + 2])
        is_told = re.search(r"\bprint\(|_in_words\(|\bwords\.\w+\(|_table\(", around)
        if "plt.show()" in source(cell) and cell["id"] not in PICTURES_ALONE and not is_told:
            problems.append(f"nothing is said of the figure of {cell['id']}")
    return problems


CHECKS = [check_lists, check_registers, check_references_to_exercises, check_captions, check_nets, check_words]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_chapter_says_of_itself_is_so(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert [problem for check in CHECKS for problem in check(nb)] == []


def test_the_table_of_objectives_is_the_register():
    text = prose(json.loads((ROOT / "notebooks/02_manipulating_inputs.ipynb").read_text(encoding="utf-8")))
    rows = re.findall(r"^\| `(\w+)\(", text, re.M)
    assert [name.lower() for name in rows] == [name.replace("_", "") for name in attack.OBJECTIVES]


def test_a_time_on_the_page_of_speed_comes_from_a_card():
    """Its prose names none: a time that no card holds cannot be made again."""
    text = (ROOT / "book/speed.md").read_text(encoding="utf-8")
    assert untold_times(text) == []


def untold_times(text):
    """Numbers of seconds and the like, and factors of speed."""
    text = re.sub(r"^```.*?^```|`[^`]*`", "", text, flags=re.M | re.S)
    units = r"(?:nano|milli)?seconds?|minutes?|hours?"
    return re.findall(rf"\b(?:[\d.,]+|{NUMBER}|half an) (?:{units})\b|(?:twice|times) as fast", text)


# The checks themselves


def good():
    def cell(kind, text, identity="a", **metadata):
        return {"cell_type": kind, "source": text, "id": identity, "metadata": metadata}

    text = "It does two things:\n\n- one,\n  and more\n- two\n\nThe library has six objectives. See Exercise 1.\n\n"
    text += "As in exercise 9 of Chapter 2.\n\n::::{admonition} Exercise 1 (open)\n:class: exercise\nWhy?\n::::\n"
    figure = {"figure": {"caption": "A net."}, "image": {"alt": "A curve."}}
    code = 'nets = {"ATEX": lab.defended("atex")}\nplt.show()\nprint(1)'
    return {"cells": [cell("markdown", text), cell("code", "x = 1"), cell("code", code, "b", mystnb=figure)]}


SPOILED = {
    "a thing too many": (check_lists, 0, "- two\n", "- two\n- three\n"),
    "another count of a register": (check_registers, 0, "six objectives", "five objectives"),
    "an exercise that is not there": (check_references_to_exercises, 0, "See Exercise 1", "See Exercise 4"),
    "a chapter that is not there": (check_references_to_exercises, 0, "See Exercise 1", "See Chapter 18"),
    "another net": (check_nets, 2, '"atex"', '"atex_ascent"'),
    "a figure without words": (check_words, 2, "print(1)", "pass"),
}


@pytest.mark.parametrize(("check", "cell", "old", "new"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_chapter_is_caught(check, cell, old, new):
    nb = good()
    assert check(nb) == []
    assert old in nb["cells"][cell]["source"]
    nb["cells"][cell]["source"] = nb["cells"][cell]["source"].replace(old, new)
    assert check(nb) != []


def test_a_caption_that_names_a_data_set_is_caught():
    nb = good()
    assert check_captions(nb) == []
    nb["cells"][2]["metadata"]["mystnb"]["figure"]["caption"] = "A sneaker."
    assert check_captions(nb) != []


def test_a_time_in_prose_is_caught():
    assert untold_times("A pass is short: `sleep 3 seconds`. Two panels.") == []
    assert untold_times("It took 14.1 seconds, half an hour, and is twice as fast.") != []
