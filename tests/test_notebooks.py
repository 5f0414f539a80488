"""Every notebook keeps the shape that the book, Colab, papermill and nbval rely on.

A check takes a notebook (the dict of its JSON) and returns what is wrong with it, a list of sentences. Each check is
first shown a notebook spoiled on purpose: a check that cannot fail checks nothing.
"""

import ast
import json
import re
import statistics
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

from atexlib.experiments import KINDS

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = CONFIG["repository"]["url"]  # `make address` sets it, here and in every notebook
COLAB = f"{REPOSITORY.replace('https://github.com', 'https://colab.research.google.com/github')}/blob/main/notebooks"


def source(cell):
    return "".join(cell["source"])


def code_cells(nb):
    return [cell for cell in nb["cells"] if cell["cell_type"] == "code"]


def prose(nb):
    """The text of the markdown cells, without fenced code (a comment in it is no heading)."""
    text = "\n\n".join(source(cell) for cell in nb["cells"] if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def check_format(nb):
    version = (nb["nbformat"], nb["nbformat_minor"])
    problems = [] if version == (4, 5) else [f"nbformat {version}, not 4.5"]
    problems += [error.message for error in nbformat.validator.iter_validate(nbformat.from_dict(nb))]
    ids = [cell.get("id") for cell in nb["cells"]]
    problems += [f"the cell id {i!r} occurs twice" for i in sorted({i for i in ids if i and ids.count(i) > 1})]
    if nb["metadata"].get("kernelspec", {}).get("name") != "python3":
        problems.append("the kernel is not python3")
    return problems


def check_no_outputs(nb):
    return [
        f"code cell {i} was committed with its outputs or execution count"
        for i, cell in enumerate(code_cells(nb))
        if cell["outputs"] or cell["execution_count"] is not None
    ]


def check_parameters(nb):
    cells = [cell for cell in code_cells(nb) if "parameters" in cell["metadata"].get("tags", [])]
    if len(cells) != 1:
        return [f"{len(cells)} code cells are tagged parameters, not 1"]
    assignments = (node for node in ast.parse(source(cells[0])).body if isinstance(node, ast.Assign))
    names = {target.id for node in assignments for target in node.targets if isinstance(target, ast.Name)}
    missing = {"preset", "dataset", "device", "seed", "recompute"} - names
    return [f"the parameters cell does not assign {name}" for name in sorted(missing)]


def check_cell_length(nb):
    lengths = [len(source(cell).splitlines()) for cell in code_cells(nb)]
    return [f"code cell {i} has {n} lines, more than 25" for i, n in enumerate(lengths) if n > 25]


def check_figures(nb):
    problems = []
    for i, cell in enumerate(code_cells(nb)):
        if "plt.show()" in source(cell):
            options = cell["metadata"].get("mystnb", {})
            if len(options.get("image", {}).get("alt", "").strip()) <= 20:
                problems.append(f"the figure of code cell {i} has no alt text of more than 20 characters")
            if not options.get("figure", {}).get("caption", "").strip():
                problems.append(f"the figure of code cell {i} has no caption")
    return problems


TABLE = re.compile(r"DataFrame|\.style\b(?!\(\))|(?<!')\btable\b|set_index|\.T\b|swap_matrix\(")
FROM = re.compile(r"\b(note|about|foot|origin|lab\.test\.name|PRESETS)\b|\b(figures|pages)\.\w+\(")


def check_notes(nb):
    """A table or figure says where it comes from: data set, preset, seed, how many images."""
    problems = []
    for i, cell in enumerate(code_cells(nb)):
        code = strip_magics(source(cell))
        *_, last = ast.parse(code).body or [None]
        is_table = isinstance(last, ast.Expr) and TABLE.search(ast.unparse(last))
        if (is_table or "plt.show()" in code) and not FROM.search(code):
            problems.append(f"the table or figure of code cell {i} does not say where it comes from")
    return problems


def check_directives(nb):
    return [
        f"markdown cell {i} has a backtick directive, which Colab shows raw: use a colon fence"
        for i, cell in enumerate(nb["cells"])
        if cell["cell_type"] == "markdown" and re.search(r"^\s*`{3,}\{", source(cell), re.M)
    ]


def check_title(nb):
    titles = re.findall(r"^# .*", prose(nb), re.M)
    return [] if len(titles) == 1 else [f"{len(titles)} first-level headings, not 1: {titles}"]


def check_median(nb):
    median = statistics.median(len(source(cell).splitlines()) for cell in code_cells(nb))
    return [] if median <= 8 else [f"the median code cell has {median} lines, more than 8"]


# How long a chapter takes to read. Adults read non-fiction at 175 to 300 words a minute (Brysbaert 2019); a text that
# one studies belongs at the slow end. Reviewers of code, who look for mistakes, take 7 to 12 seconds a line (300 to 500
# lines an hour, Cohen 2006); to follow code that the text explains takes less. An equation or a figure is looked at for
# half a minute, beside its caption. Exercises are read and not done, so their judges are not read either.
WORDS_A_MINUTE = 200
SECONDS_A_LINE = 5
SECONDS_A_FIGURE = SECONDS_AN_EQUATION = 30


def reading_time(nb):
    """Minutes, by the rule above. Not read: what is hidden, and the parameters, which are those of every chapter."""
    text, equations = re.subn(r"\$\$.*?\$\$", "", prose(nb), flags=re.S)
    captions = [cell["metadata"].get("mystnb", {}).get("figure", {}).get("caption") for cell in nb["cells"]]
    captions = [caption for caption in captions if caption]
    words = sum(bool(re.search(r"[^\W\d_]", word)) for word in " ".join([text, *captions]).split())
    code = "\n".join(source(cell) for cell in code_cells(nb) if not cell["metadata"].get("tags"))
    code = re.sub(r"^def check_.*?(?=^\S|\Z)", "", code, flags=re.M | re.S)
    lines = sum(bool(line.strip()) for line in code.splitlines())
    seconds = lines * SECONDS_A_LINE + equations * SECONDS_AN_EQUATION + len(captions) * SECONDS_A_FIGURE
    return words / WORDS_A_MINUTE + seconds / 60


def check_reading_time(nb):
    """The time that the chapter states is right by 35 % or by 5 minutes."""
    stated = re.search(r"\breads in (\d+) min", prose(nb))
    if not stated:
        return ["no line 'reads in N min'"]
    minutes = reading_time(nb)
    right = abs(int(stated[1]) - minutes) <= max(0.35 * minutes, 5)
    return [] if right else [f"{stated[0]}, but it is {minutes:.0f} by the rule"]


def check_sections(nb):
    headings = {re.sub(r"^#+ +", "", line).strip() for line in re.findall(r"^#{2,} .*", prose(nb), re.M)}
    return [f"no section {name!r}" for name in ("Summary", "Limits", "References") if name not in headings]


def check_badge(nb, name):
    return [] if f"({COLAB}/{name}.ipynb)" in prose(nb) else [f"no badge that links to {COLAB}/{name}.ipynb"]


def check_freshness(nb):
    """A chapter that names the cards of a kind shows a badge that speaks of them; test_figures asks the rest."""
    code = "\n".join(source(cell) for cell in code_cells(nb))
    named = set(re.findall(r"""kind"?\s*[:=]\s*"(\w+)\"""", code)) & set(KINDS)
    found = re.search(r"freshness\.badge\(([^)]*)\)", code)
    badge = set(re.findall(r'"(\w+)"', found[1])) if found else set()
    return [f"the badge does not speak of the cards of {name}" for name in sorted(named - badge)]


def check_install(nb):
    """In Colab, and only there, the first code cell installs the package alone, from the book's own repository."""
    wanted = 'import sys\n\nif "google.colab" in sys.modules:  # does nothing outside Colab\n'
    wanted += f'    %pip install -q "git+{REPOSITORY}"'
    return [] if source(code_cells(nb)[0]) == wanted else ["the first code cell is not the one that installs in Colab"]


def check_toc(toc, root):
    """What the table of contents names and is not there, and the notebooks that it leaves out."""
    names = toc_files(toc)
    problems = [f"_toc.yml names {name}, which is no file" for name in names if not list(root.glob(f"{name}.*"))]
    notebooks = [*root.glob("notebooks/*.ipynb"), *root.glob("notebooks/solutions/*.ipynb")]
    notebooks = {path.relative_to(root).with_suffix("").as_posix() for path in notebooks}
    return problems + [f"{name} is not in _toc.yml" for name in sorted(notebooks - set(names))]


def toc_files(toc):
    """All files that it names: pages, and those that are listed under another page."""
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    return [toc["root"]] + [page["file"] for entry in entries for page in (entry, *entry.get("sections", []))]


EVERYWHERE = [
    check_format, check_no_outputs, check_parameters, check_cell_length, check_figures, check_directives, check_title,
    check_install,
]  # fmt: skip
IN_CHAPTERS = [check_median, check_notes, check_reading_time, check_sections, check_freshness]


@pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=lambda path: path.relative_to(ROOT / "notebooks").as_posix())
def test_notebook_has_the_agreed_shape(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    problems = [problem for check in EVERYWHERE for problem in check(nb)]
    if path in CHAPTERS:
        problems += [problem for check in IN_CHAPTERS for problem in check(nb)] + check_badge(nb, path.stem)
    assert problems == []


def test_every_chapter_has_its_solutions_and_no_solution_is_an_orphan():
    assert CHAPTERS
    assert [path.name for path in CHAPTERS] == [path.name for path in SOLUTIONS]


def self_checks(nb):
    """The functions by which a chapter judges an answer: name to source."""
    functions = (node for cell in code_cells(nb) for node in ast.walk(ast.parse(strip_magics(source(cell)))))
    return {f.name: ast.unparse(f) for f in functions if isinstance(f, ast.FunctionDef) and f.name.startswith("check_")}


def strip_magics(code):
    return re.sub(r"^(\s*)%.*", r"\1pass", code, flags=re.M)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_solutions_pass_the_chapters_own_self_checks(path):
    """nbval runs the solutions, each of which asserts "right": here that it asks the chapter's own judges."""
    chapter, solutions = (json.loads(p.read_text(encoding="utf-8")) for p in (path, SOLUTIONS[CHAPTERS.index(path)]))
    checks = self_checks(chapter)
    assert checks
    assert self_checks(solutions) == checks
    asserted = "\n".join(source(cell) for cell in code_cells(solutions))
    assert all(re.search(rf"assert {name}\(\w+\) == \"right\"", asserted) for name in checks)


def test_toc_and_files_agree():
    assert check_toc(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")), ROOT) == []


# The checks themselves


def good_notebook():
    """A chapter in which no check finds anything."""
    text = f"# Title\n\n[![Colab](x.svg)]({COLAB}/name.ipynb)\n\nreads in 5 min\n\n```\n# a comment\n```\n"
    text += "".join(f"\n## {name}\n" for name in ("Summary", "Limits", "References"))
    parameters = "preset = 'smoke'\ndataset = 'digits'\ndevice = 'cpu'\nseed = 0\nrecompute = False"
    figure = {"image": {"alt": "A line that rises from left to right."}, "figure": {"caption": "A line."}}
    install = 'import sys\n\nif "google.colab" in sys.modules:  # does nothing outside Colab\n'
    install += f'    %pip install -q "git+{REPOSITORY}"'
    cells = [
        nbformat.v4.new_markdown_cell(text),
        nbformat.v4.new_code_cell(install),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("plt.plot([1, 2])\nshow.foot(lab.note)\nplt.show()", metadata={"mystnb": figure}),
        nbformat.v4.new_code_cell("print(lab.note)\npd.DataFrame(rows).T"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3"}
    return json.loads(json.dumps(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})))


def replace(index, old, new):
    """A change of one cell's source; it fails where the good notebook no longer has the old text."""

    def spoil(nb):
        assert old in nb["cells"][index]["source"]
        nb["cells"][index]["source"] = nb["cells"][index]["source"].replace(old, new)

    return spoil


SPOILED = {
    "an older format": (check_format, lambda nb: nb.update(nbformat_minor=4)),
    "a cell without id": (check_format, lambda nb: nb["cells"][2].pop("id")),
    "an id twice": (check_format, lambda nb: nb["cells"][2].update(id=nb["cells"][0]["id"])),
    "another kernel": (check_format, lambda nb: nb["metadata"]["kernelspec"].update(name="my-env")),
    "an execution count": (check_no_outputs, lambda nb: nb["cells"][2].update(execution_count=1)),
    "an output": (check_no_outputs, lambda nb: nb["cells"][2]["outputs"].append({})),
    "no parameters": (check_parameters, lambda nb: nb["cells"][2]["metadata"].clear()),
    "two parameters cells": (check_parameters, lambda nb: nb["cells"][3]["metadata"].update(tags=["parameters"])),
    "no seed": (check_parameters, replace(2, "seed", "sead")),
    "26 lines": (check_cell_length, replace(3, "plt.plot([1, 2])", "x = 1\n" * 25)),
    "no alt text": (check_figures, lambda nb: nb["cells"][3]["metadata"]["mystnb"].pop("image")),
    "a short alt text": (check_figures, lambda nb: nb["cells"][3]["metadata"]["mystnb"]["image"].update(alt="A line")),
    "no caption": (check_figures, lambda nb: nb["cells"][3]["metadata"]["mystnb"]["figure"].pop("caption")),
    "a figure without a note": (check_notes, replace(3, "show.foot(lab.note)\n", "")),
    "a table without a note": (check_notes, replace(4, "print(lab.note)\n", "")),
    "a backtick directive": (check_directives, replace(0, "```\n# a", "```{note}\n# a")),
    "no title": (check_title, replace(0, "# Title", "Title")),
    "two titles": (check_title, replace(0, "## Limits", "# Limits")),
    "long cells": (check_median, lambda nb: [replace(i, "\n", "\n" * 9)(nb) for i in (2, 3)]),
    "no reading time": (check_reading_time, replace(0, "reads in 5 min", "reads fast")),
    "a reading time too long": (check_reading_time, replace(0, "reads in 5 min", "reads in 15 min")),
    "a reading time too short for the words": (
        check_reading_time,
        replace(0, "## Summary", "word " * 3000 + "\n## Summary"),
    ),
    "a reading time too short for the code": (check_reading_time, replace(3, "plt.plot([1, 2])", "x = 1\n" * 150)),
    "no limits": (check_sections, replace(0, "## Limits", "## Limitless")),
    "cards that no badge speaks of": (check_freshness, replace(3, "plt.plot", 'found(kind="table")\nplt.plot')),
    "a badge for other cards": (
        check_freshness,
        replace(3, "plt.plot", 'freshness.badge("table")\nfound(kind="variants")\nplt.plot'),
    ),
    "an install of another repository": (check_install, replace(1, "git+", "git+https://example.org/")),
    "an install that pins": (check_install, replace(1, '"git+', '"torch==2.0" "git+')),
    "no install": (check_install, lambda nb: nb["cells"].pop(1)),
    "a badge to another chapter": (lambda nb: check_badge(nb, "name"), replace(0, "/name.ipynb", "/other.ipynb")),
}


@pytest.mark.parametrize(("check", "spoil"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_notebook_is_caught(check, spoil):
    nb = good_notebook()
    assert check(nb) == []
    spoil(nb)
    assert check(nb) != []


def test_a_wrong_toc_is_caught(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("intro.md", "notebooks/a.ipynb"):
        (tmp_path / name).touch()
    toc = {"root": "intro", "parts": [{"chapters": [{"file": "notebooks/a"}]}]}
    assert check_toc(toc, tmp_path) == []
    (tmp_path / "notebooks/b.ipynb").touch()
    toc["parts"][0]["chapters"].append({"file": "lost", "sections": [{"file": "intro"}]})
    assert check_toc(toc, tmp_path) == ["_toc.yml names lost, which is no file", "notebooks/b is not in _toc.yml"]


# A chapter with other parameters

CHAPTER = ROOT / "notebooks" / "00_start.ipynb"  # the quickest
PARAMETERS = {"preset": "smoke", "dataset": "digits", "device": "cpu", "seed": 3}


def execute(path, output, **parameters):
    return papermill.execute_notebook(path, output, parameters, cwd=path.parent, progress_bar=False)


def test_a_chapter_runs_by_papermill_with_other_parameters(tmp_path):
    nb = execute(CHAPTER, tmp_path / "out.ipynb", **PARAMETERS)
    injected = [cell for cell in nb.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(injected) == 1
    assert "seed = 3" in injected[0].source
    outputs = [output for cell in nb.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_an_unknown_preset_stops_the_chapter_and_names_the_known_ones(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="ValueError") as error:
        execute(CHAPTER, tmp_path / "out.ipynb", **PARAMETERS | {"preset": "huge"})
    for name in ("huge", "smoke", "quick", "reduced", "paper"):
        assert name in error.value.evalue
