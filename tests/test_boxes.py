"""Each chapter has its box "What we found", and the chapter's badge speaks of all cards that the box reads."""

import ast
import json
import re
from pathlib import Path

import pytest

from atexlib.experiments.findings import boxes, verdicts

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BOXES = {
    "05_naive_defence": boxes.naive,
    "06_atex": boxes.atex,
    "07_honest_evaluation": boxes.judged,
    "08_smoother_maps": boxes.smoother,
    "09_adversarial_training": boxes.predictions,
    "10_passive_fooling": boxes.passive,
    "11_active_fooling": boxes.active,
    "12_transfer_and_repair": boxes.transfer,
    "15_detecting_manipulated_inputs": boxes.detecting,
    "17_one_court": boxes.court,
}


def code(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_ends_with_what_was_found(path):
    wanted = rf"^boxes\.{BOXES[path.stem].__name__}\(\)" if path.stem in BOXES else r"^words\.box\("
    assert len(re.findall(wanted, code(path), re.M)) == 1


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_result_is_told_from_memory(path):
    text = path.read_text(encoding="utf-8").lower()
    assert "when this was written" not in text


@pytest.mark.parametrize("name", BOXES)
def test_a_box_has_numbers_with_intervals_and_says_where_they_come_from(name):
    found = BOXES[name]()
    assert re.search(r"\d\.\d", " ".join(found.sentences))
    assert "preset" in found.note
    assert not [sentence for sentence in found.sentences if "not run" in sentence]
    assert len(set(found.sentences)) == len(found.sentences)


@pytest.mark.parametrize("name", BOXES)
def test_the_badge_speaks_of_the_cards_of_the_box(name, monkeypatch):
    read, find = set(), verdicts._cards

    def watched(**spec):
        read.add(spec["kind"])
        return find(**spec)

    monkeypatch.setattr(verdicts, "_cards", watched)
    BOXES[name]()
    badge = re.search(r"freshness\.badge\((.*?)\)", code(ROOT / "notebooks" / f"{name}.ipynb"), re.S)
    assert read
    assert read <= set(ast.literal_eval(f"[{badge[1]}]"))


def test_a_box_without_cards_says_so(monkeypatch):
    monkeypatch.setattr(verdicts, "_cards", lambda **_spec: [])
    assert all("not run" in sentence for sentence in boxes.atex().sentences)
