"""Writes the table of all exercises, with points and minutes, into `book/teaching.md`: `python book/exercises.py`.

Points go by the kind of an exercise. So do the minutes, but for code: there they go by the lines of the solution.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
PAGE = ROOT / "book" / "teaching.md"
START, END = "<!-- made by book/exercises.py -->", "<!-- end -->"
QUESTION = re.compile(r"^(:{3,})\{admonition\} Exercise (\d+) \((\w+)\)\n(.*?)^\1$", re.M | re.S)
POINTS = {"concept": 2, "code": 4, "open": 6}
MINUTES = {"concept": 10, "code": 15, "open": 45}
MINUTES_A_LINE = 2  # of a solution's code, on top


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter, as its box states it."""

    chapter: str
    number: int
    kind: str
    text: str
    lines: int = 0
    """How long the code is that answers it, in the solution; 0 where it asks for none."""

    @property
    def points(self) -> int:
        """What a full answer is worth."""
        return POINTS[self.kind]

    @property
    def minutes(self) -> int:
        """How long it should take, in steps of five."""
        return 5 * round((MINUTES[self.kind] + MINUTES_A_LINE * self.lines) / 5)


def chapters() -> list[Path]:
    """The notebooks of the chapters, in order."""
    return sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook of the book."""
    return nbformat.read(path, as_version=4)


def title(nb: nbformat.NotebookNode) -> str:
    """The headline of a notebook."""
    return next(re.findall(r"^# (.+)", cell.source, re.M)[0] for cell in nb.cells if cell.cell_type == "markdown")


def defined(cell: nbformat.NotebookNode) -> dict[str, int]:
    """The functions and classes that a code cell defines, and the lines of each."""
    tree = ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", cell.source, flags=re.M)).body if cell.cell_type == "code" else []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node.end_lineno - node.lineno + 1 for node in tree if isinstance(node, kinds)}


def exercises(path: Path) -> list[Exercise]:
    """The exercises of a chapter."""
    solutions = path.parent / "solutions" / path.name
    solved: dict[str, int] = {}
    for cell in read(solutions).cells if solutions.exists() else []:
        solved |= defined(cell)
    found: list[list] = []
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            found += [[number, kind, text, 0] for _, number, kind, text in QUESTION.findall(cell.source)]
        elif found and "your answer" in cell.source:
            found[-1][-1] += sum(solved.get(name, 0) for name in defined(cell))
    return [Exercise(path.stem, int(number), *rest) for number, *rest in found]


def table() -> str:
    """All exercises as a table in Markdown."""
    lines = ["| Chapter | Exercise | Kind | Points | Minutes |", "| --- | --- | --- | --- | --- |"]
    every = [exercise for path in chapters() for exercise in exercises(path)]
    for path in chapters():
        name = f"[{title(read(path))}](../notebooks/{path.name})"
        for exercise in exercises(path):
            lines.append(f"| {name} | {exercise.number} | {exercise.kind} | {exercise.points} | {exercise.minutes} |")
            name = ""
    total = f"| all | {len(every)} | | {sum(e.points for e in every)} | {sum(e.minutes for e in every)} |"
    return "\n".join([*lines, total])


def with_table(page: str) -> str:
    """A page with today's table between its two marks."""
    before, rest = page.split(START)
    return f"{before}{START}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
