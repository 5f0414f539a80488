"""Slides from the chapters' headlines, figures and captions: `python book/slides.py CACHE [FOLDER]`, or `make slides`.

CACHE is the book's execution cache, which holds the figures. FOLDER gets a notebook for each chapter, with Jupyter's
marks of slides, and one page with all slides. Each is a section as large as the screen, and a page on paper.
"""

import copy
import html
import re
import shutil
import sys
from pathlib import Path

from course import plain, start
from exercises import ROOT, chapters, read, title
from jinja2 import Environment
from jupyter_cache import get_cache
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode, v4, write

MATHS = "tex-svg-full.js"
PICTURES = ("image/png", "image/jpeg")  # the second where a chapter shows photographs
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><script defer src="{{ maths }}"></script>
<style>
  html { scroll-snap-type: y mandatory; font: 1.4rem/1.4 sans-serif; }
  section { min-height: 100vh; box-sizing: border-box; padding: 2rem; scroll-snap-align: start; display: flex;
            flex-direction: column; align-items: center; justify-content: center; break-after: page; }
  img { max-width: 100%; max-height: 75vh; object-fit: contain; }
  p { max-width: 60rem; margin: 1rem 0 0; font-size: 1.1rem; }
</style></head><body>
{% for slide in slides %}<section>{{ slide }}</section>
{% endfor %}</body></html>
"""


def caption(cell: NotebookNode) -> str:
    """The caption of a cell's figure; empty if it draws none."""
    return cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")


def marked(cell: NotebookNode, kind: str) -> NotebookNode:
    """A cell with Jupyter's mark of how it is shown: slide, fragment or skip."""
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def assemble(nb: NotebookNode) -> NotebookNode:
    """A notebook of a chapter's headline, figures and captions.

    The other code up to the exercises is there and skipped, so that the notebook runs.
    """
    out = v4.new_notebook(metadata=copy.deepcopy(nb.metadata))
    out.cells.append(marked(v4.new_markdown_cell(f"# {title(nb)}", id="headline"), "slide"))
    for number, cell in enumerate(copy.deepcopy(nb.cells[: start(nb.cells)])):
        if cell.cell_type != "code":
            continue
        out.cells.append(marked(cell, "slide" if caption(cell) else "skip"))
        if caption(cell):
            text = re.sub(r"\{[\w:]+\}`([^`<]+?)(?: ?<[^`]*)?`", r"\1", plain(caption(cell)))
            out.cells.append(marked(v4.new_markdown_cell(text, id=f"caption-{number}"), "fragment"))
    return out


def with_outputs(nb: NotebookNode, cache: str) -> NotebookNode:
    """A chapter with the outputs that the book has of it."""
    try:
        _, run = get_cache(cache).merge_match_into_notebook(nb)
    except KeyError:
        name = title(nb)
        raise SystemExit(f"{cache} has no run of {name!r} as it stands: run `make book` first.") from None
    nb = copy.deepcopy(nb)
    for cell, done in zip(nb.cells, run.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = done.outputs
    return nb


def picture(cell: NotebookNode) -> str:
    """The figure of a cell as HTML."""
    alt = html.escape(cell.metadata["mystnb"].get("image", {}).get("alt", ""), quote=True)
    drawn = [item for output in cell.outputs for item in output.get("data", {}).items() if item[0] in PICTURES]
    return "".join(f'<img alt="{alt}" src="data:{kind};base64,{data.strip()}">' for kind, data in drawn)


def pages(nb: NotebookNode) -> list[str]:
    """The slides of an assembled notebook as HTML, each figure above its caption."""
    maths = {True: "\\[{}\\]", False: "\\({}\\)"}
    render = MarkdownIt().use(
        dollarmath_plugin, renderer=lambda text, options: html.escape(maths[options["display_mode"]].format(text))
    )
    found: list[str] = []
    for cell in nb.cells:
        shown = cell.metadata["slideshow"]["slide_type"]
        if shown == "skip":
            continue
        text = picture(cell) if cell.cell_type == "code" else render.render(cell.source)
        if shown == "slide":
            found.append(text)
        else:
            found[-1] += text
    return found


def main(cache: str, folder: str = str(ROOT / "_build" / "slides")) -> None:
    """Write the notebooks and the page."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    slides = []
    for path in chapters():
        nb = assemble(with_outputs(read(path), cache))
        write(nb, place / path.name)
        slides += pages(nb)
    shutil.copy(ROOT / "book" / "_static" / MATHS, place)
    page = Environment(autoescape=False).from_string(PAGE)  # all that goes in was made above
    text = page.render(title="Manipulated explanations", maths=MATHS, slides=slides)
    (place / "index.html").write_text(text, encoding="utf-8")
    print((place / "index.html").resolve())


if __name__ == "__main__":
    main(*sys.argv[1:])
