import base64
import io
import itertools
import json
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from atexlib.show import frames

BETAS, NAMES = [1, 2.5, 10], ["a & b", "c"]


def draw(beta, name=None):
    figure, ax = plt.subplots(figsize=(1, 1))
    ax.bar(0, beta)
    ax.set_title(name)
    return figure


def say(beta, name=None):
    return f"beta {beta} </script> of {name}"


def made(**options):
    named = {"alt": "A bar.", "caption": "Bars & more."}
    return frames({"beta": BETAS, "which name": NAMES}, draw, say, **{**named, **options})


def page(found):
    return BeautifulSoup(found._repr_html_(), "html.parser")


def entries(found):
    return json.loads(page(found).find("script", type="application/json").string)


def test_every_combination_has_its_own_picture_and_text_in_the_order_that_the_script_counts_in():
    found = entries(made())
    assert [frame["text"] for frame in found] == [say(*values) for values in itertools.product(BETAS, NAMES)]
    assert [frame["alt"] for frame in found] == [f"A bar. {frame['text']}" for frame in found]
    assert len({frame["src"] for frame in found}) == len(found)


def test_pictures_are_what_was_drawn_and_no_figure_is_left_open():
    before = plt.get_fignums()
    found = entries(made())
    assert plt.get_fignums() == before
    for frame, (beta, name) in zip(found, itertools.product(BETAS, NAMES), strict=True):
        kind, data = re.fullmatch(r"data:image/(\w+);base64,(.+)", frame["src"]).groups()
        figure, file = draw(beta, name), io.BytesIO()
        figure.savefig(file, dpi=100, bbox_inches="tight")
        plt.close(figure)
        shown, wanted = (Image.open(f).convert("RGB") for f in (io.BytesIO(base64.b64decode(data)), file))
        assert kind == "webp"
        assert shown.tobytes() == wanted.tobytes()  # nothing is lost


def test_numbers_are_a_slider_and_texts_a_list():
    found = page(made())
    slider, choice = found.find("input"), found.find("select")
    assert (slider["type"], slider["min"], slider["max"], slider["data-count"]) == ("range", "0", "2", "3")
    assert [option["label"] for option in found.find(id=slider["list"]).find_all("option")] == ["1", "2.5", "10"]
    assert [option.text for option in choice.find_all("option")] == NAMES
    assert [label.find(string=True).strip() for label in found.find_all("label")] == ["beta", "which name"]


def test_without_a_script_the_first_picture_stands_there_and_no_dead_control():
    found, first = page(made()), entries(made())[0]
    assert found.find(class_="frames-controls").has_attr("hidden")
    assert found.find("img")["src"] == first["src"]
    assert found.find("img")["alt"] == first["alt"]
    assert found.find("output").text == first["text"]
    assert found.find("figcaption").text == "Bars & more."


def test_the_start_is_shown_first():
    found = made(start={"beta": 10, "which name": "c"})
    assert page(found).find("img")["src"] == entries(found)[-1]["src"]
    assert page(found).find("input")["value"] == "2"
    assert page(found).find("option", selected=True).text == "c"


def test_no_text_ends_the_script_early_and_two_figures_of_a_page_have_two_names():
    one, other = made(), frames({"beta": [1, 2]}, draw, say, alt="A bar.", caption="Bars.")
    assert len(page(one).find_all("script")) == 2
    assert page(one).find("figure")["id"] != page(other).find("figure")["id"]


def test_what_a_terminal_shows():
    assert repr(made()) == "6 pictures by beta: 1, 2.5, 10; which name: a & b, c"


def test_pictures_that_weigh_too_much_are_refused(monkeypatch):
    monkeypatch.setattr(sys.modules[frames.__module__], "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"6 pictures weigh \d{4,} bytes; draw fewer or smaller ones: 1000 at most"):
        made()


def test_pictures_of_photographs_may_lose_a_little_and_weigh_less():
    def photograph(seed):
        figure, ax = plt.subplots(figsize=(2, 2))
        rng = np.random.default_rng(seed)
        ax.imshow(rng.random((60, 60, 3)))
        return figure

    named = {"alt": "Noise.", "caption": "Noise.", "controls": {"seed": [1, 2]}}
    exact, light = (frames(draw=photograph, say=str, quality=quality, **named).pictures for quality in (None, 60))
    for heavy, small in zip(exact, light, strict=True):
        assert len(small) < len(heavy) / 2
        a, b = (np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float) for data in (heavy, small))
        assert 0 < np.abs(a - b).mean() < 20
