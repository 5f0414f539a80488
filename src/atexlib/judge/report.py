"""Write an audit as a page of its own: HTML, or Markdown with its picture beside it."""

import base64
import html
import io
from pathlib import Path

import matplotlib.pyplot as plt

from .. import files
from ..show import plotting
from .audit import NOISE, WORST, Audit

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}th,td{padding:.2rem .7rem;text-align:left;"
    "border-bottom:1px solid #ccc}img{max-width:100%}"
)

CAUTION = (
    "An attack that fails proves nothing: a better one may succeed. Read a low number as a fact, and a high one as an "
    "upper bound of the stability.",
    "Compared are absolute values of the raw maps. A map that is cut off at zero before it is shown is another map.",
    "The predictions of the changed images and the size of the changes were measured after the attacks, by other code.",
    f"“{NOISE}” is a control: a change of the same size that nobody chose. “{WORST}” takes each image at its lowest, "
    "measure by measure, whichever attack that was.",
)


def save(audit: Audit, path: str | Path) -> Path:
    """Write the report to a file `NAME.html` or `NAME.md` (with `NAME-worst.png` beside it), all or nothing.

    Raises:
        ValueError: another suffix; an audit in which every map was constant, so that there is nothing to show.
    """
    path = Path(path).expanduser()
    if not audit.examples:
        raise ValueError("every map of this audit is constant, so there is nothing to show; look at audit.table.")
    if path.suffix not in (".html", ".md"):
        raise ValueError(f"the report's name is {path.name!r}; let it end in .html or .md.")
    picture = _picture(audit)
    if path.suffix == ".html":
        text = _html(audit, base64.b64encode(picture).decode())
    else:
        beside = path.with_name(f"{path.stem}-worst.png")
        files.write(beside, lambda temporary: Path(temporary).write_bytes(picture))
        text = _markdown(audit, beside.name)
    files.write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
    return path


def summary(audit: Audit) -> list[str]:
    """The findings in sentences."""
    said = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in audit.settings.items()
    )
    lines = [f"Audited: {said}."]
    if audit.accuracy is not None:
        lines.append(f"Accuracy on these images: {audit.accuracy}.")
    for name in audit.table.index.unique("explainer"):
        row = audit.table.loc[(name, WORST)]
        lines.append(
            f"{name}: under the worst attack Spearman {row['spearman']}, top-k {row['topk']}; "
            f"under random noise Spearman {audit.table.loc[(name, NOISE), 'spearman']}."
        )
    lines += [f"Tried: {effort}." for effort in audit.efforts.values()]
    return [*lines, *audit.notes]


def _picture(audit: Audit) -> bytes:
    """The most fragile images as a PNG: image, its map, the changed image, its map."""
    columns = [
        plotting.Column("image", [example.image for example in audit.examples]),
        plotting.Column("map", [example.clean_map for example in audit.examples], "size"),
        plotting.Column("changed", [example.changed for example in audit.examples]),
        plotting.Column("its map", [example.changed_map for example in audit.examples], "size"),
    ]
    rows = [f"no. {e.number}\n{e.explainer}\n{e.attack}\n{e.spearman:.2f}" for e in audit.examples]
    figure = plotting.gallery(columns, rows=rows, note="left: number of the image, explainer, attack, Spearman")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    return buffer.getvalue()


ALT = "Rows of four pictures: an image, its map, the changed image, and the map of the changed image."


def _markdown(audit: Audit, picture: str) -> str:
    header = ["explainer", "attack", *audit.table.columns]
    rows = [
        [*pair, *(_cell(value) for value in row)]
        for pair, row in zip(audit.table.index, audit.table.values, strict=True)
    ]
    lines = ["# Audit of explanations", "", *(f"- {line}" for line in summary(audit)), ""]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in (header, ["---"] * len(header), *rows)]
    lines += ["", "## The most fragile maps", "", f"![{ALT}]({picture})", "", "## How to read it", ""]
    return "\n".join([*lines, *(f"- {line}" for line in CAUTION), ""])


def _html(audit: Audit, picture: str) -> str:
    def items(lines: list[str] | tuple[str, ...]) -> str:
        return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"

    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Audit of explanations</title><style>{STYLE}</style></head><body><h1>Audit of explanations</h1>"
        f"{items(summary(audit))}{audit.table.to_html(float_format=_cell, border=0)}<h2>The most fragile maps</h2>"
        f'<img alt="{ALT}" src="data:image/png;base64,{picture}"><h2>How to read it</h2>{items(CAUTION)}</body></html>'
    )


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
