"""Runs the first cells of every chapter as Colab does: `python book/colab.py`, in a Python without atexlib.

Colab has the usual packages, and imports `google.colab` before a notebook starts: an empty module stands for it here.
The first cells install the book from its address, and git is told that it lies in this clone. They end with the one
that begins the chapter: it reads the parameters, the data and the net.
"""

import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 900  # a cell


def first_cells(chapter: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code of a chapter up to the cell that begins it."""
    cells = [cell for cell in chapter.cells if cell.cell_type == "code"]
    last = next(i for i, cell in enumerate(cells) if "chapters.begin" in cell.source)
    return cells[: last + 1]


def address(cells: list[nbformat.NotebookNode]) -> str:
    """Where these cells install the book from."""
    return next(cell.source.partition("git+")[2].partition('"')[0] for cell in cells if "git+" in cell.source)


def pretend(folder: Path) -> None:
    """Fill a folder with what makes a Python that finds it look like Colab's."""
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").touch()
    (folder / "sitecustomize.py").write_text("import google.colab\n", encoding="utf-8")


def main() -> None:
    """Run the chapters' first cells one after the other, and stop at the first that fails."""
    if importlib.util.find_spec("atexlib"):
        raise SystemExit("This Python has atexlib already: make an environment without it, as Colab's is.")
    shallow = ["git", "rev-parse", "--is-shallow-repository"]
    if subprocess.run(shallow, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "true":
        # pip's git, which asks for a part, would ask such a clone for its missing history without end
        raise SystemExit("This clone is shallow, and cannot be installed from: run `git fetch --unshallow` first.")
    with tempfile.TemporaryDirectory() as folder:
        pretend(Path(folder))
        os.environ |= {"PYTHONPATH": folder, "GIT_CONFIG_COUNT": "1"}
        os.environ["GIT_CONFIG_KEY_0"] = f"url.file://{ROOT}.insteadOf"
        for path in CHAPTERS:
            chapter = nbformat.read(path, as_version=4)
            chapter.cells = first_cells(chapter)
            os.environ["GIT_CONFIG_VALUE_0"] = address(chapter.cells)
            NotebookClient(chapter, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
            said = [output.get("text", "") for output in chapter.cells[-1].outputs]
            print(f"{path.stem}: {''.join(said).strip()}", flush=True)


if __name__ == "__main__":
    main()
