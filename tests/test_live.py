"""The attack in the reader's browser: its arithmetic is the library's, in double precision, and its page can be used.

The scripts are loaded from a folder on disk, without a server, into the browser of test_browser.py.
"""

import re
import shutil
import sys

import pytest
import torch
from conftest import seeded
from scipy.stats import spearmanr
from test_browser import DESK, PHONE, ROOT, check_access, check_width, visit

from atexlib import attack, checks, data, experiments, explain, maps
from atexlib.attack.inputs import prediction_violation

sys.path.insert(0, str(ROOT / "book"))
import live

STATIC = ROOT / "book" / "_static"
NETS = [f"{dataset}-{defense}" for dataset in live.DATASETS for defense in live.DEFENCES]
PLACE = {"top": 3, "left": 20}
NEAR = 1e-11  # what is left of float64 after some 2,000 additions


THEME = """<style>html { --pst-color-border: #c9c9c9; --pst-color-text-base: #222; --pst-color-text-muted: #48566b;
--pst-color-background: #fff; font-family: sans-serif } html[data-theme=dark] { --pst-color-border: #444;
--pst-color-text-base: #ced6dd; --pst-color-text-muted: #9ca4af; --pst-color-background: #121212; background: #121212;
color: #ced6dd }</style>"""
HEAD = f'<!doctype html><html lang="en"><head><title>Live</title><meta charset="utf-8">{THEME}'
HEAD += '<meta name="viewport" content="width=device-width"></head><body><main><article><h1>Live</h1>'


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder as the built book has it: the scripts, the nets, and a page of the raw parts of book/live.md."""
    root = tmp_path_factory.mktemp("site")
    (root / "book").mkdir()
    shutil.copytree(STATIC, root / "_static", ignore=lambda *_: {"live"})
    live.write(root / "_static" / "live")
    parts = re.findall(r"^```\{raw\} html\n(.*?)^```", (ROOT / "book/live.md").read_text(encoding="utf-8"), re.M | re.S)
    (root / "book" / "live.html").write_text(f"{HEAD}{''.join(parts)}</article></main></body></html>", encoding="utf-8")
    scripts = [f'<script src="../_static/{name}.js"></script>' for name in ("live", "live/index")]
    (root / "book" / "maths.html").write_text(f"<!doctype html><title>Maths</title>{''.join(scripts)}")
    return root


@pytest.fixture(scope="module")
def maths(context, site):
    with context.new_page() as page:
        page.goto((site / "book" / "maths.html").as_uri())
        yield page


def net_of(name):
    dataset, _, defense = name.rpartition("-")
    return experiments.trained(dataset=dataset, defense=defense, preset=live.preset_of(dataset)).double()


def square():
    mask = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    mask[..., PLACE["top"] : PLACE["top"] + 5, PLACE["left"] : PLACE["left"] + 5] = 1
    return mask


OBJECTIVES = {
    "untargeted": attack.Untargeted(k=50),
    "targeted": attack.Targeted(square()),
    "distance": attack.Distance(),
}

LOOK = """async ({net, image, objective, square, eps, z, spoil}) => {
    const kept = await atexLive.load(net), [name, at] = spoil ?? [];
    if (name) kept[name][at] += 0.01;
    const run = atexLive.begin({net: kept, x: image, objective, square, eps, steps: 2});
    const {slope, ...seen} = atexLive.maths.look(run, Float64Array.from(z)), by = slope();
    if (name) kept[name][at] -= 0.01;
    const flat = (values) => Array.from(values);
    return {...seen, map: flat(seen.map), logits: flat(seen.logits), slope: flat(by), cleanMap: flat(run.cleanMap),
        target: run.target};
}"""
ATTACK = """async (given) => {
    const found = await atexLive.attack(given);
    return {...found, x: Array.from(found.x), map: Array.from(found.map)};
}"""


@checks.trusted()
def looked(net, x, z, objective):
    """What LOOK finds, by autograd."""
    target = net(x).argmax(1)
    clean_map = explain.gradient(net, x, target)
    z = z.clone().requires_grad_()
    logits, found = net(z), explain.gradient(net, z, target, create_graph=True)
    score, excess = objective(clean_map)(found), prediction_violation(net(x), target)(logits)
    climb = score if excess < 0 else -excess
    parts = {"logits": logits, "map": found, "cleanMap": clean_map, "score": score}
    parts["slope"] = torch.autograd.grad(climb.sum(), z)[0]
    return {"target": int(target), "feasible": bool(excess < 0)} | {n: p.detach().flatten() for n, p in parts.items()}


def differing(ours, theirs):
    """Names of what differs by more than rounding, in units of the largest entry."""
    wrong = [name for name in ("target", "feasible") if ours[name] != theirs[name]]
    for name in ("logits", "map", "slope", "cleanMap", "score"):
        mine = torch.tensor(ours[name], dtype=torch.float64).flatten()
        gap = ((mine - theirs[name]).abs().max() / theirs[name].abs().max()).item()
        wrong += [] if gap < NEAR else [f"{name}: {gap:.1e}"]
    return wrong


def off_ties(images, noise=0.2):
    """Images with noise in each pixel: no two entries of a window of pooling are equal."""
    return (1 - noise) * images + noise * torch.rand(images.shape, generator=seeded(3), dtype=torch.float64)


def points(net):
    """An image off the ties, a point near it with its label, and one that has another label."""
    images = off_ties(live.clothes().double())
    labels = net(images).argmax(1)
    other = int((labels != labels[0]).nonzero()[0])
    return images[:1], off_ties(images[:1], noise=0.02), images[other : other + 1]


def ask(page, name, x, z, objective, **more):
    given = {"net": name, "image": x.flatten().tolist(), "objective": objective, "square": PLACE, "eps": 0.1}
    return page.evaluate(LOOK, given | {"z": z.flatten().tolist()} | more)


def run(page, name, x, objective, **more):
    found = page.evaluate(
        ATTACK, {"net": name, "image": x.flatten().tolist(), "objective": objective, "square": PLACE} | more
    )
    return found | {part: torch.tensor(found[part], dtype=torch.float64).view(1, 1, 28, 28) for part in ("x", "map")}


@pytest.mark.parametrize("name", NETS)
def test_a_step_is_that_of_autograd(maths, name):
    net = net_of(name)
    x, near, other = points(net)
    for objective, instance in OBJECTIVES.items():
        for z, feasible in ((near, True), (other, False)):
            theirs = looked(net, x, z, instance)
            assert theirs["feasible"] is feasible
            assert differing(ask(maths, name, x, z, objective), theirs) == [], (objective, feasible)


def test_a_spoiled_weight_is_caught(maths):
    name = NETS[0]
    net = net_of(name)
    x, near, _ = points(net)
    theirs = looked(net, x, near, OBJECTIVES["untargeted"])
    for part, weight in net.state_dict().items():
        at = int(weight.flatten().abs().argmax())
        assert differing(ask(maths, name, x, near, "untargeted", spoil=[part, at]), theirs), part
    assert differing(ask(maths, name, x, near, "untargeted"), theirs) == []


def test_of_equal_entries_of_a_window_the_first_wins(maths):
    image = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    image[..., 2, 3], image[..., 4, 4:6], image[..., 7, 6:] = 1, 2, -1
    places = maths.evaluate(
        "x => Array.from(atexLive.maths.poolPlaces(Float64Array.from(x), 8))", image.flatten().tolist()
    )
    assert places == torch.nn.functional.max_pool2d(image, 2, return_indices=True)[1].flatten().tolist()
    black = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    firsts = maths.evaluate(
        "async net => Array.from(atexLive.maths.forward(await atexLive.load(net), new Float64Array(784)).places1)",
        NETS[0],
    )
    conv = net_of(NETS[0]).conv1(black)
    inner = (
        torch.nn.functional.max_pool2d(conv, 2, return_indices=True)[1].flatten()
        + torch.arange(32).repeat_interleave(196) * 784
    )
    assert firsts == inner.tolist()


def test_softplus_and_its_derivatives_up_to_the_threshold(maths):
    z = torch.tensor([-90.0, -3, -0.1, 0, 0.1, 1.9, 1.999, 2.001, 90], dtype=torch.float64, requires_grad=True)
    value = torch.nn.functional.softplus(z, beta=10)
    (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    ours = maths.evaluate(
        "z => Object.values(atexLive.maths.softplus(Float64Array.from(z), 10)).map((part) => Array.from(part))",
        z.tolist(),
    )
    for mine, theirs in zip(ours, (value, first, second), strict=True):
        torch.testing.assert_close(torch.tensor(mine, dtype=torch.float64), theirs.detach(), rtol=1e-12, atol=1e-15)


def test_spearman_and_top_50(maths):
    a, b = torch.randint(6, (2, 784), generator=seeded(1)).double()
    ours = maths.evaluate("([a, b]) => atexLive.maths.spearman(a, b)", [a.tolist(), b.tolist()])
    assert ours == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    c = a + torch.rand(784, generator=seeded(2))
    d = c + torch.rand(784, generator=seeded(3))
    ours = maths.evaluate("([c, d]) => atexLive.maths.topkIntersection(c, d, 50)", [c.tolist(), d.tolist()])
    assert ours == maps.topk_intersection(c.view(1, 1, 28, 28), d.view(1, 1, 28, 28)).item()
    assert 0 < ours < 1


@pytest.mark.parametrize(("objective", "eps"), [("untargeted", 0.03), ("untargeted", 0.4), ("targeted", 0.2)])
def test_the_first_steps_are_those_of_the_library(maths, objective, eps):
    """Off the ties the two go the same way for a while: ball, momentum, cosine, the way back to the label."""
    name = "mnist-none"
    net, (x, _, _) = net_of(name), points(net_of(name))
    for steps in (1, 2, 4):
        theirs = attack.manipulate(net, x, OBJECTIVES[objective], eps=eps, steps=steps)
        ours = run(maths, name, x, objective, eps=eps, steps=steps)
        torch.testing.assert_close(ours["x"], theirs.x, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours["map"], theirs.map, rtol=0, atol=1e-9)
        for part in ("score", "clean_score", "distance", "label_kept"):
            assert ours[part] == pytest.approx(getattr(theirs, part).item(), abs=1e-9)
        assert ours["spearman"] == pytest.approx(maps.spearman(theirs.clean_map.abs(), theirs.map.abs()).item())


def test_the_ball_is_the_library_s_and_rounding_does_not_leave_it(maths):
    x, z = torch.rand(2, 1, 1, 28, 28, generator=seeded(7), dtype=torch.float64)
    for eps in (0, 0.03, 0.1, 0.7):
        theirs = attack.Ball(x, eps, "linf", (0, 1)).project(2 * z - 0.5)
        ours = maths.evaluate(
            "([z, x, eps]) => atexLive.maths.project(z, x, eps)",
            [(2 * z - 0.5).flatten().tolist(), x.flatten().tolist(), eps],
        )
        assert ours == theirs.flatten().tolist()
        assert (theirs - x).abs().max() <= eps


def test_the_best_step_that_keeps_the_label_is_returned(maths):
    runs = maths.evaluate("""async () => {
        const net = await atexLive.load("mnist-none");
        return [3, 4].map((digit) => {
            const x = atexLive.images[`digit-${digit}`].x;
            const run = atexLive.begin({net, x, objective: "untargeted", eps: 0.1, steps: 50});
            while (!atexLive.done(run)) atexLive.advance(run);
            return [run.frames.map(({score, feasible}) => feasible ? score : -9), atexLive.found(run).score];
        });
    }""")
    for scores, best in runs:
        assert best == max(scores)
    assert any(best > next(score for score in scores[::-1] if score > -9) for scores, best in runs)
    assert any(-9 in scores for scores, _ in runs)


@pytest.mark.parametrize(
    ("name", "objective"),
    [("fashion-mnist-none", "untargeted"), ("fashion-mnist-none", "distance"), ("mnist-naive", "targeted")],
)
def test_whole_attacks_are_as_strong_as_the_library_s(maths, name, objective):
    """Not the same: at the ties of a black ground rounding decides where a map goes. What counts is what they add."""
    net = net_of(name)
    x = live.clothes().double() if name.startswith("fashion") else data.load("digits", "test").images[:10].double()
    theirs = attack.manipulate(net, x, OBJECTIVES[objective], eps=0.1, steps=15)
    ours = [run(maths, name, image, objective, eps=0.1, steps=15) for image in x]
    for found in ours:
        assert found["label_kept"]
        assert found["distance"] <= 0.1
        assert found["score"] > found["clean_score"]
    gain = sum(found["score"] - found["clean_score"] for found in ours) / len(ours)
    assert gain == pytest.approx((theirs.score - theirs.clean_score).mean().item(), rel=0.03)


def test_each_objective_rises_on_each_net(maths):
    for name in NETS:
        image = "fashion-5" if name.startswith("fashion") else "digit-5"
        for objective in OBJECTIVES:
            given = {"net": name, "image": image, "objective": objective, "square": PLACE, "eps": 0.1, "steps": 8}
            found = maths.evaluate(ATTACK, given)
            assert found["score"] > found["clean_score"] + 0.005, (name, objective)


REFUSED = {
    "another shape": ("d.shapes['fc1.weight'] = [60, 1568]", "fc1.weight has the shape 60,1568"),
    "one layer more": ("d.shapes['fc3.weight'] = [10, 10]", "fc3.weight has the shape 10,10"),
    "a cut file": ("d.weights = d.weights.slice(0, -8)", "bytes, not"),
    "ReLU units": ("d.beta = null", "softplus units alone"),
}


@pytest.mark.parametrize(("spoil", "told"), REFUSED.values(), ids=REFUSED)
def test_a_net_that_does_not_fit_is_refused(maths, spoil, told):
    message = maths.evaluate(
        f"d => {{ {spoil}; atexLive.keep('mnist-none', d); return atexLive.nets['mnist-none'].refused.message }}",
        live.weights(net_of("mnist-none")),
    )
    assert told in message


def test_what_cannot_be_attacked_is_said(maths):
    wrong = {
        "no net is called other": {"net": "other", "image": "digit-1"},
        "no image is called": {"net": "mnist-none", "image": "digit-11"},
        "objective is up; pass one of": {"net": "mnist-none", "image": "digit-1", "objective": "up"},
        "784 pixels in [0, 1]": {"net": "mnist-none", "image": [2.0] * 784},
        "steps is 0": {"net": "mnist-none", "image": "digit-1", "steps": 0},
    }
    for told, given in wrong.items():
        message = maths.evaluate("given => atexLive.attack(given).catch((error) => error.message)", given)
        assert told in message


def test_the_ten_images_are_those_of_the_data_set(maths, monkeypatch):
    assert maths.evaluate("Object.keys(atexLive.images).length") == 20
    assert "MIT" in (STATIC / "fashion-mnist.LICENSE.txt").read_text(encoding="utf-8")
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.download", lambda _: pytest.skip("no Fashion-MNIST here"))
    published = data.load("fashion-mnist", "test")
    assert torch.equal(live.clothes(), published.images[list(live.PLACES)])
    assert published.labels[list(live.PLACES)].tolist() == list(range(10))


# The page


@pytest.fixture
def page(context, site):
    """The page on a disk, with its first net loaded and its map drawn."""
    with context.new_page() as page:
        page.complaints = visit(page, (site / "book" / "live.html").as_uri())
        said(page, "Before the attack")
        yield page
        assert page.complaints == []


def said(page, words, place="said"):
    """Wait until these words stand there, and return all of them."""
    look = "([place, words]) => document.getElementById(`live-${place}`).textContent.includes(words)"
    page.wait_for_function(look, arg=[place, words], timeout=30_000)
    return page.text_content(f"#live-{place}")


def dots(page, name):
    """What is drawn on a canvas."""
    return page.evaluate("id => document.getElementById(id).toDataURL()", f"live-{name}")


def shades(page):
    """The pixels of the drawing, from 0 to 15, as the link has them."""
    page.click("#live-show-link")
    return [int(shade, 16) for shade in re.search("image=([0-9a-f]{784})", page.input_value("#live-link"))[1]]


def test_an_attack_is_shown_and_its_last_step_alone_is_spoken(page):
    page.select_option("#live-steps", "10")
    before = said(page, "Before the attack")
    clean = dots(page, "map")
    assert dots(page, "map-after") == clean
    page.evaluate("""() => {
        window.spoken = [];
        const see = () => spoken.push(document.getElementById("live-said").textContent);
        new MutationObserver(see).observe(document.getElementById("live-said"), {childList: true, characterData: true});
    }""")
    page.click("#live-attack")
    after = said(page, "This is the best step")
    assert page.evaluate("spoken") == [after]
    assert dots(page, "map-after") != clean == dots(page, "map")
    assert "Ankle boot" in before
    assert "the label stays “Ankle boot”" in after
    at = int(page.input_value("#live-at"))
    page.click("#live-back")
    assert f"Step {at - 1} of 10" in said(page, f"Step {at - 1}")
    page.click("#live-step")
    assert said(page, f"Step {at} of 10") == after
    page.click("#live-again")
    assert said(page, "Before the attack") == before


def test_another_eps_starts_at_once_and_a_kept_one_comes_back(page):
    page.select_option("#live-steps", "10")
    page.click("#live-attack")
    first = said(page, "This is the best step")
    page.fill("#live-eps", "5")
    second = said(page, "largest change of a pixel 0.050")
    assert len(said(page, "0.05", "kept").split("·")) == 2
    page.fill("#live-eps", "10")
    assert said(page, "largest change of a pixel 0.100") == first != second


def test_everything_works_by_keyboard(page):
    page.focus("#live-objective")
    page.keyboard.press("ArrowDown")
    said(page, "Before the attack")
    assert page.input_value("#live-objective") == "targeted"
    page.focus("#live-square")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert "row 4, column 5" in page.get_attribute("#live-square", "aria-label")
    page.focus("#live-step")
    page.keyboard.press("Enter")
    said(page, "Step 1 of 50")
    page.focus("#live-at")
    page.keyboard.press("ArrowLeft")
    said(page, "Before the attack")
    page.focus("input[name=live-image]:checked")
    page.keyboard.press("ArrowRight")  # past the last image: the drawing board
    page.focus("#live-board")
    page.keyboard.press("Space")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowDown")
    drawn = shades(page)
    assert [drawn[28 * row + 9] for row in (6, 9, 11)] == [15, 15, 15]
    assert page.locator("#live-cursor").is_visible()
    assert drawn[28 * 20 + 9] == 0
    page.focus("#live-board")
    page.keyboard.press("Backspace")
    assert shades(page)[28 * 11 + 9] == 0


def test_a_drawing_by_mouse(page):
    page.select_option("#live-net", "mnist-none")
    page.check("input[value=drawing]", force=True)
    empty = dots(page, "x")
    page.locator("#live-board").scroll_into_view_if_needed()
    box = page.locator("#live-board").bounding_box()
    places = [
        (box["x"] + box["width"] * across, box["y"] + box["height"] * down) for across, down in ((0.5, 0.2), (0.5, 0.8))
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=3)
    page.mouse.up()
    said(page, "says “1”")
    assert dots(page, "x") != empty
    page.click("#live-clear")
    assert set(shades(page)) == {0}


def test_a_drawing_by_finger_on_a_phone_that_wants_no_motion(context, site):
    options = {"viewport": PHONE, "has_touch": True, "reduced_motion": "reduce"}
    with context.browser.new_context(**options) as phone, phone.new_page() as page:
        complaints = visit(page, (site / "book" / "live.html").as_uri())
        said(page, "Before the attack")
        page.check("input[value=drawing]", force=True)
        page.locator("#live-board").scroll_into_view_if_needed()
        page.locator("#live-board").tap()
        drawn = shades(page)
        assert max(drawn) == 15
        assert sum(shade > 0 for shade in drawn) < 20
        assert page.evaluate("getComputedStyle(document.getElementById('live-board')).touchAction") == "none"
        page.select_option("#live-steps", "10")
        page.check("input[value=fashion-1]", force=True)
        said(page, "Trouser")
        page.evaluate("""() => {
            window.counts = new Set();
            const see = () => counts.add(document.getElementById("live-count").textContent);
            new MutationObserver(see).observe(document.getElementById("live-count"), {childList: true});
        }""")
        page.click("#live-attack")
        said(page, "This is the best step")
        assert page.evaluate("counts.size") == 1
        assert complaints == []


def test_a_link_brings_everything_back(page, site):
    page.select_option("#live-net", "mnist-atex")
    page.select_option("#live-objective", "targeted")
    page.check("input[value=digit-4]", force=True)
    page.fill("#live-eps", "7")
    page.select_option("#live-steps", "25")
    page.focus("#live-square")
    page.keyboard.press("ArrowDown")
    page.click("#live-show-link")
    link = page.input_value("#live-link")
    assert link.endswith("#net=mnist-atex&image=digit-4&objective=targeted&eps=0.07&steps=25&top=4&left=3")
    assert page.url == link
    assert page.locator("#live-link").is_visible()
    expected = said(page, "Before the attack"), dots(page, "map")
    page.goto((site / "book" / "maths.html").as_uri())
    page.goto(link)
    assert (said(page, "Before the attack"), dots(page, "map")) == expected
    for name, value in {"eps": "7", "steps": "25", "net": "mnist-atex", "objective": "targeted"}.items():
        assert page.input_value(f"#live-{name}") == value
    page.evaluate("location.hash = '#net=mnist-none&image=none&objective=up&eps=9&steps=-1&top=99'")
    page.wait_for_function("document.getElementById('live-net').value === 'mnist-none'")
    assert page.input_value("#live-link").endswith(
        "#net=mnist-none&image=digit-9&objective=untargeted&eps=0.1&steps=50"
    )
    page.evaluate("location.hash = '#guess-first'")
    assert page.input_value("#live-net") == "mnist-none"


def test_a_guess_is_counted_and_answered(page):
    for number in (1, 2):
        page.click("#live-guess-new")
        said(page, "Which map was manipulated?", "guess-said")
        assert dots(page, "guess-map-left") != dots(page, "guess-map-right")
        page.click("#live-guess-left")
        told = said(page, "was manipulated. The Spearman", "guess-said")
        right = page.locator(".live-answer #live-guess-left").count()
        assert told.startswith("Right: the map on the left" if right else "No: the map on the right")
        assert f"of {number} right" in page.text_content("#live-guess-tally")
        assert page.locator("#live-guess-right").is_disabled()


def test_a_race_shows_both_nets(page):
    page.select_option("#live-steps", "10")
    page.select_option("#live-against", "fashion-mnist-naive")
    page.click("#live-race")
    told = said(page, "What the attack returns", "race-said")
    assert "(undefended)" in told
    assert "(naive defence)" in told
    assert dots(page, "race-map-0") != dots(page, "race-map-1")
    assert page.locator("#live-race-curve polyline").count() == 2


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_lines_of_python_run_and_say_the_same(page, objective):
    page.select_option("#live-net", "mnist-none")
    page.select_option("#live-objective", objective)
    page.select_option("#live-steps", "10")
    page.check("input[value=digit-5]", force=True)
    if objective == "targeted":
        for _ in range(9):
            page.press("#live-square", "ArrowRight")
    page.click("#live-show-python")
    lines = page.text_content("#live-python")
    assert len(lines.splitlines()) - 3 == 5
    names = {"print": lambda *_: None}
    exec(lines, names)
    given = {"net": "mnist-none", "image": "digit-5", "objective": objective, "square": {"top": 3, "left": 12}}
    found = page.evaluate(ATTACK, given | {"steps": 10})
    assert found["clean_score"] == pytest.approx(names["found"].clean_score.item(), abs=1e-4)
    assert found["score"] == pytest.approx(names["found"].score.item(), abs=0.2 if objective == "distance" else 0.03)


def test_the_lines_for_a_drawing_have_its_pixels(page):
    page.check("input[value=drawing]", force=True)
    page.locator("#live-board").click(position={"x": 100, "y": 100})
    line = next(line for line in page.text_content("#live-python").splitlines() if line.startswith("x ="))
    names = {"torch": torch}
    exec(line, names)
    assert (15 * names["x"].flatten()).round().int().tolist() == shades(page)


def test_a_net_that_is_not_there_is_said(page):
    page.evaluate("atexLive.nets['mnist-none'] = {...atexLive.nets['mnist-none'], weights: undefined}")
    page.evaluate("atexLive.keep('mnist-none', {shapes: {}, weights: '', beta: 10})")
    page.evaluate("atexLive.nets.ghost = atexLive.nets['mnist-none']")
    told = page.evaluate("atexLive.attack({net: 'ghost', image: 'digit-1'}).catch((error) => error.message)")
    assert "the net ghost could not be loaded: its file is not there" in told
    page.complaints.clear()  # of the file that is not there


def test_everybody_can_use_it(page):
    page.select_option("#live-objective", "targeted")
    page.select_option("#live-steps", "10")
    for button, place, words in (
        ("attack", "said", "best step"),
        ("race", "race-said", "returns"),
        ("guess-new", "guess-said", "Which"),
    ):
        page.click(f"#live-{button}")
        said(page, words, place)
    page.click("#live-show-python")
    page.click("#live-show-link")
    page.check("input[value=drawing]", force=True)
    assert check_width(page) + check_access(page) == []
    page.set_viewport_size(DESK)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert check_width(page) + check_access(page) == []


def test_the_scripts_are_light_and_ask_for_nothing_else(site):
    static = site / "_static"
    own = [static / name for name in ("live.js", "live_page.js", "live.css", "live/index.js")]
    nets = list((static / "live").glob("*mnist*.js"))
    assert len(nets) == len(NETS)
    page = sum(path.stat().st_size for path in own) + (ROOT / "book/live.md").stat().st_size
    assert page + max(path.stat().st_size for path in nets) < 1_000_000
    for path in own[:2]:
        assert not re.search(r"\b(fetch|eval|import|XMLHttpRequest|Function)\b *[(]", path.read_text(encoding="utf-8"))
