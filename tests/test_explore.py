"""Beta and depth, and four measures, in the reader's browser: the numbers are Python's, and the pages can be used.

As in test_live.py, the scripts are loaded from a folder on disk, without a server.
"""

import base64
import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import seeded
from scipy.stats import rankdata
from sklearn.datasets import make_moons
from test_browser import DESK, PHONE, ROOT, check_access, check_width, visit
from test_live import HEAD
from torch import nn

from atexlib import explain, maps, nets

sys.path.insert(0, str(ROOT / "book"))
import explore

STATIC = ROOT / "book" / "_static"
SCRIPTS = ("live", "explore", "explore_data")
PAGES = ("explore_toy", "explore_measures")
BETAS = (0.5, 2.0, 8.0, 64.0, None)  # None: ReLU
NEAR = 1e-11


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as the built book has it: the scripts, and pages of the raw parts of the two texts."""
    root = tmp_path_factory.mktemp("explore")
    (root / "book").mkdir()
    shutil.copytree(STATIC, root / "_static", ignore=lambda *_: {"live"})
    for name in PAGES:
        text = (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")
        parts = re.findall(r"^```\{raw\} html\n(.*?)^```", text, re.M | re.S)
        (root / "book" / f"{name}.html").write_text(f"{HEAD}{''.join(parts)}</article></main></body></html>")
    scripts = "".join(f'<script src="../_static/{name}.js"></script>' for name in SCRIPTS)
    (root / "book" / "maths.html").write_text(f"<!doctype html><title>Maths</title>{scripts}")
    return root


@pytest.fixture(scope="module")
def maths(context, site):
    with context.new_page() as page:
        page.goto((site / "book" / "maths.html").as_uri())
        yield page


# The toy


@pytest.fixture(scope="module")
def toys():
    """The nets of the committed file as nets of torch in double precision, by depth."""
    kept = json.loads((STATIC / "explore_data.js").read_text(encoding="utf-8")[len("atexExplore.list(") : -3])
    found = {}
    for depth in explore.DEPTHS:
        numbers = np.frombuffer(base64.b64decode(kept["nets"][str(depth)]), "<f4")
        found[depth] = explore.blank(depth).double()
        nn.utils.vector_to_parameters(torch.tensor(numbers).double(), found[depth].parameters())
    return found


def softened(net, beta):
    return net if beta is None else nets.with_softplus(net, beta)


def gap(ours, theirs):
    """The largest difference in units of the largest entry."""
    ours = torch.tensor(ours, dtype=torch.float64).view_as(theirs)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


LOOK = """({depth, beta, points}) => points.map((point) => {
    const {data, forward, gradient} = atexExplore, net = data.nets[depth];
    return {logits: [...forward(net, beta ?? Infinity, point).logits],
        arrows: [0, 1].map((target) => [...gradient(net, beta ?? Infinity, point, target)])};
})"""


@pytest.mark.parametrize("depth", explore.DEPTHS)
@pytest.mark.parametrize("beta", BETAS)
def test_logits_and_arrows_are_those_of_autograd(maths, toys, depth, beta):
    points = 3 * torch.rand(50, 1, 1, 2, generator=seeded(depth), dtype=torch.float64) - 1
    net = softened(toys[depth], beta)
    found = maths.evaluate(LOOK, {"depth": depth, "beta": beta, "points": points.flatten(1).tolist()})
    assert gap([one["logits"] for one in found], net(points).detach()) < NEAR
    for target in (0, 1):
        theirs = explain.gradient(net, points, target)
        assert gap([one["arrows"][target] for one in found], theirs) < NEAR


def test_a_spoiled_weight_is_seen(maths, toys):
    point = torch.tensor([[[[0.4, 0.3]]]], dtype=torch.float64)
    net, given = softened(toys[2], 8.0), {"depth": 2, "beta": 8.0, "points": [[0.4, 0.3]]}
    maths.evaluate("atexExplore.data.nets[2][1].weight[37] += 0.01")
    spoiled = maths.evaluate(LOOK, given)[0]["arrows"][1]
    maths.evaluate("atexExplore.data.nets[2][1].weight[37] -= 0.01")
    assert gap(spoiled, explain.gradient(net, point, 1)) > NEAR


def turns(net, points, step=0.2):
    """As in Chapter 3."""
    arrows = explain.gradient(net, points, 1)
    across = torch.stack([-arrows[..., 1], arrows[..., 0]], dim=-1)
    moved = explain.gradient(net, points + step * across / across.norm(dim=-1, keepdim=True), 1)
    cosines = torch.cosine_similarity(moved, arrows, dim=-1).clamp(-1, 1)
    return torch.rad2deg(cosines.arccos()).flatten()


@pytest.mark.parametrize("beta", BETAS)
def test_arrows_turn_as_in_the_chapter(maths, toys, beta):
    points = explore.moons()[0].double()
    ask = """beta => atexExplore.data.points.map((point) =>
        atexExplore.turnOf(atexExplore.data.nets[2], beta ?? Infinity, point))"""
    ours = torch.tensor(maths.evaluate(ask, beta), dtype=torch.float64)
    assert (
        ours - turns(softened(toys[2], beta), points)
    ).abs().max() < 1e-5  # degrees; arccos loses half of the digits


def test_the_file_holds_the_net_and_the_points_of_the_chapter(toys, maths):
    cells = json.loads((ROOT / "notebooks" / "03_why_it_works.ipynb").read_text(encoding="utf-8"))["cells"]
    cell = next("".join(cell["source"]) for cell in cells if "make_moons(400" in "".join(cell["source"]))
    names = {"make_moons": make_moons, "torch": torch, "nn": nn, "nets": nets, "seed": 0, "print": lambda *_: None}
    exec(cell, names)
    points, classes = names["moons"]
    kept = maths.evaluate("[atexExplore.data.points, atexExplore.data.classes]")
    assert torch.equal(torch.tensor(kept[0]).view_as(points), points)
    assert kept[1] == classes.tolist()
    for depth, net in toys.items():
        again = names["toy"] if depth == 2 else explore.trained(depth)
        ours, theirs = (
            net(points.double()),
            again(points),
        )  # another processor may round otherwise, all along a training
        assert (ours - theirs).abs().median() < 0.1
        assert (ours.argmax(1) == theirs.argmax(1)).double().mean() > 0.98


def test_a_walk_keeps_the_logit_and_turns_the_arrow(maths):
    found = maths.evaluate("""() => {
        const {data, walk, forward, gradient, angle} = atexExplore, net = data.nets[2];
        const look = (place) => gradient(net, 4, place);
        let point = [0.85, -0.1];
        const [logit, arrow] = [forward(net, 4, point).logits[1], look(point)];
        for (let step = 0; step < 50; step++) point = walk(net, 4, point, 0.02);
        return {logit, after: forward(net, 4, point).logits[1], turn: angle(arrow, look(point)), point};
    }""")
    assert found["after"] == pytest.approx(found["logit"], abs=1e-9)
    assert found["turn"] > 20


# The measures


def some_maps(zeros):
    """Pairs of maps, each with so many zeros and with ties among the small entries, and no tie among the top 50."""
    pairs = torch.rand(2, 6, 1, 28, 28, generator=seeded(4), dtype=torch.float64)
    moved = torch.cat([pairs[0, :3], pairs[0, 3:].roll(1, -1)])  # half of them alike, half alike up to a pixel
    pairs[1] = 0.7 * moved + 0.3 * pairs[1]
    small = pairs < pairs.flatten(2).quantile(0.7, dim=2)[..., None, None, None]
    pairs = torch.where(small, (20 * pairs).round() / 20, pairs)
    lowest = pairs.flatten(2).quantile(zeros, dim=2)[..., None, None, None]
    return torch.where(pairs < lowest, 0.0, pairs)


MEASURES = {
    "spearman": maps.spearman,
    "topk": maps.topk_intersection,
    "ssim": maps.ssim,
    "lens": maps.lens_topk,
}


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.85])
def test_the_measures_are_the_library_s(maths, zeros):
    a, b = some_maps(zeros)
    pairs = [[one.flatten().tolist(), two.flatten().tolist()] for one, two in zip(a, b, strict=True)]
    found = maths.evaluate("pairs => pairs.map(([a, b]) => atexExplore.measures(a, b))", pairs)
    for name, measure in MEASURES.items():
        assert [one[name] for one in found] == pytest.approx(measure(a, b).tolist(), abs=1e-9), name


def test_ordinal_ranks_are_scipy_s(maths):
    a, b = (one[0].flatten() for one in some_maps(0.6))
    theirs = np.corrcoef(rankdata(a, method="ordinal"), rankdata(b, method="ordinal"))[0, 1]
    ours = maths.evaluate("([a, b]) => atexExplore.ordinalSpearman(a, b)", [a.tolist(), b.tolist()])
    assert ours == pytest.approx(theirs, abs=1e-9)


def of_scene(page, **state):
    ask = """state => {
        const {clean, copy} = atexExplore.pair({...atexExplore.START, ...state});
        return atexExplore.measures(clean, copy);
    }"""
    return page.evaluate(ask, state)


def test_the_page_shows_what_its_text_says(maths):
    pixel, smooth = of_scene(maths, column=1), of_scene(maths, column=1, rough=False)
    assert pixel["topk"] <= 0.5
    assert pixel["lens"] >= 0.95
    assert smooth["topk"] > 0.75
    gone = of_scene(maths, strength=0)
    assert gone["spearman"] > 0.75
    assert gone["topk"] < 0.2
    breath = of_scene(maths, zeros=0.8, noise=1e-6)
    assert breath["spearman"] < 0.75
    assert min(breath[name] for name in ("topk", "ssim", "lens")) > 0.999
    unrelated = of_scene(maths, zeros=0.9, copy="shuffled")
    assert abs(unrelated["spearman"]) < 0.1
    assert unrelated["ordinal"] > 0.5
    assert unrelated["topk"] < 0.1
    assert unrelated["lens"] > 0.2
    same = of_scene(maths, zeros=0.5)
    assert list(same.values()) == pytest.approx([1] * 5)


def test_median_and_tail_part_as_the_text_says(maths):
    found = maths.evaluate("""() => [1, 2, 3].map((depth) => [2, Infinity].map((beta) => {
        const {data, turnOf} = atexExplore, turns = data.points.map((point) => turnOf(data.nets[depth], beta, point));
        turns.sort((a, b) => a - b);
        return [turns[200], turns.filter((turn) => turn > 30).length / 400];
    }))""")
    for (soft, none), (sharp, some) in found:
        assert sharp < soft
        assert none == 0
        assert some > 0.1


# The pages


@pytest.fixture
def opened(context, site):
    """Open one of the pages from the disk; none may complain by the end."""
    pages = []

    def visit_one(name, words):
        page = context.new_page()
        pages.append(page)
        page.set_viewport_size(PHONE)
        page.complaints = visit(page, (site / "book" / f"{name}.html").as_uri())
        said(page, words)
        return page

    yield visit_one
    for page in pages:
        assert page.complaints == []
        page.close()


def said(page, *words):
    """Wait until these words stand in the live region, and return all of them."""
    look = "words => words.every((each) => document.querySelector('.live-said').textContent.includes(each))"
    page.wait_for_function(look, arg=list(words), timeout=20_000)
    assert page.get_attribute(".live-said", "role") == "status"
    return page.text_content(".live-said")


def dots(page, name):
    return page.evaluate("id => document.getElementById(id).toDataURL()", name)


def test_the_toy_by_keyboard(opened):
    page = opened("explore_toy", "Beta 8, 2 hidden layers")
    first = dots(page, "toy-plane")
    page.focus("#toy-beta")
    page.keyboard.press("End")
    assert "ReLU, 2 hidden layers" in said(page, "ReLU")
    assert page.text_content("#toy-beta-value") == page.get_attribute("#toy-beta", "aria-valuetext") == "ReLU"
    assert dots(page, "toy-plane") != first
    page.keyboard.press("Home")
    page.focus("#toy-depth")
    page.keyboard.press("ArrowDown")
    said(page, "Beta 0.5, 3 hidden layers")
    page.focus("#toy-again")
    page.keyboard.press("Enter")
    said(page, "Beta 8, 2 hidden layers", "(0.85, −0.10)")
    assert dots(page, "toy-plane") == first
    page.focus("#toy-probe")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert said(page, "(0.75, −0.05)").startswith("At the probe")
    assert "(0.75, −0.05)" in page.get_attribute("#toy-probe", "aria-label")
    page.focus("#toy-left")
    for _ in range(4):
        page.keyboard.press("Enter")
    assert "The logit changed by 0.000" in said(page, "You have walked 0.40")
    page.focus("#toy-points")
    before = dots(page, "toy-plane")
    page.keyboard.press("Space")
    assert dots(page, "toy-plane") != before


def test_the_probe_is_dragged_and_brought_and_a_walk_ends_at_the_rim(opened):
    page = opened("explore_toy", "Beta 8")
    page.locator("#toy-plane").scroll_into_view_if_needed()
    box, probe = page.locator("#toy-plane").bounding_box(), page.locator("#toy-probe").bounding_box()
    page.mouse.move(probe["x"] + 4, probe["y"] + 4)
    page.mouse.down()
    page.mouse.move(probe["x"] + 4 + box["width"] / 4.2, probe["y"] + 4, steps=3)  # one unit of the plane
    page.mouse.up()
    said(page, "(1.85, −0.10)")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    x, y = re.search(r"\((.*?), (.*?)\)", said(page, "(0.5")).groups()
    assert (float(x), float(y)) == pytest.approx((0.5, 0.375), abs=0.02)
    page.evaluate("for (let press = 0; press < 60; press++) document.getElementById('toy-left').click()")
    said(page, "leads no further")


def test_a_finger_brings_the_probe_and_may_still_scroll(context, site):
    with context.browser.new_context(viewport=PHONE, has_touch=True) as phone, phone.new_page() as page:
        complaints = visit(page, (site / "book" / "explore_toy.html").as_uri())
        page.locator("#toy-plane").scroll_into_view_if_needed()
        box = page.locator("#toy-plane").bounding_box()
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        said(page, "At the probe (0.5")
        touch = "id => getComputedStyle(document.getElementById(id)).touchAction"
        assert [page.evaluate(touch, name) for name in ("toy-plane", "toy-probe")] == ["auto", "none"]
        assert complaints == []


def test_the_blob_by_keyboard(opened):
    page = opened("explore_measures", "The blob is at its place. All four measures say 1.00")
    first = dots(page, "measures-copy")
    page.focus("#measures-blob")
    page.keyboard.press("ArrowRight")
    told = said(page, "The blob is 1 pixel to the right.", "Lowest: top 50 shared with 0.46. Highest: LENS top 50")
    assert page.text_content("#measures-topk") in told
    assert dots(page, "measures-copy") != first == dots(page, "measures-clean")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    said(page, "1 pixel to the right and 2 pixels down")
    page.focus("#measures-strength")
    page.keyboard.press("Home")
    page.focus("#measures-zeros")
    page.keyboard.press("End")
    said(page, "with 0.0 times its strength", "706 of the 784 entries")
    page.focus("#measures-noise")
    page.keyboard.press("ArrowDown")
    page.focus("#measures-copies")
    page.keyboard.press("ArrowDown")
    said(page, "The copy has its entries shuffled")
    assert page.locator("#measures-blob").is_hidden()
    page.focus("#measures-tries button[value=start]")
    page.keyboard.press("Enter")
    said(page, "The blob is at its place. All four measures say 1.00")
    assert dots(page, "measures-copy") == first


def test_each_example_is_spoken_once_and_sets_the_controls(opened):
    page = opened("explore_measures", "All four")
    page.evaluate("""() => {
        window.spoken = [];
        const region = document.querySelector(".live-said");
        new MutationObserver(() => spoken.push(region.textContent)).observe(region, {childList: true});
    }""")
    page.click("button[value=breath]")
    page.click("button[value=unrelated]")
    told = said(page, "With ordinal ranks Spearman would say 0.59")
    assert page.evaluate("spoken") == [told]
    assert page.input_value("#measures-zeros") == "90"
    assert page.input_value("#measures-copies") == "shuffled"
    assert page.text_content("#measures-spearman").startswith("−0.0")


def test_the_blob_is_dragged_and_does_not_jump(opened):
    page = opened("explore_measures", "All four")
    page.locator("#measures-copy").scroll_into_view_if_needed()
    box, blob = page.locator("#measures-copy").bounding_box(), page.locator("#measures-blob").bounding_box()
    page.mouse.move(blob["x"] + 5, blob["y"] + 5)
    page.mouse.down()
    page.mouse.move(blob["x"] + 5 + 6 * box["width"] / 28, blob["y"] + 5, steps=4)
    page.mouse.up()
    said(page, "The blob is 6 pixels to the right.")


@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_use_it(opened, name):
    page = opened(name, "0.")
    page.evaluate("name => name === 'explore_toy' && document.getElementById('toy-left').click()", name)
    assert check_width(page) + check_access(page) == []
    page.set_viewport_size(DESK)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert check_width(page) + check_access(page) == []


def test_the_scripts_are_light_and_ask_for_nothing_else():
    own = [STATIC / f"{name}.js" for name in (*SCRIPTS, *PAGES)]
    assert sum(path.stat().st_size for path in own) < 100_000
    assert (STATIC / "explore_data.js").stat().st_size < 20_000
    for path in own:
        assert not re.search(r"\b(fetch|eval|import|XMLHttpRequest|Function)\b *[(]", path.read_text(encoding="utf-8"))
    for name in PAGES:
        assert "//" not in (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")  # no other address
