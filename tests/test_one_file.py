"""The book as one file: its pages, links and styles, on a small book of two pages; the strict book is not built."""

import posixpath
import re
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import one_file

STATIC = one_file.ROOT / "book/_static"
PAGE = """<html><body><nav><a href="x.html">menu</a></nav><article class="bd-article">{}</article></body></html>"""
INTRO = """<section id="title"><h1>Title<a class="headerlink" href="#title">#</a></h1>
<p id="p1">See <a href="../notebooks/01_one.html#goals">one</a>, <a href="../notebooks/01_one.html">it</a>,
<a href="#title">above</a>, <a href="live.html">live</a>, <a href="https://example.org/a">far</a>,
<a href="https://github.com/OWNER/x">home</a>.</p><p><a href="https://g.org/releases/a.pdf">PDF</a></p>
<figure><img src="../_images/a.png" alt="A square." loading="lazy"></figure></section>"""
ONE = r"""<section id="one" class="tex2jax_ignore"><h1>One &amp; only</h1><section id="goals"><h2>Goals</h2>
<p>So <span class="math notranslate nohighlight">\(\boldsymbol{x}\)</span> and</p>
<div class="math notranslate nohighlight" id="equation-a"><span class="eqno">(1.1)</span>\[x^2\]</div>
<details class="hide"><summary>code</summary><pre>WIDE</pre></details>
<div class="admonition dropdown toggle"><p>Answer</p></div>
<table><tr><td>1</td></tr></table><script>alert(1)</script></section></section>"""
WIDE = "x = 1; " * 60


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder as Sphinx leaves it."""
    from PIL import Image

    root = tmp_path_factory.mktemp("html")
    for name, text in {"book/intro": INTRO, "notebooks/01_one": ONE.replace("WIDE", WIDE)}.items():
        (root / name).parent.mkdir()
        (root / f"{name}.html").write_text(PAGE.format(text))
    for name in ("_images", "_static"):
        (root / name).mkdir()
    Image.new("RGB", (8, 8)).save(root / "_images/a.png")
    (root / "_static/pygments.css").touch()
    for name in ("print.css", one_file.MATHS):
        (root / "_static" / name).symlink_to(STATIC / name)
    return root


TOC = [("", ["book/intro"]), ("Part", ["notebooks/01_one"])]


@pytest.fixture(scope="module")
def files(built, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_file, "contents", lambda: TOC)
        folder = tmp_path_factory.mktemp("out")
        with ThreadPoolExecutor(1) as apart:  # from the browser of another file, which holds this thread's loop
            apart.submit(one_file.main, str(built), str(folder)).result()
    return {path.suffix: path for path in folder.iterdir()}


def test_the_pages_are_those_of_the_contents_but_for_those_of_the_browser_and_the_api():
    toc = one_file.contents()
    names = [name for _, pages in toc for name in pages]
    assert names[0] == "book/intro"
    assert toc[1][0] == "Foundations"
    assert {"notebooks/14_real_network", "notebooks/solutions/14_real_network", "book/bibliography"} <= {*names}
    assert not {*names} & one_file.LEFT_OUT
    assert all((one_file.ROOT / one_file.source(name)).is_file() for name in names)
    assert all((one_file.ROOT / one_file.source(name)).is_file() for name in one_file.LEFT_OUT)


def test_links_lead_within_the_file_or_to_the_web(built):
    known = {"book/intro", "notebooks/01_one"}
    for address, live in (
        ("https://g.org/me/b", ["https://g.org/me/b/blob/main/book/live.md"]),
        ("https://g/OWNER/b", []),
    ):
        found = one_file.chapter(built, "book/intro", known, address).article
        links = [tag["href"] for tag in found.find_all("a")]
        within = ["#notebooks-01_one--goals", "#notebooks-01_one", "#book-intro--title"]
        assert links == [*within, *live, "https://example.org/a"]
        assert found.find(id="book-intro--title")
        assert found.img["src"] == "_images/a.png"
        assert "home" in found.text
        assert "PDF" not in found.text


def test_drop_downs_are_open_and_scripts_are_gone(built):
    found = one_file.chapter(built, "notebooks/01_one", {"notebooks/01_one"}, "https://g.org").article
    assert found.details["open"] == ""
    assert found.select(".toggle, .dropdown, script") == []


def test_the_style_breaks_lines_of_code_and_keeps_figures_whole():
    style = (STATIC / "print.css").read_text(encoding="utf-8")
    rules = {
        name.strip(): body
        for name, body in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", style, flags=re.S))
    }
    assert "white-space: pre-wrap" in rules["pre"]
    assert "overflow-wrap: anywhere" in rules["pre"]
    assert "break-inside: avoid" in rules["figure"]
    assert "size: A4" in rules["@page"]
    assert "break-before: page" in rules["article.chapter, nav.contents"]


def test_the_pdf_has_an_outline_links_and_drawn_equations(files):
    content = files[".pdf"].read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Outlines" in content
    assert content.count(b"/Subtype /Link") >= 5
    assert len(re.findall(rb"/Type /Page\b", content)) == 4  # the title, the contents, two pages


def test_the_epub_is_whole(files):
    with zipfile.ZipFile(files[".epub"]) as book:
        assert book.infolist()[0].filename == "mimetype"
        assert book.infolist()[0].compress_type == zipfile.ZIP_STORED
        names = {name.removeprefix("EPUB/") for name in book.namelist() if name.startswith("EPUB/")}
        package = ElementTree.fromstring(book.read("EPUB/package.opf"))
        opf = "{http://www.idpf.org/2007/opf}"
        assert {item.get("href") for item in package.iter(f"{opf}item")} == names - {"package.opf"}
        spine = [item.get("idref") for item in package.iter(f"{opf}itemref")]
        assert spine == ["front", "nav", "book-intro", "notebooks-01_one"]
        pages = {name: ElementTree.fromstring(book.read(f"EPUB/{name}.xhtml")) for name in spine}
        ids = {name: {tag.get("id") for tag in page.iter()} for name, page in pages.items()}
    for name, page in pages.items():
        for tag in page.iter("{http://www.w3.org/1999/xhtml}a"):
            to, _, anchor = tag.get("href", "https:").partition("#")
            if to.startswith("https:"):
                continue
            assert not anchor or anchor in ids[to.removesuffix(".xhtml") or name]
            assert not to or to in names
        for tag in page.iter("{http://www.w3.org/1999/xhtml}img"):
            assert posixpath.normpath(tag.get("src")) in names
    drawn = list(pages["notebooks-01_one"].iter("{http://www.w3.org/2000/svg}svg"))
    assert len(drawn) == 2
    assert "mjx" not in " ".join(tag.tag for tag in pages["notebooks-01_one"].iter())
