"""Two copies of the chapters for a course: `python book/course.py [FOLDER]`, or `make course`.

FOLDER/student has the chapters without what gives answers away: no solutions, and in place of each check a line that
says that the teacher has it. FOLDER/instructor has the checks, and under each question its solution.
"""

import ast
import copy
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from exercises import NOTEBOOKS, QUESTION, ROOT, chapters, defined, read
from nbformat import NotebookNode, v4, write

SOLUTION = re.compile(r"^## Exercise (\d+).*?(?=^## |\Z)", re.M | re.S)
WITHHELD = "# The check of this exercise is with your teacher."


def start(cells: list[NotebookNode]) -> int:
    """Where the exercises of a chapter begin."""
    return next(
        i
        for i, cell in enumerate(cells)
        if cell.cell_type == "markdown" and re.search("^## Exercises", cell.source, re.M)
    )


def names(cell: NotebookNode) -> set[str]:
    """The names that a code cell uses."""
    tree = ast.walk(ast.parse(re.sub(r"^(\s*)%.*", r"\1pass", cell.source, flags=re.M)))
    return {node.id for node in tree if isinstance(node, ast.Name)}


def plain(text: str) -> str:
    """Prose that stands alone: no Colab button, and no links to pages and solutions that the copy lacks."""
    text = re.sub(r"^\[!\[Open in Colab\].*\n+|^.*\]\(solutions/.*\n*", "", text, flags=re.M)
    return re.sub(r"(?<!!)\[([^\]]+)\]\(\.\./book/[^)]*\)", r"\1", text)


def without_answers(text: str) -> str:
    """Prose without the drop-downs that hold answers."""
    return re.sub(r"^(:{3,})\{dropdown\}.*(?:solution|answer).*\n(?s:.*?)^\1$\n*", "", text, flags=re.M | re.I)


def withheld(cells: list[NotebookNode]) -> set[str]:
    """The ids of the code cells that give answers away: the checks, what only they use, and solutions."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    secret = {cell.id for cell in code if any(name.startswith("check_") for name in defined(cell))}
    secret |= {cell.id for cell in code if any("solution" in tag for tag in cell.metadata.get("tags", []))}
    while True:
        asked = set().union(*(names(cell) for cell in code if cell.id in secret), set())
        open_to_all = set().union(*(names(cell) for cell in code if cell.id not in secret), set())
        more = {c.id for c in code if defined(c) and defined(c).keys() <= asked - open_to_all} - secret
        more -= {cell.id for cell in code if "your answer" in cell.source}
        if not more:
            return secret
        secret |= more


def student(nb: NotebookNode) -> NotebookNode:
    """A chapter without solutions and checks."""
    nb = copy.deepcopy(nb)
    first = start(nb.cells)
    secret = withheld(nb.cells[first:])
    for i, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            cell.source = plain(without_answers(cell.source) if i >= first else cell.source)
        elif i >= first and re.search(r"^(?:print\()?check_\w+\(", cell.source, re.M):
            cell.source = WITHHELD
            secret.discard(cell.id)
    nb.cells = [cell for cell in nb.cells if cell.id not in secret]
    return nb


def parts(nb: NotebookNode, mark: re.Pattern[str]) -> Iterator[NotebookNode]:
    """The cells of a notebook, with what a pattern finds in its prose in cells of their own."""
    for cell in nb.cells:
        cuts = [match.span() for match in mark.finditer(cell.source)] if cell.cell_type == "markdown" else []
        edges = sorted({0, len(cell.source), *(place for cut in cuts for place in cut)})
        for k, (low, high) in enumerate(pairwise(edges)):
            if cell.source[low:high].strip():
                more = {"id": f"{cell.id[:60]}-{k}"} if k else {}
                yield NotebookNode({**copy.deepcopy(cell), "source": cell.source[low:high].strip("\n"), **more})
        if not cell.source:
            yield cell


def sections(solutions: NotebookNode) -> dict[int, list[NotebookNode]]:
    """The cells of a notebook of solutions by exercise; 0 has the cell of imports, which all need."""
    found: dict[int, list[NotebookNode]] = {0: []}
    for cell in parts(solutions, SOLUTION):
        heading = SOLUTION.match(cell.source) if cell.cell_type == "markdown" else None
        if heading:
            found[int(heading[1])] = []
        list(found.values())[-1].append(cell)
    tags = [cell.metadata.get("tags", []) for cell in found[0]]
    kept = (
        cell for cell, tag in zip(found[0], tags, strict=True) if cell.cell_type == "code" and "parameters" not in tag
    )
    found[0] = [cell for cell in kept if "google.colab" not in cell.source]
    return found


def instructor(nb: NotebookNode, solutions: NotebookNode) -> NotebookNode:
    """A chapter with its checks, and under each question its solution."""
    given, have = sections(solutions), {cell.source for cell in nb.cells if cell.cell_type == "code"}
    out = v4.new_notebook(metadata=copy.deepcopy(nb.metadata))
    waiting: list[int] = []

    def answer() -> None:
        for number in waiting:
            cells = given[number]
            cells[0].source = re.sub(r"^## ", "### Solution to ", cells[0].source)
            out.cells += [cell for cell in cells if cell.cell_type == "markdown" or cell.source not in have]
        waiting.clear()

    for cell in parts(nb, QUESTION):
        asked = QUESTION.match(cell.source) if cell.cell_type == "markdown" else None
        if waiting and cell.cell_type == "markdown":
            answer()
        if asked:
            waiting.append(int(asked[2]))
        out.cells.append(cell)
        if cell.cell_type == "markdown" and re.search(r"^## Exercises", cell.source, re.M):
            out.cells += given[0]
    answer()
    for cell in out.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source)
    return out


def main(folder: str = str(ROOT / "_build" / "course")) -> None:
    """Write both copies of every chapter."""
    for copy_for in ("student", "instructor"):
        (Path(folder) / copy_for).mkdir(parents=True, exist_ok=True)
    for path in chapters():
        nb, solutions = read(path), read(NOTEBOOKS / "solutions" / path.name)
        write(student(nb), Path(folder) / "student" / path.name)
        write(instructor(nb, solutions), Path(folder) / "instructor" / path.name)
    print(Path(folder).resolve())


if __name__ == "__main__":
    main(*sys.argv[1:])
