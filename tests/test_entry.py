"""Entries from outside: what a folder must hold, and that its card is believed only after the net was judged again."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from atexlib import __main__, data, judge, nets

NET = """
from pathlib import Path
from safetensors.torch import load_file
from atexlib import nets

def make_net():
    net = nets.ConvNet(width=2, hidden=4)
    net.load_state_dict(load_file(Path(__file__).with_name("weights.safetensors")))
    return net
"""
ABOUT = 'name = "small"\ndataset = "digits"\nby = "nobody"\ndefence = "none"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole entry, its card written by the command of the page."""
    folder = tmp_path_factory.mktemp("entry")
    (folder / "net.py").write_text(NET)
    (folder / "entry.toml").write_text(ABOUT)
    save_file(nets.ConvNet(width=2, hidden=4, generator=torch.Generator()).state_dict(), folder / "weights.safetensors")
    command = ["judge", f"{folder / 'net.py'}:make_net", "--name", "small", "--dataset", "digits", "--images", "4"]
    __main__.main([*command, "--suite", "smoke", "--card", str(folder / "card.json")])
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "entry")


def test_a_whole_entry_is_read_and_judged_again(folder, capsys):
    entry = judge.read_entry(folder)
    assert entry.about["by"] == "nobody"
    test = data.load("digits", "test").first(4)
    again = judge.judge(entry.net, test.images, eps=0.05, suite="smoke", progress=False)
    assert again.kept("gradient").mean().item() == pytest.approx(entry.card.kept("gradient").mean().item(), abs=0.03)
    __main__.main(["entry", str(folder), "--images", "3"])
    assert "The card agrees." in capsys.readouterr().out


def test_a_card_that_says_too_much_is_not_believed(folder):
    card = json.loads((folder / "card.json").read_text())
    for attacker in card["values"]["gradient"].values():
        for values in attacker.values():
            values[:] = [1.0] * len(values)
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"the card says that 1\.000 of the maps of gradient stands .* first 4 images"):
        judge.check_entry(folder, progress=False)


@pytest.mark.parametrize("name", ["net.py", "weights.safetensors", "entry.toml", "card.json"])
def test_what_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}; it holds only what an entry needs"):
        judge.read_entry(folder)


def test_what_no_entry_needs_is_refused(folder):
    (folder / "weights.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds weights\.pt, which no entry needs"):
        judge.read_entry(folder)


def test_a_folder_too_large_is_refused(folder):
    with (folder / "README.md").open("wb") as file:
        file.truncate(26_000_000)
    with pytest.raises(ValueError, match=r"26\.0 MB; an entry may hold 25 MB"):
        judge.read_entry(folder)


@pytest.mark.parametrize(
    ("text", "say"),
    [
        (ABOUT.replace("by", "from"), "says dataset, defence, from, name; say name, dataset, by, defence"),
        (ABOUT.replace('"nobody"', "5"), "say name, dataset, by, defence, as texts"),
        (ABOUT.replace("digits", "imagenet"), "the dataset is 'imagenet'; the judge knows fashion-mnist, "),
        (ABOUT.replace("small", "large"), "the card is of 'small', the entry of 'large'"),
    ],
)
def test_what_is_said_of_it_must_fit(folder, text, say):
    (folder / "entry.toml").write_text(text)
    with pytest.raises(ValueError, match=say):
        judge.read_entry(folder)
