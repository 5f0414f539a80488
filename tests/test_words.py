"""The sentences of the boxes "What we found": each says what its interval says, and no more."""

import pytest
import torch

from atexlib.experiments.findings import words
from atexlib.maps.intervals import Interval

CASES = {
    "above": (Interval(0.2, 0.1, 0.3), "s: A lies above B, by 0.200 [0.100, 0.300]."),
    "below": (Interval(-0.2, -0.3, -0.1), "s: A lies below B, by 0.200 [0.100, 0.300]."),
    "across 0": (Interval(0.1, -0.1, 0.3), "s: no difference between A and B is told, 0.100 [-0.100, 0.300]."),
    "touching 0": (Interval(0.1, 0.0, 0.2), "s: no difference between A and B is told, 0.100 [0.000, 0.200]."),
    "one net": (
        Interval(0.1, float("-inf"), float("inf")),
        "s: no difference between A and B is told, 0.100 [no interval].",
    ),
    "none": (None, "s, A against B: not run."),
}


@pytest.mark.parametrize(("difference", "said"), CASES.values(), ids=CASES)
def test_a_sentence_says_what_the_interval_says(difference, said):
    assert words.compared("s", "A", "B", difference) == said


def test_numbers_for_each_image_get_an_interval_and_those_without_one_are_left_out():
    values = torch.tensor([0.2, float("nan"), 0.4, 0.3])
    assert words.compared("s", "A", "B", values).startswith("s: A lies above B, by 0.300 [0.2")
    assert words.level("s", "A", values).startswith("s of A: 0.300 [0.2")
    assert words.level("s", "A", None) == "s of A: not run."


def test_the_price_is_told_only_where_its_interval_lies_above_0():
    told = words.compared("s", "A", "B", Interval(0.2, 0.1, 0.3), lost=Interval(0.01, 0.005, 0.015))
    assert told.endswith("; at the price of 1.00 [0.50, 1.50] points of accuracy.")
    assert words.price(Interval(0.01, -0.01, 0.03)) == "no price is told, 1.00 [-1.00, 3.00] points"
    assert words.price(Interval(0.01, float("-inf"), float("inf"))) == "1.00 points of accuracy lost, one net"


CELLS = {
    "all above": (
        [Interval(0.2, 0.1, 0.3), Interval(0.1, 0.05, 0.15)],
        "A lies above B in 2 of 2 cells, by 0.100 to 0.200.",
    ),
    "all below": (
        [Interval(-0.2, -0.3, -0.1), Interval(-0.1, -0.2, -0.05)],
        "A lies below B in 2 of 2 cells, by 0.100 to 0.200.",
    ),
    "both": (
        [Interval(0.2, 0.1, 0.3), Interval(-0.1, -0.2, -0.05), Interval(0.0, -0.1, 0.1)],
        "A lies above B in 1 and below B in 1 of 3 cells; in 1 no difference is told. "
        "The effects go from -0.100 to 0.200.",
    ),
    "none told": (
        [Interval(0.0, -0.1, 0.1), Interval(0.1, 0.0, 0.2), None],
        "no difference between A and B is told in any of 2 cells. The effects go from 0.000 to 0.100.",
    ),
    "one cell": ([Interval(0.2, 0.1, 0.3)], "A lies above B, by 0.200 [0.100, 0.300]."),
}


@pytest.mark.parametrize(("cells", "said"), CELLS.values(), ids=CELLS)
def test_cells_are_counted_by_their_intervals(cells, said):
    assert words.counted("s", "A", "B", cells) == f"s: {said}"


def test_ends_and_leads_name_rows_that_were_run():
    assert words.counted("s", "A", "B", [None]) == "s, A against B: not run."
    assert words.ends("s", {"a": None}) == "s: not run."
    assert words.ends("s", {"a": 0.2, "b": Interval(0.1, 0.0, 0.2), "c": None}, decimals=1) == (
        "s is highest for a, 0.2, and lowest for b, 0.1."
    )
    assert words.ends("s", {"a": 1.0, "b": 1.0, "c": 1.0}) == "s is 1.000 for all of them."
    columns = {"x": {"a": 0.2, "b": 0.1}, "y": {"a": None, "b": 0.1}, "z": {"a": 0.3, "b": 0.1}}
    assert words.leads(columns) == "The highest mean: a in 2, b in 1 of 3 columns."
    assert words.leads({"x": {"a": None}}) == "Nothing was run."


def test_sentences_are_a_paragraph_on_a_page():
    assert repr(words.Said("a < b.", "c.")) == "a < b.\nc."
    assert words.Said("a < b.", "c.")._repr_html_() == '<p class="said">a &lt; b.<br>c.</p>'
    assert words.Said()._repr_html_() == ""


def test_a_box_is_readable_as_text_and_escapes_its_sentences_on_a_page():
    box = words.box("a < b", "c", note="two <seeds>")
    assert repr(box) == "What we found\n- a < b\n- c\n(two <seeds>)"
    shown = box._repr_html_()
    assert "<li>a &lt; b</li><li>c</li>" in shown
    assert "two &lt;seeds&gt;" in shown
    assert 'class="admonition-title">What we found' in shown
    assert "<small>" not in words.box("a")._repr_html_()
