"""A report as a list of parts, and the two ways to write it: HTML in one file, Markdown with its pictures beside it."""

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import files
from .pictures import Panel

STYLE = """
:root { --ink: #1a1a1a; --line: #c4c4c4; --soft: #f4f4f2; --edge: #8a3b12 }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff }
body { max-width: 66rem; margin: 0 auto; padding: 1.5rem 1rem }
h1 { line-height: 1.2; margin: 0 0 .2rem }
h2 { margin: 2.2rem 0 .5rem; border-bottom: 2px solid var(--ink) }
h3 { margin: 1.5rem 0 .4rem }
p, ul { margin: .4rem 0 }
li { margin: .2rem 0; overflow-wrap: anywhere }
.verdict { border-left: 6px solid var(--edge); background: var(--soft); padding: .6rem 1rem; font-size: 1.1rem }
.table { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-size: .9rem }
.wide { min-width: 46rem }
caption { text-align: left; font-weight: 600; padding: .2rem 0 }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 2rem) }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
thead th { border-bottom: 2px solid var(--ink) }
td { font-variant-numeric: tabular-nums }
figure { margin: 1.2rem 0; border-top: 1px solid var(--line); padding-top: .6rem }
figcaption { margin-bottom: .5rem }
.six { display: grid; grid-template-columns: repeat(3, 1fr); gap: .8rem }
.six p { font-size: .85rem; line-height: 1.35; margin: .1rem 0 0 }
img { display: block; width: 100%; height: auto }
@media (max-width: 40rem) {
  .six { grid-template: repeat(3, auto) / 1fr 1fr; grid-auto-flow: column; gap: .5rem }
  body { padding: 1rem .8rem }
  h1 { font-size: 1.5rem }
}
@media print {
  @page { size: A4 portrait; margin: 16mm 15mm }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
  body { font-size: 10pt; max-width: none; padding: 0 }
  h2, h3, h2 + p { break-after: avoid }
  figure, tr, .verdict, .table { break-inside: avoid }
  caption span { max-width: none }
  thead { display: table-header-group }
  .table { overflow: visible }
  table { font-size: 8pt; width: 100% }
  th, td { padding-right: 2mm }
  .six { grid-template: auto auto / repeat(3, 1fr); grid-auto-flow: row; gap: 3mm; max-width: 122mm }
  .wide { min-width: 0 }
  .six p { font-size: 8pt }
}
"""


class Table(NamedTuple):
    """A table of words: what it shows, its column heads, its rows; the first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Figure(NamedTuple):
    """Six pictures of an image, and what they show."""

    caption: str
    panels: list[Panel]


class Heading(NamedTuple):
    """A heading of level two or three."""

    level: int
    text: str


class Said(NamedTuple):
    """The verdict, in a box."""

    text: str


Part = str | list[str] | Table | Figure | Heading | Said


def write(path: Path, title: str, parts: Iterable[Part]) -> Path:
    """Write parts under a title to a file whose suffix is one of WRITERS, all or nothing."""
    text = WRITERS[path.suffix](path, title, parts)
    files.write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
    return path


def _html(_path: Path, title: str, parts: Iterable[Part]) -> str:
    title, body = html.escape(title), "\n".join(map(_as_html, parts))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>\n{body}\n</main></body></html>\n"
    )


def _as_html(part: Part) -> str:
    def say(text: str) -> str:
        return html.escape(text).replace(" %", "&nbsp;%")

    match part:
        case Heading(level, text):
            return f"<h{level}>{say(text)}</h{level}>"
        case Said(text):
            return f'<p class="verdict"><strong>{say(text)}</strong></p>'
        case Table(caption, head, rows):
            top = "".join(f'<th scope="col">{say(cell)}</th>' for cell in head)
            wide = ' class="wide"' if len(head) > 2 else ""
            body = "".join(
                f'<tr><th scope="row">{say(row[0])}</th>{"".join(f"<td>{say(cell)}</td>" for cell in row[1:])}</tr>'
                for row in rows
            )
            return (
                f'<div class="table" role="region" tabindex="0" aria-label="{say(caption)}"><table{wide}>'
                f"<caption><span>{say(caption)}</span></caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
            )
        case Figure(caption, panels):
            six = "".join(
                f'<div><img alt="{say(panel.alt)}" src="data:image/webp;base64,'
                f'{base64.b64encode(panel.file).decode()}"><p>{say(panel.caption)}</p></div>'
                for panel in panels
            )
            return f'<figure><figcaption>{say(caption)}</figcaption><div class="six">{six}</div></figure>'
        case list():
            return "<ul>" + "".join(f"<li>{say(line)}</li>" for line in part) + "</ul>"
        case _:
            return f"<p>{say(part)}</p>"


def _plain(text: str) -> str:
    """Text that Markdown takes for neither HTML nor a link."""
    return html.escape(text, quote=False).replace("](", "]\\(").replace("\n", " ")


def _markdown(path: Path, title: str, parts: Iterable[Part]) -> str:
    folder, count, lines = path.with_name(f"{path.stem}-pictures"), 0, [f"# {_plain(title)}", ""]
    for part in parts:
        match part:
            case Heading(level, text):
                lines.append(f"{'#' * level} {_plain(text)}")
            case Said(text):
                lines.append(f"**{_plain(text)}**")
            case Table(caption, head, rows):
                lines += [f"{_plain(caption)}:", "", _row(map(_plain, head)), _row(["---"] * len(head))]
                lines += [_row(map(_plain, row)) for row in rows]
            case Figure(caption, panels):
                count += 1
                cells = [_beside(folder / f"{count:02}-{panel.name}.webp", panel) for panel in panels]
                said = [_plain(panel.caption) for panel in panels]
                lines += [_plain(caption), "", *map(_row, (cells[:3], ["---"] * 3, said[:3], cells[3:], said[3:]))]
            case list():
                lines += [f"- {_plain(line)}" for line in part]
            case _:
                lines.append(_plain(part))
        lines.append("")
    return "\n".join(lines)


def _beside(file: Path, panel: Panel) -> str:
    """Write a picture, and refer to it from the page beside its folder."""
    files.write(file, lambda temporary: Path(temporary).write_bytes(panel.file))
    return f"![{_plain(panel.alt)}](<{file.parent.name}/{file.name}>)"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


WRITERS: dict[str, Callable[[Path, str, Iterable[Part]], str]] = {".html": _html, ".md": _markdown}
