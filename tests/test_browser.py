"""The built book in a browser, without a network: it draws, fits a phone, and everybody can read and use it.

`make test` runs this on the book at the smallest preset, after test_book.py, in the browser of `make browser`. A check
takes an open page and returns what is wrong with it, and is first shown a page spoiled on purpose.
"""

import functools
import http.server
import io
import itertools
import re
import shutil
import threading

import axe_playwright_python
import pytest
from PIL import Image, ImageStat
from playwright.sync_api import TimeoutError as Timeout
from test_book import BOOK, PAGES, ROOT, needs_book

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
QUIET = ["gpu", "quic", "background-networking", "component-update", "sync"]
ALONE = ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost"]  # nothing else answers
ARGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in QUIET), *ALONE]
AXE = ROOT.joinpath(axe_playwright_python.__path__[0], "axe.min.js").read_text(encoding="utf-8")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
NAMES = [path.relative_to(BOOK).as_posix() for path in PAGES if path != BOOK / "index.html"]


@pytest.fixture
def page(context):
    with context.new_page() as page:
        yield page


@pytest.fixture(scope="session")
def served():
    """The address of the book on a server, as it is published."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=BOOK)
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://localhost:{server.server_port}"


def visit(page, url):
    """Open a page on a phone; what it complains of, now and later, goes into the list returned."""
    complaints = []
    page.on("console", lambda said: complaints.append(f"{said.text} {said.location}") if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("requestfailed", lambda request: complaints.append(f"not loaded: {request.url[:200]}"))
    page.goto(url)
    page.evaluate("window.MathJax?.startup?.promise.then(() => null)")
    page.add_style_tag(content="* { transition: none !important }")
    return complaints


def check_equations(page):
    """MathJax writes an unknown command in red instead of calling it an error."""
    return page.evaluate("""() => [...document.querySelectorAll(".math")].flatMap((math) => {
        const wrong = 'mjx-merror, [data-mml-node="merror"], [data-mml-node="mtext"][fill="red"]';
        if (!math.querySelector("mjx-container")) return [`equation not drawn: ${math.textContent}`];
        return math.querySelector(wrong) ? [`equation with an error: ${math.innerHTML.slice(0, 200)}`] : [];
    })""")


def check_width(page):
    """The page does not scroll sideways, and what sticks out of the screen can be scrolled to in its own box."""
    return page.evaluate("""() => {
        const width = document.scrollingElement.scrollWidth;
        if (width > innerWidth) return [`the page is ${width} wide, the screen ${innerWidth}`];
        const outside = (tag) => tag.getBoundingClientRect().right > innerWidth + 1;
        const reached = (tag) => tag && (["auto", "scroll"].includes(getComputedStyle(tag).overflowX)
            ? !outside(tag) : reached(tag.parentElement));
        return [...document.querySelectorAll("article :is(p, table, figure, img, pre)")]
            .filter((tag) => outside(tag) && !reached(tag.parentElement))
            .map((tag) => `cut off: ${tag.outerHTML.slice(0, 200)}`);
    }""")


HIDING = """() => [...document.querySelectorAll("article figure")].filter((figure) => {
    if (figure.scrollWidth <= figure.clientWidth + 1) return false;
    return [0, figure.scrollWidth].some((left) => {
        figure.scrollLeft = left;
        return ![...figure.querySelectorAll("button")].some((sign) => {
            const place = sign.getBoundingClientRect();
            return sign.textContent.includes("scroll") && place.width && place.left >= 0 && place.right <= innerWidth;
        });
    });
}).map((figure) => `a part is hidden without a sign: ${figure.outerHTML.slice(0, 200)}`)"""
SHRUNK = """() => [...document.querySelectorAll("article figure img")].filter((picture) => {
    const offer = picture.closest("figure").querySelector(".enlarge:not([hidden])");
    return picture.clientWidth && picture.clientWidth < 0.75 * picture.naturalWidth && !offer;
}).map((picture) => `small, and cannot be enlarged: ${picture.alt}`)"""


def check_figures(page):
    """A figure is shown whole; where that makes it small, a key enlarges it and takes it back, with a sign."""
    problems = page.evaluate(HIDING) + page.evaluate(SHRUNK)
    width = "button => button.closest('figure').querySelector('img').clientWidth"
    for number, button in enumerate(page.locator("article figure .enlarge:visible").all()):
        small = button.evaluate(width)
        button.press("Enter")
        problems += [] if button.evaluate(width) > small else [f"enlarging figure {number} does not enlarge it"]
        problems += page.evaluate(HIDING) + check_width(page)
        button.press("Enter")
        problems += [] if button.evaluate(width) == small else [f"figure {number} stays large"]
    return problems


def thin_out(page):
    """Of a page's coloured words of code keep one of each kind: axe-core is slow."""
    page.evaluate("""() => {
        const places = new Map(), seen = new Set();
        const place = (tag) => {
            if (tag && !places.has(tag)) places.set(tag, `${place(tag.parentElement)} ${tag.tagName}.${tag.className}`);
            return places.get(tag);
        };
        const again = (tag) => seen.has(place(tag)) || !seen.add(place(tag));
        const twins = [...document.querySelectorAll(":is(pre, .sig) :is(span, em)")].filter(again);
        twins.reverse().forEach((tag) => tag.children.length || tag.replaceWith(tag.textContent));
    }""")


def keep_looks(page):
    """Of texts that look alike keep the first: then contrast, most of axe-core's time, is measured once for each look.

    Alike: the same tags, classes, colours, letters and visibility from the root down. Controls and pictures stay,
    and the contents of the page, where the theme marks what is read.
    """
    page.evaluate("""() => {
        const STYLE = ["color", "backgroundColor", "backgroundImage", "opacity", "fontSize", "fontWeight"];
        const looks = new Map([[null, ""]]), seen = new Set(), kept = new Set();
        const look = (tag) => {
            if (!looks.has(tag)) {
                const style = getComputedStyle(tag), own = STYLE.map((name) => style[name]);
                const visible = tag.checkVisibility({checkOpacity: true, checkVisibilityCSS: true});
                const name = [tag.tagName, tag.getAttribute("class")];
                looks.set(tag, [look(tag.parentElement), ...name, visible, ...own].join());
            }
            return looks.get(tag);
        };
        const tags = [...document.body.querySelectorAll("*")];
        const says = (tag) => [...tag.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        const is_new = (tag) => says(tag) && !seen.has(look(tag)) && seen.add(look(tag));
        const stays = "img, script, style, input, select, select *, textarea, button, button *, .bd-toc-nav *";
        for (let tag of tags.filter((tag) => tag.matches(stays) || is_new(tag)))
            for (; tag && !kept.has(tag); tag = tag.parentElement) kept.add(tag);
        tags.filter((tag) => !kept.has(tag)).forEach((tag) => tag.remove());
    }""")


def check_access(page, *rules):
    """What axe-core calls serious or critical, by all rules but contrast, or by these.

    Its preload asks for style sheets at addresses that are none.
    """
    chosen = {"runOnly": rules} if rules else {"rules": {"color-contrast": {"enabled": False}}}
    options = {"resultTypes": ["violations"], "preload": False, **chosen}
    found = page.evaluate("options => axe.run(options)", options)["violations"]
    serious = [broken for broken in found if broken["impact"] in ("serious", "critical")]
    return [f"{broken['id']}: {node['html'][:200]}" for broken in serious for node in broken["nodes"]]


def check_contrast(page):
    """Everything can be read."""
    return check_access(page, "color-contrast")


def check_frames(page):
    """Each slider by the keyboard, each list by its next entry: the picture, its text and the output follow."""
    show = """box => Object.fromEntries([["img", "src"], ["img", "alt"], ["output", "value"]].map(
        ([tag, name]) => [name, box.querySelector(tag)[name]]))"""
    problems = []
    for number, box in enumerate(page.locator(".frames").all()):
        controls = box.locator("input[type=range], select").all()
        problems += [] if controls else [f"figure {number} has no control"]
        for control in controls:
            before = box.evaluate(show)
            key = control.evaluate("c => c.matches('select') ? '' : c.value === c.max ? 'ArrowLeft' : 'ArrowRight'")
            following = control.evaluate("c => (c.selectedIndex + 1) % c.length")
            control.press(key) if key else control.select_option(index=following)
            after = box.evaluate(show)
            problems += [f"figure {number}: the {name} stays" for name in before if before[name] == after[name]]
            drawn = box.evaluate("box => box.querySelector('img').decode().then(() => true, () => false)")
            problems += [] if drawn else [f"figure {number}: no picture"]
    return problems


def check_tables(page):
    """A header orders the rows; one press may find them in order, two may not."""
    problems = []
    for number, table in enumerate(page.locator("table.sortable").all()):
        rows, headers = table.locator("tbody tr"), table.locator("thead :is(th[tabindex='0'], th button)").all()
        problems += [] if headers else [f"table {number} has no header to press"]
        for header in headers:
            column = header.evaluate("header => header.closest('th').cellIndex + 1")
            cells = table.locator(f"tbody tr > :nth-child({column})").all_text_contents()
            for name, act in {"a click": header.click, "Enter": functools.partial(header.press, "Enter")}.items():
                orders = {tuple(rows.all_text_contents())}
                for _ in range(2):
                    act()
                    page.evaluate("new Promise((done) => setTimeout(done, 20))")  # the script orders a little later
                    orders.add(tuple(rows.all_text_contents()))
                if len(orders) == 1 < len(set(cells)):
                    problems += [f"table {number}: {name} does not order the rows"]
    return problems


def check_dark(page):
    """The switch reaches the dark theme, and there everything can be read."""
    switch = page.locator(".theme-switch-button:visible").first
    for _ in range(3):
        switch.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            return check_contrast(page)
    return ["the switch leads to no dark theme"]


def check_pictures(page):
    """The rim of a figure stays light: its letters are dark, and on a dark rim they vanish."""
    problems = []
    for picture in page.locator("article :is(figure, .cell_output) img:visible").all():
        image = Image.open(io.BytesIO(picture.screenshot())).convert("L")
        rim = image.crop((0, image.height // 40, image.width, image.height // 40 + 1))
        problems += [f"dark figure: {picture.get_attribute('alt')}"] if ImageStat.Stat(rim).median[0] < 128 else []
    return problems


def check_page(page):
    """One problem after the other: on a phone, where other boxes scroll, then on a desk, light and dark."""
    yield from check_equations(page) + check_width(page) + check_figures(page)
    thin_out(page)
    yield from check_access(page, "scrollable-region-focusable")
    page.set_viewport_size(DESK)
    page.evaluate("document.querySelectorAll('.sortable tbody tr:nth-child(n + 9)').forEach((row) => row.remove())")
    for check in (check_equations, check_access, check_frames, check_tables):
        yield from check(page)
    keep_looks(page)
    for check in (check_contrast, check_dark, check_pictures):
        yield from check(page)


def check_search(page, wait=10_000):
    """Chapter 6 is found, or playwright's TimeoutError says that it is not."""
    page.wait_for_selector('#search-results a[href*="notebooks/06_atex.html"]', timeout=wait)


def check_controls(pages):
    """There is something to try in the book."""
    tags = re.findall(r"<(?:figure|table)\b[^>]*class=\"[^\"]*\b(frames|sortable)\b", "".join(pages))
    return [] if tags.count("frames") >= 5 and tags.count("sortable") else [f"only {tags}"]


@needs_book
@pytest.mark.parametrize("name", NAMES)
def test_page(page, served, name):
    complaints = visit(page, f"{served}/{name}")
    assert [*check_page(page), *complaints] == []


@needs_book
def test_search(page, served):
    complaints = visit(page, f"{served}/search.html?q=ATEX")
    check_search(page)
    assert complaints == []
    visit(page, (BOOK / "search.html").as_uri() + "?q=ATEX")  # a file gets no fonts and no excerpts: not asked for
    check_search(page)


def pages_on_paper(page):
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))


@needs_book
def test_the_cheat_sheet_is_two_pages_on_paper(page, served):
    visit(page, f"{served}/book/cheatsheet.html")
    assert pages_on_paper(page) == 2


@needs_book
def test_there_is_something_to_try():
    assert check_controls(path.read_text(encoding="utf-8") for path in PAGES) == []


# The checks themselves

STATIC = (ROOT / "book" / "_static").as_uri()
MATHJAX = f"{STATIC}/tex-svg-full.js"
WIDE = "<img src='wide.png' alt='A wide picture'>"
PICTURE = '<img src="0.png" alt="picture 0"><output>value 0</output>'
HEAD = "<tr><th><button>name</button></th><th><button>n</button></th></tr>"
GOOD = f"""<!doctype html><html lang="en"><head><title>Page</title><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{STATIC}/custom.css"><script src="{STATIC}/scroll.js"></script>
<style>img {{ max-width: 100% }}
html[data-theme=dark] {{ background: #111; color: #eee }} .box {{ overflow-x: auto }} a {{ color: inherit }}
</style><script>addEventListener("load", () => console.log("fine"))</script>
<script defer src="{MATHJAX}"></script></head><body><main><article><h1>Title</h1>
<button class="theme-switch-button" onclick="document.documentElement.dataset.theme = 'dark'">Theme</button>
<p>Text <span class="math">\\(x^2\\)</span></p>
<div class="box" tabindex="0"><p style="width: 50em; text-align: right">A wide table</p></div>
<figure class="frames"><label>eps <input type="range" min="0" max="2" value="0" id="slider"></label>
<label>net <select id="list"><option value="0">plain</option><option value="3">hardened</option></select></label>
{PICTURE}</figure><figure>{WIDE}</figure><table class="sortable"><thead>{HEAD}</thead><tbody>
<tr><td>a</td><td>1</td></tr><tr><td>b</td><td>1</td></tr><tr><td>c</td><td>1</td></tr></tbody></table>
<div id="search-results"><a href="notebooks/06_atex.html">ATEX</a></div>
<script>
const find = (what) => document.querySelector(what), body = find("tbody");
function show() {{
  const at = Number(slider.value) + Number(list.value);
  Object.assign(find(".frames img"), {{src: at + ".png", alt: "picture " + at}});
  find(".frames output").value = "value " + at;
}}
slider.oninput = show; list.oninput = show;
find("th button").onclick = () => body.append(...[...body.rows].reverse());
</script></article></main></body></html>"""
SPOILED = {
    "a console error": ('console.log("fine")', 'console.error("spoiled")', "spoiled"),
    "an uncaught error": ('console.log("fine")', '(() => { throw Error("spoiled") })()', "spoiled"),
    "a lost file": ("</article>", '<script src="lost.js"></script></article>', "not loaded: file:"),
    "a request to elsewhere": ("</article>", '<script src="https://a.example/b.js"></script></article>', "a.example"),
    "a request after the load": ('console.log("fine")', 'fetch("http://203.0.113.1/")', "not loaded: http:"),
    "no MathJax": (MATHJAX, "data:text/javascript,", "not drawn"),
    "a broken equation": ("x^2", "x^2^2", "equation with an error"),
    "an unknown command": ("x^2", "\\unknown", "equation with an error"),
    "a page too wide": ('class="box"', "", "the page is"),
    "text cut off": ('class="box"', 'style="overflow: hidden"', "cut off"),
    "a box out of reach": ('class="box" tabindex="0"', 'class="box"', "scrollable-region-focusable"),
    "a figure that hides a part": (
        "<figure>",
        "<figure style='overflow-x: auto'><p style='width: 50em'>",
        "hidden without a sign",
    ),
    "a sign out of sight": ("<style>", "<style>.enlarge { position: static !important }", "hidden without a sign"),
    "a small figure": ("scroll.js", "filter.js", "small, and cannot be enlarged"),
    "a dead button": ("<style>", "<style>main .enlarged img { width: 9em !important }", "does not enlarge it"),
    "a figure that stays large": (
        "</article>",
        "<script>onclick = () => find('[src=\"wide.png\"]').parentElement.classList.add('enlarged')</script></article>",
        "figure 0 stays large",
    ),
    "pale letters": ("<p>Text", '<p style="color: #ccc">Text', "color-contrast"),
    "pale letters below others": ("</article>", '<p style="color: #ccc">Text</p></article>', "color-contrast"),
    "pale letters on a ground of their own": (
        "</article>",
        '<div style="background: #777"><p>Text</p></div></article>',
        "color-contrast",
    ),
    "pale letters below hidden ones": (
        "</article>",
        '<p style="color: #ccc" hidden>Text</p><p style="color: #ccc">Text</p></article>',
        "color-contrast",
    ),
    "dark letters in the dark": ("color: #eee", "color: #222", "color-contrast"),
    "a dead switch": ("dataset.theme = 'dark'", "dataset.theme", "no dark theme"),
    "a transparent figure": ('at + ".png"', '"clear.png?" + at', "dark figure"),
    "a control without a name": ("<label>eps <input", "<label></label><input", "label:"),
    "no control": ("</article>", f"<figure class=frames>{PICTURE}</figure></article>", "figure 1 has no control"),
    "a dead slider": ("slider.oninput = show", "", "figure 0: the src stays"),
    "a dead list": ("list.oninput = show", "", "figure 0: the src stays"),
    "a slider without the keyboard": ("<input", "<input onkeydown='return false'", "figure 0: the src stays"),
    "a text that stays": ('"picture " + at', '"picture 0"', "the alt stays"),
    "an output that stays": ('"value " + at', '"value 0"', "the value stays"),
    "a lost picture": ('at + ".png"', 'at + "lost.png"', "no picture"),
    "a dead table": (".onclick", ".title", "a click does not order the rows"),
    "a table without the keyboard": (".onclick", ".onmouseup", "Enter does not order the rows"),
    "a table without buttons": (HEAD, "<tr><th>name</th><th>n</th></tr>", "no header to press"),
}


def visit_spoiled(page, folder, old="", new=""):
    assert old in GOOD
    for number in range(6):
        Image.new("RGB", (40, 40), (250, 250, 250 - number)).save(folder / f"{number}.png")
    Image.new("RGBA", (40, 40)).save(folder / "clear.png")
    Image.new("RGB", (700, 40), (250, 250, 250)).save(folder / "wide.png")
    folder.joinpath("page.html").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    return visit(page, folder.joinpath("page.html").as_uri())


def test_a_good_page_passes(page, tmp_path):
    complaints = visit_spoiled(page, tmp_path)
    assert [*check_page(page), *complaints] == []
    check_search(page)


@pytest.mark.parametrize(("old", "new", "sign"), SPOILED.values(), ids=SPOILED)
def test_a_spoiled_page_is_caught(page, tmp_path, old, new, sign):
    complaints = visit_spoiled(page, tmp_path, old, new)
    assert any(sign in problem for problem in itertools.chain(complaints, check_page(page), complaints))


def test_a_search_without_the_page_is_caught(page, tmp_path):
    visit_spoiled(page, tmp_path, "06_atex", "07_other")
    with pytest.raises(Timeout):
        check_search(page, wait=100)


def test_a_book_with_nothing_to_try_is_caught():
    assert check_controls([GOOD] * 5) == []
    assert check_controls([GOOD] * 4)
    assert check_controls([GOOD.replace("sortable", "sorted")] * 5)


def test_pages_on_paper_are_counted(page):
    for count in (1, 3):
        page.set_content('<p style="break-after: page">text</p>' * (count - 1) + "<p>text</p>")
        assert pages_on_paper(page) == count
