"""What a stranger hands in: bombs, links, scripts in strings, paths that climb. Refused in a sentence, or harmless.

Pickles in place of nets are refused in test_results.py, Markdown and HTML of reports stand in test_audit.py too.
"""

import dataclasses
import io
import json
import os
import re
import zlib
from pathlib import Path

import pytest
import torch
from bs4 import BeautifulSoup
from conftest import seeded
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from safetensors.torch import save_file

from atexlib import __main__ as command_line
from atexlib import audit, data, judge, nets
from atexlib.data import folder as folders
from atexlib.experiments.engine import results, store
from atexlib.experiments.findings import freshness
from atexlib.judge import report

SCRIPT = '<script>alert("1")</script><img src=x onerror=alert(1)>'
LINK = "[here](javascript:alert(1))"
DEEP = "[" * 100_000


def png(width, height):
    """A file of a few hundred bytes that says it has so many grey pixels, and unpacks to them."""

    def chunk(name, content):
        body = name + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (6, 6)).save(folder / name / "one.png")
    return folder


@pytest.mark.parametrize("side", [10_001, 14_000, 20_000, 2**31 - 1])
def test_a_picture_that_unpacks_to_a_hundred_million_pixels_is_refused(pictures, side):
    (pictures / "a" / "bomb.png").write_bytes(png(side, side))
    with pytest.raises(
        ValueError, match=r"a.bomb\.png .*(more than 100,000,000 in all; save it smaller|not a readable)"
    ):
        data.load_folder(pictures, size=4)


def saved(kind):
    file = io.BytesIO()
    pixels = torch.randint(256, (9, 7, 3), generator=seeded(), dtype=torch.uint8).numpy()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


FILES = {kind: saved(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_picture_is_read_or_refused(kind, tmp_path):
    content, path = FILES[kind], tmp_path / "picture"

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(st.data())
    def any_damage(drawn):
        damaged = bytearray(content)
        for at in drawn.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
            damaged[at] = drawn.draw(st.integers(0, 255))
        path.write_bytes(damaged[: drawn.draw(st.integers(0, len(content)))])
        try:
            assert folders.read_picture(str(path)).mode == "RGB"
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017

    any_damage()


@pytest.mark.parametrize("name", ["link.png", ".hidden"])
@pytest.mark.parametrize("leads", ["out", "round", "to a file outside", "nowhere"])
def test_links_that_leave_the_folder_or_go_round_are_refused(pictures, tmp_path, leads, name):
    outside = tmp_path / "secret"
    outside.mkdir()
    Image.new("RGB", (6, 6)).save(outside / "two.png")
    targets = {
        "out": outside,
        "round": pictures,
        "to a file outside": outside / "two.png",
        "nowhere": outside / "no.png",
    }
    (pictures / "a" / name).symlink_to(targets[leads])
    with pytest.raises(ValueError, match=rf"a.{re.escape(name)} is a link to .*put the pictures themselves there"):
        data.load_folder(pictures, size=4)


def test_links_within_the_folder_and_a_folder_that_is_one_are_fine(pictures, tmp_path):
    (pictures / "a" / "again.png").symlink_to(pictures / "b" / "one.png")
    (tmp_path / "door").symlink_to(pictures)
    assert data.load_folder(tmp_path / "door", size=4).files == ("a/again.png", "a/one.png", "b/one.png")


def test_scripts_in_an_audit_stay_words(tmp_path):
    net, x = nets.ConvNet(side=8, width=4, hidden=8, generator=seeded()), torch.rand(2, 1, 8, 8, generator=seeded())
    options = {"explainers": ["gradient"], "attacks": ["distance"], "steps": 2, "starts": 1, "progress": False}
    found = audit(net, x, torch.tensor([0, 1]), **options)
    evil = f"{SCRIPT} {LINK} | `x`"
    subjects = [one._replace(name=evil, label=evil, predicted=evil) for one in found.subjects]
    forged = dataclasses.replace(
        found,
        subjects=subjects,
        notes=[evil],
        settings={**found.settings, "net": evil, "place": evil},
        provenance={**found.provenance, "device": evil, "versions": {evil: evil}},
    )
    forged.labels["gradient"] = evil
    read = judge.load_card(report.save(forged, tmp_path / "a.json"))
    for one in (forged, read):
        page = report.save(one, tmp_path / "a.html").read_text(encoding="utf-8")
        text = report.save(one, tmp_path / "a.md").read_text(encoding="utf-8")
        for shown in (page, MarkdownIt("commonmark").enable("table").render(text)):
            soup = BeautifulSoup(shown, "html.parser")
            assert "alert" in soup.text
            assert soup.find_all("script") == soup.select("[onerror]") == soup.find_all("a") == []
            assert all(not tag["src"].startswith("x") for tag in soup.find_all("img"))


@pytest.fixture
def forged(tmp_path, monkeypatch):
    """Writes a card of a table as a stranger might; returns its path."""
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))
    real = next(Path(results.__file__).parents[2].glob("results/table/*seed0-reduced.json"))

    def write(change):
        card = json.loads(real.read_text())
        change(card)
        path = tmp_path / "table" / f"{SCRIPT.replace('/', '_')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(card))
        return path

    return write


def test_scripts_in_a_card_stay_words_on_the_pages(forged):
    def change(card):
        card["provenance"] |= {"device": SCRIPT, "settings": {SCRIPT: 1}}
        card["spec"] |= {"seed": 0}

    path = forged(change)
    entry = results.entry(f"table/{path.name}")
    assert SCRIPT in entry.state
    tables = freshness.table([entry]), freshness.summary([entry])
    for shown in (*(table.to_html() for table in tables), freshness.badge("table")._repr_html_()):
        assert not BeautifulSoup(shown, "html.parser").find_all(["script", "img"])


CHANGES = {
    "a path that climbs": lambda card: card["provenance"].update(
        needs={"../../../../../../../../etc/passwd": "0" * 16}
    ),
    "a path from the root": lambda card: card["provenance"].update(needs={"/dev/zero": "0" * 16}),
    "needs that are none": lambda card: card["provenance"].update(needs=[1]),
    "no provenance": lambda card: card.update(provenance=None),
    "a version in words": lambda card: card["provenance"].update(version="first"),
    "a preset that climbs": lambda card: card["spec"].update(preset="../../smoke"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_forged_card_is_told_and_the_status_goes_on(forged, change):
    path = forged(change)
    assert results.stale_since(path) == ["the file"]
    assert results.entry(f"table/{path.name}").stale_since == ["the file"]


def test_a_net_that_rests_on_itself_is_no_circle(forged, tmp_path):
    path = tmp_path / "undefended/a.safetensors"
    path.parent.mkdir()
    spec = {"kind": "undefended", "dataset": "digits", "seed": 0, "preset": "smoke"}
    card = {"spec": spec, "metrics": {}, "provenance": results.KINDS["undefended"].stands_on(spec)}
    state = {"a": torch.zeros(2)}
    card["provenance"]["needs"] = {"undefended/a.safetensors": results.provenance.fingerprint_of(state)}
    save_file(state, path, metadata={"result": json.dumps(card)})
    assert results.stale_since(path) == ["the net a"]


@pytest.mark.parametrize("name", ["../a.json", "/etc/passwd", "table/../../a.json"])
def test_a_name_that_climbs_out_of_the_results_is_refused(name):
    with pytest.raises(ValueError, match="leads out of the folder of results"):
        store.find(name)


BAD = (
    "{",
    "[]",
    "null",
    "{}",
    DEEP,
    '{"format": "judgement, 1"}',
    '{"format": "judgement, 1", "values": []}',
    "\udcff",
)
READERS = {"judgement": judge.load_judgement, "audit": judge.load_card, "result": results.read}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_no_card_is_told(tmp_path, read, number):
    path = tmp_path / "card.json"
    path.write_bytes(os.fsencode(BAD[number]))
    with pytest.raises(ValueError, match=r"card\.json is no "):
        read(path)


@pytest.mark.parametrize("name", ["../mine", "a/b", "/tmp/mine", ""])
def test_a_name_that_climbs_needs_a_card_of_its_own(name, monkeypatch):
    monkeypatch.setattr(judge, "made_by", lambda _: pytest.fail("the file was run"))
    with pytest.raises(ValueError, match=r"--name is .* say --card"):
        command_line.main(["judge", "mine.py:net", "--name", name, "--dataset", "digits"])
