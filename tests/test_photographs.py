"""The photographs: which, whose, how large, and what happens to one that is missing or altered."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import torch
from PIL import Image

from atexlib import data
from atexlib.data import photos

PAGE = Path(__file__).parents[1] / "book" / "photographs.md"
LABELLED = ["chelsea", "coffee", "camera", "rocket", "china"]


def test_the_default_is_those_with_a_class_and_its_name():
    found = data.photographs()
    assert found.images.shape == (5, 3, 224, 224)
    assert found.images.dtype == torch.float32
    assert found.images.aminmax() == (0, 1)
    assert [data.PHOTOGRAPHS[name].label for name in LABELLED] == found.labels.tolist()
    called = [found.classes[label] for label in found.labels]
    assert called == [
        "Egyptian cat",
        "espresso",
        "tripod",
        "missile",
        "palace",
    ]
    assert len(found.classes) == 1000


def test_they_come_in_the_order_and_size_that_is_asked_for():
    found = data.photographs(32, names=["flower", "camera"])
    assert found.images.shape == (2, 3, 32, 32)
    assert found.labels.tolist() == [-1, 872]
    grey = found.images[1]
    assert torch.equal(grey[0], grey[1])
    assert not torch.equal(found.images[0, 0], found.images[0, 1])


@pytest.mark.parametrize(
    ("names", "regex"),
    [
        (["chelsae"], "name is 'chelsae', which is unknown. Did you mean 'chelsea'"),
        ("chelsea", r"names is 'chelsea'; pass a list of names, for example \['chelsea'\]"),
        ([], r"names is \[\]; pass a list"),
        (3, r"names is 3; pass a list"),
    ],
)
def test_wrong_names_are_refused(names, regex):
    with pytest.raises(ValueError, match=regex):
        data.photographs(names=names)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'skimage is not installed; install it: pip install "atexlib\[real\]"'):
        data.photographs()


def test_a_missing_or_altered_file_is_refused(monkeypatch, tmp_path):
    found = importlib.util.spec_from_file_location("skimage", tmp_path / "__init__.py")
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"chelsea\.png cannot be read .*; install skimage anew"):
        data.photographs()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chelsea.png").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"chelsea\.png is another picture: its SHA-256 is ae448ac86c4e\.\.\."):
        data.photographs()


def test_a_folder_of_your_own_is_read_by_name(tmp_path):
    for name, colour in {"b.PNG": (0, 255, 0), "a.jpg": (255, 0, 0), ".hidden.png": 0, "c.webp": (0, 0, 255)}.items():
        Image.new("RGB", (30, 20), colour).save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    found = data.photographs(8, folder=str(tmp_path))
    assert found.images.shape == (3, 3, 8, 8)
    assert found.images.mean((2, 3)).argmax(1).tolist() == [0, 1, 2]
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.classes[285] == "Egyptian cat"


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no picture in .*; put photographs there that end in \.jpg, "):
        data.photographs(folder=tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a folder; pass one with photographs in it"):
        data.photographs(folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="names and folder are both given; pass one of them"):
        data.photographs(names=["chelsea"], folder=tmp_path)


@pytest.mark.parametrize("name", data.PHOTOGRAPHS)
def test_the_page_names_author_licence_class_and_source(name):
    (row,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    photograph = data.PHOTOGRAPHS[name]
    assert all(dataclasses.astuple(photograph)[at] for at in (0, 1, 3, 4, 5, 6))
    assert photograph.author in row
    assert photograph.license in row
    assert photograph.source in row or photograph.source == photos.SKIMAGE
    assert ("none" if photograph.label is None else f"| {photograph.label}, ") in row
    assert {"skimage": "scikit-image", "sklearn": "scikit-learn"}[photograph.package] in row.split("|")[-2]
