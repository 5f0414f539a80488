"""What a teacher gets: the table of exercises, the copies for a course, the slides."""

import ast
import re
import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import course
import exercises
import slides

CHAPTERS = exercises.chapters()
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def both(path):
    return exercises.read(path), exercises.read(path.parent / "solutions" / path.name)


def sources(cells, kind):
    return [cell.source for cell in cells if cell.cell_type == kind]


def runs_through(nb):
    """What is wrong with a notebook before it is run."""
    problems = [error.message for error in nbformat.validator.iter_validate(nb)]
    ids = [cell.id for cell in nb.cells]
    problems += [f"the id {i} occurs twice" for i in set(ids) if ids.count(i) > 1]
    for code in sources(nb.cells, "code"):
        ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", code, flags=re.M))
    return problems


def answers(solutions):
    """The code that answers the exercises: of each cell below the first question."""
    first = next(i for i, cell in enumerate(solutions.cells) if "## Exercise" in cell.source)
    return sources(solutions.cells[first:], "code")


# The table of exercises


def test_the_table_of_exercises_is_that_of_today():
    page = exercises.PAGE.read_text(encoding="utf-8")
    assert exercises.with_table(page) == page, "python book/exercises.py writes it anew"


@every_chapter
def test_every_box_of_an_exercise_is_read(path):
    nb, solutions = both(path)
    found = exercises.exercises(path)
    boxes = re.findall(r"\{admonition\} Exercise", "\n".join(sources(nb.cells, "markdown")))
    assert len(found) == len(boxes) >= 3
    assert [exercise.number for exercise in found] == list(range(1, len(found) + 1))
    assert set(course.sections(solutions)) == {0, *(exercise.number for exercise in found)}
    assert all(exercise.text.strip() and exercise.points and exercise.minutes >= 10 for exercise in found)


def test_minutes_go_by_the_lines_of_the_solution(tmp_path):
    cell, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    box = "::::{admonition} Exercise %d (%s)\n:class: exercise\nDo it.\n::::\n\n"
    chapter = [cell(box % (1, "concept") + box % (2, "code")), code("def f(x):\n    return None  # your answer")]
    solved = [cell("## Exercise 2"), code("def f(x):\n    y = x\n    z = y\n    w = z\n    return w")]
    (tmp_path / "solutions").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=chapter), tmp_path / "00_a.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=solved), tmp_path / "solutions" / "00_a.ipynb")
    first, second = exercises.exercises(tmp_path / "00_a.ipynb")
    assert (first.points, first.minutes, first.lines) == (2, 10, 0)
    assert (second.points, second.minutes, second.lines) == (4, 25, 5)
    assert first.text == ":class: exercise\nDo it.\n"


# The copies for a course


@every_chapter
def test_the_students_copy_has_the_questions_and_no_answers(path):
    nb, solutions = both(path)
    copied = course.student(nb)
    assert runs_through(copied) == []
    code, text = "\n".join(sources(copied.cells, "code")), "\n".join(sources(copied.cells, "markdown"))
    given = "\n".join(sources(nb.cells, "code"))  # the solutions repeat what the chapter hands out
    assert [answer for answer in answers(solutions) if answer in code and answer not in given] == []
    assert "check_" not in code
    assert "solutions/" not in text
    assert "colab" not in text.lower() or "[![Open" not in text
    before = "\n".join(sources(nb.cells, "markdown"))
    assert len(exercises.QUESTION.findall(text)) == len(exercises.QUESTION.findall(before))
    stubs = [cell.source for cell in nb.cells if cell.cell_type == "code" and "your answer" in cell.source]
    assert stubs
    assert all(stub in code for stub in stubs)
    first = course.start(nb.cells)
    assert sources(copied.cells[:first], "code") == sources(nb.cells[:first], "code")
    assert course.WITHHELD in code


@every_chapter
def test_the_instructors_copy_has_each_solution_below_its_question(path):
    nb, solutions = both(path)
    copied = course.instructor(nb, solutions)
    assert runs_through(copied) == []
    code = sources(copied.cells, "code")
    assert [answer for answer in answers(solutions) if answer not in code] == []
    assert [cell for cell in sources(nb.cells, "code") if cell not in code] == []
    marks = [
        found[1] or found[2]
        for text in sources(copied.cells, "markdown")
        if (found := re.match(r":{3,}\{admonition\} (Exercise \d+)|### Solution to (Exercise \d+)", text))
    ]
    assert marks == [mark for exercise in exercises.exercises(path) for mark in [f"Exercise {exercise.number}"] * 2]
    assert "solutions/" not in "\n".join(sources(copied.cells, "markdown"))


def test_what_only_a_check_uses_is_withheld_and_drop_downs_with_answers_go():
    code = nbformat.v4.new_code_cell
    cells = [
        code("def data():\n    return 1"),
        code("def f(x):\n    return data()  # your answer"),
        code("def slips(x):\n    return inner(x)"),
        code("def inner(x):\n    return x"),
        code("def check_f(f):\n    return slips(f(data()))"),
        code("check_f(f)"),
        code("def g(x):\n    return 2", metadata={"tags": ["solution"]}),
    ]
    secret = course.withheld(cells)
    assert [i for i, cell in enumerate(cells) if cell.id in secret] == [2, 3, 4, 6]
    text = "Why?\n\n:::{dropdown} A solution\nBecause.\n:::\n\n:::{note}\nStay.\n:::\n"
    assert course.without_answers(text) == "Why?\n\n:::{note}\nStay.\n:::\n"


def test_both_copies_are_written(tmp_path):
    course.main(str(tmp_path))
    names = [path.name for path in CHAPTERS]
    for copy_for in ("student", "instructor"):
        assert sorted(path.name for path in (tmp_path / copy_for).iterdir()) == names


def test_the_page_of_solutions_lists_each_one():
    page = (exercises.ROOT / "book" / "solutions.md").read_text(encoding="utf-8")
    for path in CHAPTERS:
        assert f"- [Chapter {exercises.title(exercises.read(path))}](../notebooks/solutions/{path.name})" in page


# The slides


@every_chapter
def test_slides_hold_the_title_the_figures_and_the_captions(path):
    nb = exercises.read(path)
    made = slides.assemble(nb)
    assert runs_through(made) == []
    assert made.cells[0].source == f"# {exercises.title(nb)}"
    figures = [cell for cell in nb.cells if slides.caption(cell)]
    assert figures
    shown = [cell for cell in made.cells if cell.metadata["slideshow"]["slide_type"] != "skip"]
    assert sources(shown, "code") == [cell.source for cell in figures]
    assert len(sources(shown, "markdown")) == 1 + len(figures)
    assert sources(made.cells, "code") == sources(nb.cells[: course.start(nb.cells)], "code")
    assert "{" not in "".join(re.sub(r"\$.*?\$", "", text) for text in sources(shown, "markdown"))


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg"])
def test_the_page_of_slides_shows_each_figure_above_its_caption(kind):
    figure = {"mystnb": {"figure": {"caption": "**A line** of length $a_1 < 2$."}, "image": {"alt": 'A "line"'}}}
    cells = [
        nbformat.v4.new_markdown_cell("# 3 Lines"),
        nbformat.v4.new_code_cell("x = 1"),
        nbformat.v4.new_code_cell("plt.show()", metadata=figure),
        nbformat.v4.new_markdown_cell("## Exercises"),
    ]
    cells[2].outputs = [nbformat.v4.new_output("display_data", {kind: "AAAA\n", "text/plain": "a line"})]
    first, second = slides.pages(slides.assemble(nbformat.v4.new_notebook(cells=cells)))
    assert first.strip() == "<h1>3 Lines</h1>"
    assert second.startswith(f'<img alt="A &quot;line&quot;" src="data:{kind};base64,AAAA">')
    assert r'<strong>A line</strong> of length <span class="math inline">\(a_1 &lt; 2\)</span>.' in second
    assert "x = 1" not in second


def test_slides_of_a_book_that_was_not_built_say_so(tmp_path):
    with pytest.raises(SystemExit, match="run `make book` first"):
        slides.main(str(tmp_path / "cache"), str(tmp_path / "slides"))
