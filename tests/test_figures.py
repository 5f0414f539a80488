"""Every figure and table of the pages is one call, has content, and names the cards it is made from."""

import ast
import inspect
import itertools
import json
import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from atexlib import show
from atexlib.experiments.findings import figures, report, verdicts, words
from atexlib.experiments.findings.figures import fooling, stability, tables, worst
from atexlib.show import Frames

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FUNCTIONS = {name: getattr(figures, name) for name in figures.__all__ if inspect.isfunction(getattr(figures, name))}

# What a function is called with here: those whose defaults take long are asked for a part.
ARGUMENTS = {
    "stability_table": (("spearman",), {"eps": (0.02, 0.1)}),
    "claim_cells": (("T13",), {}),
    "verdict_table": (("T3",), {"defense": "atex_ascent"}),
    "passive_table": ((), {"losses": ("location",)}),
    "every_cell": ((), {"attacks": ("targeted",), "eps": (0.1,)}),
    "transfer_maps": ((), {"losses": ("location",)}),
    "transfer_frames": ((), {"losses": ("location", "active")}),
}

# What a chapter should leave to the library: reading cards, making specs, filling the rows of a table.
PLUMBING = re.compile(
    r"\bverdicts\.|\breport\.(text|origin|seeds|curve|table|label|trials|worst)|\bexperiments\.(load|grid)|\bkind="
    r"|\bspecs?\b|\bcards?\b|metrics\"\]|\bpd\.\w+\(|\brows( \|?= |\[)|\.setdefault\("
)
MOST = 0.15

# Tables that are sentences already, lists of sources, or stand on the page of speed above its list of missed bars.
WORDLESS = re.compile(
    r"cards_of_|claim_cells|verdict_table|missed_bars|in_words|rivals_table|(growth|roofline|scaling|step)_table"
)
# Figures from cards whose sentences stand under a table of the same cells.
UNDER_A_TABLE = {"longer_maps"}


pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def agg():
    with mpl.rc_context():
        plt.switch_backend("Agg")
        yield
        plt.close("all")


@pytest.fixture
def read(monkeypatch):
    """The kinds of the cards that are looked for; none is found."""
    kinds = set()

    def looked_for(**spec):
        kinds.add(spec["kind"])
        return []

    def described(controls, _draw, say, **_options):
        return [say(*values) for values in itertools.product(*controls.values())]

    monkeypatch.setattr(verdicts, "_cards", looked_for)
    monkeypatch.setattr(show, "frames", described)
    return kinds


def called(name, **options):
    positional, keywords = ARGUMENTS.get(name, ((), {}))
    return FUNCTIONS[name](*positional, **keywords | options)


def content(found):
    """What a reader gets to see, as text, and the line of where it comes from."""
    if isinstance(found, plt.Figure):
        drawn = [part for ax in found.axes for part in (*ax.lines, *ax.images, *ax.collections, *ax.patches)]
        return "drawn" * bool(drawn), found.get_supxlabel()
    if isinstance(found, Frames):
        return "".join(found.texts), found.caption
    if isinstance(found, pd.io.formats.style.Styler):
        return found.data.to_string(), found.caption
    if isinstance(found, str):
        return found, found
    if isinstance(found, words.Said):
        return repr(found), "the figure above it"
    return pd.DataFrame(found).to_string() * (not found.empty), found.note


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_shows_something_and_says_where_it_comes_from(name):
    body, source = content(called(name))
    assert re.search(r"\d|drawn|fashion-mnist", body)
    assert source not in ("no card yet", report.MISSING)
    assert source or name.startswith("cards_of")  # such a table is itself a list of sources


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_one_line_of_docstring_and_options_by_keyword_alone(name):
    function = FUNCTIONS[name]
    assert inspect.getdoc(function).endswith(".")
    assert "\n" not in inspect.getdoc(function)
    parameters = inspect.signature(function).parameters.values()
    optional = [p for p in parameters if p.default is not p.empty and p.name != "metric"]
    assert all(p.kind is p.KEYWORD_ONLY for p in optional)


def test_a_table_stands_with_its_note_and_without_cuts():
    long = "a sentence that is longer than the fifty characters at which pandas cuts what it shows"
    table = tables.noted({"claim": [long] * 70}, "where from <b>\nand more", labelled=False)
    shown = table._repr_html_()
    assert shown.count(long) == 70
    assert shown.endswith("<small>where from &lt;b&gt;<br>and more</small></p>")
    assert "<th></th>" not in shown
    assert repr(table).endswith("where from <b>\nand more")
    assert "<p" not in tables.noted({"a": [1]})._repr_html_()
    assert type(table.T) is pd.DataFrame


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not WORDLESS.search(name)])
def test_under_each_table_a_sentence_says_what_it_shows(name):
    found = called(name)
    if isinstance(found, tables.Table):
        assert found.said.sentences
        assert all(re.search(r"\d.*\.$", sentence) for sentence in found.said.sentences)
        assert found.said._repr_html_() in found._repr_html_()
        assert repr(found.said) in repr(found)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_under_each_figure_from_cards_a_sentence_says_what_it_shows(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in cells]
    for code, following in itertools.pairwise([*sources, ""]):
        drawn = set(re.findall(r"^(?:figures|pages)\.(\w+)\(", code, re.M)) - UNDER_A_TABLE
        if drawn and "plt.show()" in code:
            assert re.fullmatch(r"(figures|pages)\.\w+_in_words\([^\n]*\)", following), code


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.endswith("_in_words")])
def test_without_cards_the_sentences_say_so(name, read):
    found = FUNCTIONS[name]()
    assert re.search("(?i)not run|nothing was|^$", repr(found)), found


def test_a_defence_that_was_judged_appears_without_an_edit(monkeypatch):
    known = worst.TREATED["atex"]
    monkeypatch.setitem(worst.TREATED.maps[0], "newest", known.__class__(known.train, "the newest"))
    assert "the newest" not in figures.worst_table().index
    real = verdicts.found
    pretend = lambda **spec: real(**{**spec, "defense": "own"} if spec.get("defense") == "newest" else spec)  # noqa: E731
    monkeypatch.setattr(worst.verdicts, "found", pretend)
    assert "the newest" in figures.worst_table().index


def test_what_was_not_run_is_said(monkeypatch):
    monkeypatch.setattr(stability, "load", lambda specs: [])
    assert (figures.stability_table("topk", dataset="digits", eps=(0.1,)) == report.MISSING).all(axis=None)
    assert figures.passive_table(dataset="digits").empty
    assert figures.passive_table(dataset="digits").note == "0 of 27 cells were run; not run"
    assert figures.training_minutes().note == report.MISSING
    axes = figures.stability_curves(dataset="digits").axes
    assert not any(ax.lines for ax in axes)


def test_numbers_are_those_of_the_cards():
    where = {"kind": "table", "dataset": "mnist", "attack": "targeted", "defense": "naive", "eps": 0.1}
    mean = verdicts.mean("topk", **where)
    table = figures.stability_table("topk", dataset="mnist", attack="targeted", eps=(0.1,), defenses=("naive",))
    assert table.iloc[0, 0] == str(mean)
    assert table.index[0] == f"naive, {len(verdicts.found(**where))} seeds"
    closed = verdicts.gap_closed("topk", where | {"defense": "none"}, where)
    none = verdicts.mean("topk", **where | {"defense": "none"}).mean
    assert closed.mean == pytest.approx((mean.mean - none) / (1 - none))


def test_what_chance_gives_stands_beside_each_measure_of_maps():
    table = figures.smoothness_table(datasets=("mnist",))
    (level,) = [name for name in table.index.get_level_values(-1) if name.startswith("random numbers")]
    assert table.loc[("mnist", level), "mass"].startswith("0.178")  # the share of pixels that are not black
    assert "less mass on the object than random numbers" in repr(table.said)


def test_the_curve_of_a_detector_that_says_one_number_is_the_diagonal(monkeypatch):
    monkeypatch.setattr(verdicts, "per_image", lambda metric, **spec: dict.fromkeys(range(3), torch.full((8,), 0.5)))
    lines = [line for ax in figures.roc_curves().axes for line in ax.lines]
    plt.close("all")
    assert len(lines) > 2  # those of a coin
    for line in lines:
        assert line.get_xdata() == pytest.approx(line.get_ydata())


def test_maps_of_a_cell_that_was_not_run_are_empty():
    spec = dict(next(iter(fooling._cells(("active",), "digits").values())))
    assert fooling._maps(spec, "before", channels=2).shape == (3, 2, 8, 16)


# The chapters


def statements(code):
    """Each simple statement, and the head of each compound one, as its lines without comments, in order."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            last = node.body[0].lineno - 1 if getattr(node, "body", None) else node.end_lineno
            found = [line.strip() for line in lines[node.lineno - 1 : max(last, node.lineno)]]
            yield [line for line in found if line and not line.startswith("#")]


def plumbing(nb):
    """The share of a chapter's code lines, without imports, that stand in statements which are plumbing."""
    cells = ["".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "code"]
    found = [part for cell in cells for part in statements(re.sub(r"^(\s*)%.*", r"\1pass", cell, flags=re.M))]
    mine = [part for part in found if PLUMBING.search("\n".join(part))]
    return sum(map(len, mine)) / sum(map(len, found))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_call_the_library_for_what_is_read_from_cards(path):
    share = plumbing(json.loads(path.read_text(encoding="utf-8")))
    print(f"{path.stem}: {share:.1%} plumbing")
    assert share < MOST


def test_plumbing_is_seen():
    code = "import pandas\n\n# a comment\nx = 1\nif x:\n    rows = {\n        1: 2,\n    }"
    assert list(statements(code)) == [["x = 1"], ["if x:"], ["rows = {", "1: 2,", "}"]]
    assert plumbing({"cells": [{"cell_type": "code", "source": [code]}]}) == 0.6


def code_and_badge(nb):
    """A chapter's code, and the kinds that its badge names."""
    code = "\n".join("".join(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "code")
    badge = re.search(r"freshness\.badge\((.*?)\)", code, re.S)
    return code, set(ast.literal_eval(f"[{badge[1]}]")) if badge else set()


@pytest.mark.parametrize("path", CHAPTERS[7:13], ids=lambda path: path.stem)
def test_the_badge_speaks_of_all_cards_that_the_chapters_figures_read(path, read):
    code, badge = code_and_badge(json.loads(path.read_text(encoding="utf-8")))
    names = set(re.findall(r"\bfigures\.(\w+)\(", code))
    assert names
    for name in names - {"verdict_table"}:
        called(name)
    for name in set(re.findall(r'"([TF]\d+)"', code)):
        figures.CLAIMS[name].cells("atex")
    assert read == badge


def test_every_function_is_called_by_a_page():
    pages = [*CHAPTERS, *(ROOT / "book").glob("*.md")]
    used = {name for page in pages for name in re.findall(r"\bfigures\.(\w+)", page.read_text(encoding="utf-8"))}
    assert set(FUNCTIONS) <= used
