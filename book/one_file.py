"""The built book as one file, a PDF or an EPUB: `python book/one_file.py BUILD FOLDER [KIND ...]`, or `make pdf epub`.

BUILD is the folder of the strict book's pages (`_build/html`), FOLDER gets the files. The articles of all pages are put
into one page in the order of `_toc.yml`; a link from one to another becomes a link within. Chromium draws the equations
and prints it; the EPUB takes the drawn equations from there, since few readers draw TeX.
"""

import datetime
import html
import mimetypes
import posixpath
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from bs4 import BeautifulSoup, Tag
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from atexlib import files

ROOT = Path(__file__).parents[1]
NAME = "manipulated-explanations"
KINDS = ("pdf", "epub")
# What is of no use on paper: pages that compute in the browser, and those that list the library's names.
LEFT_OUT = {
    f"book/{name}" for name in ("live", "explore_toy", "explore_measures", "api", "api_defences", "api_experiments")
}
USELESS = (
    "script, style, datalist, .headerlink, .frames-controls, .toctree-wrapper, a[href*='colab.research'], "
    "p:has(> a[href*='/releases/']), .tag_hide-output .cell_output, details.below-input"
)
PER_INCH = 128  # pixels of a figure, unless the sheet is too narrow for it
WIDE = 8  # columns of a table from which on its letters are small
STYLES = ("pygments.css", "print.css")
MATHS = "tex-svg-full.js"
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
ARGS = ["--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
MINUTES = 30  # at most, for one step of the browser
FOOT = '<div style="font: 8pt serif; width: 100%; text-align: center"><span class="pageNumber"></span></div>'
Toc = list[tuple[str, list[str]]]


class Chapter(NamedTuple):
    """A page of the book: its name without suffix, its title, its article."""

    name: str
    title: str
    article: Tag


def contents() -> Toc:
    """The parts of the book and the pages in each, without those left out; the first part is the introduction."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def pages(chapters: list[dict[str, Any]]) -> Iterator[str]:
        for chapter in chapters:
            yield chapter["file"]
            yield from pages(chapter.get("sections", []))

    parts = [("", [toc["root"]]), *((part["caption"], [*pages(part["chapters"])]) for part in toc["parts"])]
    return [(caption, [name for name in names if name not in LEFT_OUT]) for caption, names in parts]


def source(page: str) -> str:
    """Where a page's text lies in the repository, or a file that a page offers."""
    return next((f"{page}{end}" for end in (".ipynb", ".md", ".rst") if (ROOT / f"{page}{end}").exists()), page)


def slug(page: str, anchor: str = "") -> str:
    """The one place in the book that a page, or a place in it, becomes."""
    return re.sub(r"[^\w-]+", "-", f"{page}--{anchor}" if anchor else page)


def chapter(build: Path, name: str, known: set[str], address: str) -> Chapter:
    """A page made ready: anchors of its own, links that lead within the book or to the web, drop-downs open."""
    soup = BeautifulSoup((build / f"{name}.html").read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    assert article is not None
    assert article.h1 is not None
    for tag in article.select(USELESS):
        tag.decompose()
    for tag in article.find_all("details"):
        tag["open"] = ""
    for tag in article.select(".toggle, .dropdown"):
        tag["class"] = [word for word in tag["class"] if word not in ("toggle", "toggle-hidden", "dropdown")]
    for table in article.find_all("table"):
        if max(len(row.find_all(["th", "td"])) for row in table.find_all("tr")) >= WIDE:
            table["class"] = [*table.get("class", []), "wide"]
    here = posixpath.dirname(name)
    for tag in article.find_all("a", href=True):
        url, _, anchor = tag["href"].partition("#")
        page = posixpath.normpath(posixpath.join(here, url)).removesuffix(".html") if url else name
        outside = re.match(r"[a-z]+:", url)
        if not outside and page in known:
            tag["href"] = f"#{slug(page, anchor)}"
        elif "/OWNER/" in (url if outside else address):  # the book has no home yet
            tag.unwrap()
        elif not outside:
            tag["href"] = f"{address}/blob/main/{source(page)}"
    for tag in article.find_all(id=True):
        tag["id"] = slug(name, tag["id"])
    for tag in article.find_all("img"):
        if not tag["src"].startswith("data:"):
            tag["src"] = posixpath.normpath(posixpath.join(here, tag["src"]))
            if not tag["src"].endswith(".svg"):
                with Image.open(build / tag["src"]) as picture:
                    tag["style"] = f"width: {picture.width / PER_INCH:.2f}in"
        tag["loading"] = "eager"
    title = article.h1.get_text().strip()
    article.name, article["id"], article["class"] = "article", slug(name), ["chapter"]
    return Chapter(name, title, article)


def front(address: str, cover: str) -> str:
    """The title page."""
    home = "" if "/OWNER/" in address else f"<p>{html.escape(address)}</p>"
    version, today = metadata.version("atexlib"), datetime.datetime.now(datetime.UTC).date()
    return (
        '<section class="front"><p class="title">Manipulated explanations</p>'
        '<p class="subtitle">of neural networks: attacks, defences and their honest measurement</p>'
        f'<img src="{cover}" alt="" /><p>The atexlib authors</p><p>Version {version}, {today}</p>{home}'
        '<p class="small">The pages that compute in the browser, and the list of the functions of the library, are on '
        "the website alone, as are lists that it keeps folded. A figure with a slider shows one of its pictures.</p>"
        "</section>"
    )


def list_of(toc: Toc, chapters: dict[str, Chapter], where: str = "#{}") -> str:
    """The contents as a list of links: parts, pages, and the sections of the chapters."""
    lines = []
    for caption, names in toc:
        pages = []
        for name in names:
            found = chapters[name]
            heads = found.article.select("section > section > h2") if re.match(r"notebooks/\d", name) else []
            inner = "".join(
                f'<li><a href="{where.format(head.parent["id"])}">{html.escape(head.get_text().strip())}</a></li>'
                for head in heads
            )
            inner = f"<ol>{inner}</ol>" if inner and where == "#{}" else ""
            place = where.format(slug(name))
            pages.append(f'<li><a href="{place}">{html.escape(found.title)}</a>{inner}</li>')
        body = f"<ol>{''.join(pages)}</ol>"
        lines.append(f"<li><span>{html.escape(caption)}</span>{body}</li>" if caption else "".join(pages))
    return f"<ol>{''.join(lines)}</ol>"


def whole(toc: Toc, chapters: dict[str, Chapter], head: str) -> str:
    """The book as one page, to be opened in the folder of the built pages."""
    styles = "".join(f'<link rel="stylesheet" href="_static/{name}">' for name in STYLES)
    body = "\n".join(str(chapters[name].article) for _, names in toc for name in names)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Manipulated explanations</title>{styles}'
        '<script>window.MathJax = {svg: {fontCache: "local"}, options: {enableAssistiveMml: false, '
        'processHtmlClass: "tex2jax_process|mathjax_process|math|output_area"}}</script>'
        f'<script defer src="_static/{MATHS}"></script></head><body>{head}'
        f'<nav class="contents"><h1>Contents</h1>{list_of(toc, chapters)}</nav>{body}</body></html>'
    )


TAKE_OUT = """() => {
    const file = (id) => document.getElementById(id)?.closest("article, nav")?.id;
    for (const link of document.querySelectorAll("a[href^='#']")) {
        const id = decodeURIComponent(link.getAttribute("href").slice(1)), own = link.closest("article")?.id;
        if (!file(id)) link.removeAttribute("href");
        else if (file(id) !== own) link.setAttribute("href", `${file(id)}.xhtml#${id}`);
    }
    for (const box of document.querySelectorAll("mjx-container")) {
        const span = document.createElement("span"), maths = box.querySelector("svg");
        span.className = box.hasAttribute("display") ? "maths display" : "maths";
        span.append(maths);
        box.replaceWith(span);
    }
    for (const tag of document.querySelectorAll("[loading], [tabindex]")) {
        for (const name of ["loading", "tabindex"]) tag.removeAttribute(name);
    }
    const write = new XMLSerializer();
    const all = [...document.querySelectorAll("article")];
    return Object.fromEntries(all.map((tag) => [tag.id, write.serializeToString(tag)]));
}"""
DRAWN = "MathJax.startup.promise.then(() => null)"
XHTML = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" '
    'xmlns:epub="http://www.idpf.org/2007/ops" lang="en"><head><title>{title}</title>{styles}</head>'
    "<body>{body}</body></html>"
)

PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">{name}</dc:identifier>
<dc:title>Manipulated explanations</dc:title><dc:language>en</dc:language><dc:creator>The atexlib authors</dc:creator>
<meta property="dcterms:modified">{now}</meta></metadata>
<manifest>{items}</manifest><spine>{spine}</spine></package>
"""
CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/></rootfiles></container>
"""


def epub(path: Path, build: Path, toc: Toc, chapters: dict[str, Chapter], bodies: dict[str, str], head: str) -> None:
    """Write an EPUB 3 of the articles as the browser drew them, all or nothing."""
    styles = "".join(f'<link rel="stylesheet" href="{name}"/>' for name in STYLES)
    titles = {slug(name): one.title for name, one in chapters.items()}
    images = sorted({src for body in bodies.values() for src in re.findall(r'src="(?!data:)([^"]+)"', body)})
    nav = f'<nav epub:type="toc"><h1>Contents</h1>{list_of(toc, chapters, "{}.xhtml")}</nav>'
    pages = {"front": head, "nav": nav} | {slug(name): bodies[slug(name)] for _, names in toc for name in names}
    items = []
    for name, body in pages.items():
        mark = "nav" if name == "nav" else "svg" if "<svg" in body else ""
        also = f' properties="{mark}"' if mark else ""
        items.append(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"{also}/>')
    for number, name in enumerate([*images, *STYLES]):
        kind = mimetypes.guess_type(name)[0]
        cover = ' properties="cover-image"' if name.endswith("cover.webp") else ""
        items.append(f'<item id="file{number}" href="{name}" media-type="{kind}"{cover}/>')
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    spine = "".join(f'<itemref idref="{name}"/>' for name in pages)
    package = PACKAGE.format(name=f"{NAME}-{metadata.version('atexlib')}", now=now, items="".join(items), spine=spine)

    def save(temporary: str) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as book:
            book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)  # the first, and not compressed
            book.writestr("META-INF/container.xml", CONTAINER)
            book.writestr("EPUB/package.opf", package)
            for name, body in pages.items():
                title = html.escape(titles.get(name, "Manipulated explanations"))
                page = XHTML.format(title=title, styles=styles, body=body)
                book.writestr(f"EPUB/{name}.xhtml", page)
            for name in images:
                book.write(build / name, f"EPUB/{name}")
            for name in STYLES:
                book.write(build / "_static" / name, f"EPUB/{name}")

    files.write(path, save)


def pdf(path: Path, tab: Page) -> None:
    """Print the page that is open, with its outline and a number on each sheet, all or nothing."""
    look: dict[str, Any] = {"prefer_css_page_size": True, "outline": True, "tagged": True, "print_background": True}
    look |= {"display_header_footer": True, "header_template": "<span></span>", "footer_template": FOOT}
    files.write(path, lambda temporary: tab.pdf(path=temporary, **look))


def main(build: str, folder: str, *kinds: str) -> None:
    """Write the files of these kinds, and say what they weigh."""
    pages = Path(build).resolve()
    paths = [Path(folder).resolve() / f"{NAME}.{kind}" for kind in kinds or KINDS]
    address = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    toc = contents()
    known = {name for _, names in toc for name in names}
    chapters = {name: chapter(pages, name, known, address) for name in sorted(known)}
    head = front(address, next(img["src"] for img in chapters["book/intro"].article.find_all("img")))
    page = pages / "one-file.html"  # beside what it shows, and gone afterwards
    page.write_text(whole(toc, chapters, head), encoding="utf-8")
    try:
        with sync_playwright() as playwright:
            tab = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS).new_page()
            tab.set_default_timeout(MINUTES * 60_000)
            tab.goto(page.as_uri())
            tab.evaluate(DRAWN)
            for path in paths:
                if path.suffix == ".pdf":
                    pdf(path, tab)
                else:
                    epub(path, pages, toc, chapters, tab.evaluate(TAKE_OUT), head)
                print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    finally:
        page.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
