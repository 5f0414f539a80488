"""The built book: complete, readable without a network, nothing broken in it.

`make test` builds a book at the smallest preset and then runs this file on it (ATEXLIB_BOOK names the folder); by
itself it looks at the book that `make book` built. A check takes a parsed page and returns what is wrong with it, and
is first shown a page spoiled on purpose.
"""

import copy
import functools
import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[1]
BOOK = ROOT / os.environ.get("ATEXLIB_BOOK", "_build/html")
PAGES = sorted(path for path in BOOK.rglob("*.html") if "_static" not in path.parts)
EXTERNAL = re.compile(r"\s*(https?:)?//", re.I)
WEIGHT = 1_500_000  # bytes of a page with its pictures; scripts and style sheets are shared by all pages

needs_book = pytest.mark.skipif(not PAGES, reason=f"no book in {BOOK}: run `make book` first")
every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(BOOK).as_posix())


@functools.cache
def parse(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def places(path):
    """The anchors of a page, found once: thousands of links lead to the largest one."""
    return {tag["id"] for tag in parse(path).find_all(id=True)}


def loaded(page):
    """The addresses that a browser fetches by itself when it shows the page."""
    tags = page.find_all(src=True) + page.find_all(["link", "object"])
    return [tag.get("src") or tag.get("href") or tag.get("data", "") for tag in tags]


def check_offline(page):
    problems = [f"loads {url}" for url in loaded(page) if EXTERNAL.match(url)]
    for script in page.find_all("script", src=False):
        problems += [f"a script names {url}" for url in re.findall(r"https?://[^\s\"']+\.m?js\b", script.text)]
    return problems


def check_style(css):
    return [
        f"a style sheet loads {url}" for url in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]*)", css)
    ]


def check_alt(page):
    """Sphinx writes the file's name where there is no alt text, so that counts as none."""
    images = ((image.get("src", ""), image.get("alt", "").strip()) for image in page.find_all("img"))
    return [f"{src} has no alt text" for src, alt in images if not alt or re.search(r"\.(png|svg|jpe?g|gif)$", alt)]


def check_references(page):
    """Marks of a reference that Sphinx could not resolve, and markup that was not understood."""
    body = copy.copy(page.find("article") or BeautifulSoup("", "html.parser"))
    marks = body.select(".problematic, .system-message, .xref.myst:not(.download)")
    marks += [tag for tag in body.select(".xref:not(.py)") if not (tag.find_parent("a") or tag.get("href"))]
    problems = [f"not resolved: {tag.text!r}" for tag in marks]
    for tag in body.select("pre, code, script, .math"):
        tag.decompose()
    return problems + [
        f"markup shown raw: {mark!r}" for mark in re.findall(r":{3,}|\$\$|\{[a-z:]+\}|\[\^\w+\]", body.text)
    ]


def check_paths(page):
    """Places on the machine that built the page."""
    text = (page.find("article") or page).get_text(" ")
    return [f"a path of this machine: {place}" for place in re.findall(r"(?:/home|/root|/work|/tmp|/Users)/\S+", text)]


def check_links(page, path, root):
    """Links into the site whose file or anchor does not exist; the page is the one at that path."""
    problems = []
    for url in loaded(page) + [a["href"] for a in page.find_all("a", href=True)]:
        if EXTERNAL.match(url) or re.match(r"(data|mailto|javascript):", url) or url in ("", "#"):
            continue
        name, _, anchor = unquote(url).partition("#")
        target = (path.parent / name.partition("?")[0]).resolve() if name else path
        if not target.is_file() or not target.is_relative_to(root.resolve()):
            problems.append(f"{url} leads to no file")
        elif anchor and target.suffix == ".html" and anchor not in places(target):
            problems.append(f"{url} leads to no place in its page")
    return problems


def check_headings(page):
    """One first-level heading, before all others, and no level left out. Not counted: navigation, and the title that is
    only printed. The page that only leads to the first one has none."""
    if page.find("meta", attrs={"http-equiv": "Refresh"}):
        return []
    tags = page.select("h1, h2, h3, h4, h5, h6, [role=heading]")
    tags = [tag for tag in tags if not (tag.find_parent("nav") or tag.find_parent(class_="onlyprint"))]
    levels = [int(tag.get("aria-level") or re.sub(r"\D", "", tag.name) or 2) for tag in tags]
    problems = [] if levels.count(1) == 1 else [f"{levels.count(1)} first-level headings, not 1"]
    steps = zip(tags, [0, *levels], levels, strict=False)
    return problems + [f"level {new} after {old}: {tag.text!r}" for tag, old, new in steps if new > old + 1]


CHECKS = [check_offline, check_alt, check_references, check_headings, check_paths]


def check_weight(page, path):
    """What a page weighs that no other page shares: itself, with the pictures in it, and its own pictures."""
    sources = {image["src"] for image in page.find_all("img", src=True) if not image["src"].startswith("data:")}
    pictures = [path.parent / unquote(source) for source in sources]
    weight = sum(file.stat().st_size for file in [path, *(p for p in pictures if p.is_file())])
    return [f"the page weighs {weight} bytes, more than {WEIGHT}"] if weight > WEIGHT else []


@needs_book
def test_every_page_of_the_toc_is_there():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    names = [toc["root"], *(page["file"] for entry in entries for page in (entry, *entry.get("sections", []))), "index"]
    assert [name for name in names if BOOK / f"{name}.html" not in PAGES] == []


@needs_book
@every_page
def test_page_is_whole(path):
    page = parse(path)
    problems = [problem for check in CHECKS for problem in check(page)] + check_links(page, path, BOOK)
    assert problems + check_weight(page, path) == []


def check_numbers(page, chapter):
    """Numbers of figures, tables and equations of a chapter that do not begin with the chapter's."""
    found = [tag.get_text() for tag in page.select(".caption-number, .eqno")]
    numbers = [re.search(r"S?\d[\d.]*\d|\d", text) for text in found]
    return [text for text, number in zip(found, numbers, strict=True) if number and not number[0].startswith(chapter)]


@needs_book
@pytest.mark.parametrize("path", [p for p in PAGES if p.parent.name == "notebooks"], ids=lambda path: path.stem)
def test_numbers_are_those_of_the_chapter(path):
    chapter = f"{int(path.stem[:2])}."
    assert check_numbers(parse(path), chapter) == []


def test_a_number_of_another_chapter_is_caught():
    page = BeautifulSoup('<span class="caption-number">Fig. 27 </span><span class="eqno">(7.2)</span>', "html.parser")
    assert check_numbers(page, "7.") == ["Fig. 27 "]


@needs_book
def test_style_sheets_load_nothing_from_elsewhere():
    sheets = sorted(BOOK.rglob("*.css"))
    assert sheets
    assert [problem for path in sheets for problem in check_style(path.read_text(encoding="utf-8"))] == []


# The checks themselves

GOOD = """<html><head><link rel="stylesheet" href="page.css"><script src="page.js?v=1"></script></head><body><article>
<h1 id="top">Title</h1><img src="a.png" alt="A line"><a href="#top">up</a><a href="page.html#top">here</a>
<a href="https://example.org">elsewhere</a><a href="#top"><span class="xref std std-ref">up</span></a>
<h2>Part</h2><h3>Detail</h3><h2>Next</h2>
<code class="xref py">Tensor</code><pre>{x} $$ :::</pre><span class="math">\\(\\text{eq}\\)</span>
</article>
<div class="onlyprint"><h1>Title</h1></div><nav><p role="heading" aria-level="4">Parts</p></nav></body></html>"""
SPOILED = {
    "a script from a CDN": ("page.js?v=1", "https://cdn.example/x.js"),
    "a style sheet from a CDN": ("page.css", "//cdn.example/x.css"),
    "an image from elsewhere": ('src="a.png"', 'src="http://example.org/a.png"'),
    "an inline loader": ("<body>", '<body><script>const U = "https://unpkg.com/x/index.js"</script>'),
    "no alt text": (' alt="A line"', ""),
    "the file's name as alt text": ("A line", "../a.png"),
    "an unresolved reference": (
        '<a href="#top"><span class="xref std std-ref">up</span></a>',
        '<b class="xref">up</b>',
    ),
    "an unresolved myst link": ("xref std std-ref", "xref myst"),
    "a system message": ("<h1", '<p class="system-message">?</p><h1'),
    "a raw role": ("Title", "See {numref}`fig`"),
    "a raw fence": ("Title", ":::{note}"),
    "a raw footnote": ("Title", "A claim[^1]"),
    "a missing file": ("page.html#top", "lost.html"),
    "a missing image": ('src="a.png"', 'src="lost.png"'),
    "a missing anchor": ("page.html#top", "page.html#lost"),
    "a missing anchor on the page": ('"#top">up', '"#lost">up'),
    "no title": ('<h1 id="top">Title</h1>', '<p id="top">Title</p>'),
    "two titles": ("<h2>Part</h2>", "<h1>Part</h1>"),
    "a level left out": ("<h2>Part</h2>", ""),
    "a level left out later": ("<h2>Next</h2>", "<h2>Next</h2><h4>Deep</h4>"),
    "a level left out by a role": ("<h2>Next</h2>", '<h2>Next</h2><p role="heading" aria-level="4">Deep</p>'),
    "a heading before the title": ("<article>", "<article><h2>Before</h2>"),
    "a path of the machine": ("<pre>{x}", "<pre>/home/me/data is missing {x}"),
    "a link out of the site": ("page.html#top", "../secret.html"),
}


def problems_of(html, folder):
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (folder / "secret.html").touch()
    for name in ("page.css", "page.js", "a.png"):
        (site / name).touch()
    path = site / "page.html"
    path.write_text(html, encoding="utf-8")
    page = BeautifulSoup(html, "html.parser")
    return [problem for check in CHECKS for problem in check(page)] + check_links(page, path, site)


def test_a_whole_page_passes(tmp_path):
    assert problems_of(GOOD, tmp_path) == []


@pytest.mark.parametrize(("old", "new"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_page_is_caught(tmp_path, old, new):
    assert old in GOOD
    assert problems_of(GOOD.replace(old, new, 1), tmp_path) != []


def test_a_heavy_page_is_caught(tmp_path):
    page, path = BeautifulSoup('<img src="a%20b.png"><img src="data:image/png;base64,">', "html.parser"), tmp_path / "p"
    path.write_bytes(b"x" * 1000)
    (tmp_path / "a b.png").write_bytes(b"x" * (WEIGHT - 1000))
    assert check_weight(page, path) == []
    path.write_bytes(b"x" * 1001)
    assert check_weight(page, path) != []


def test_a_style_sheet_from_elsewhere_is_caught():
    assert check_style("a { background: url('images/a.png') }") == []
    assert check_style("@import 'https://fonts.example/x.css';")
    assert check_style("a { background: url(//cdn.example/a.png) }")
