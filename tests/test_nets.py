import dataclasses
import itertools
import os
import pickle

import pytest
import torch
from conftest import seeded

from atexlib import __main__ as command_line
from atexlib import data, experiments, nets
from atexlib.experiments.engine import store
from atexlib.experiments.subjects import nets

COMMITTED = sorted((store.COMMITTED / "nets").iterdir())
SMOKE = {"dataset": "digits", "preset": "smoke"}


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """The preset smoke at a fraction of its size, and a folder of nets that starts empty."""
    size = dataclasses.replace(experiments.PRESETS["smoke"], train_images=400, epochs=3, batch_size=20)
    monkeypatch.setitem(experiments.PRESETS, "smoke", size)
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(nets, "train", lambda **_: pytest.fail("a net was trained"))


def net_path(**where):
    return store.place(experiments.net_name(dataset="digits", defense="none", **where))


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_presets_grow_from_smoke_to_paper():
    assert list(experiments.PRESETS) == ["smoke", "quick", "reduced", "paper"]
    sizes = [dataclasses.asdict(preset) for preset in experiments.PRESETS.values()]
    assert [preset.pop("name") for preset in sizes] == list(experiments.PRESETS)
    for smaller, larger in itertools.pairwise(sizes):
        assert smaller["images"] < larger["images"]
        assert smaller["samples"] < larger["samples"]
        assert smaller["train_images"] * smaller["epochs"] <= larger["train_images"] * larger["epochs"]
        assert smaller["steps"] * smaller["starts"] <= larger["steps"] * larger["starts"]


def test_a_saved_net_comes_back_in_half_precision(tmp_path):
    net = nets.ConvNet(generator=seeded()).to(memory_format=torch.channels_last)
    path = tmp_path / "new" / "folder" / "net.safetensors"
    experiments.save_net(net, path, {"seed": 3, "note": "é"})
    loaded = experiments.load_net(path)
    assert same_weights(loaded, nets.ConvNet(generator=seeded()).half().float())
    assert not loaded.training
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert experiments.net_facts(path) == {"seed": 3, "note": "é"}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def stop(*_, **__):
    raise OSError("the disk is full")


def half_written(_, path, **__):
    with open(path, "wb") as file:
        file.write(b"half")
    stop()


@pytest.mark.parametrize(
    ("module", "name", "failure"),
    [(nets, "save_file", half_written), (os, "replace", stop)],
)
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, module, name, failure):
    path = tmp_path / "net.safetensors"
    experiments.save_net(nets.ConvNet(generator=seeded(1)), path, {"seed": 1})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failure)
        with pytest.raises(OSError, match="disk is full"):
            experiments.save_net(nets.ConvNet(generator=seeded(2)), path, {"seed": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_nothing_is_unpickled(tmp_path, dump):
    path, sprung = tmp_path / "net.safetensors", tmp_path / "sprung"
    with path.open("wb") as file:
        dump(Trap(sprung), file)
    with pytest.raises(ValueError, match=r"holds no ConvNet that can be read \(.*deserializing header.*\); restore it"):
        experiments.load_net(path)
    assert not sprung.exists()
    with path.open("rb") as file:  # the trap works
        pickle.load(file) if dump is pickle.dump else torch.load(file, weights_only=False)
    assert sprung.exists()


def test_the_same_seed_trains_the_same_net():
    first, second, other = (experiments.trained(**SMOKE, seed=seed) for seed in (0, 0, 1))
    assert same_weights(first, second)
    assert not same_weights(first, other)
    assert not first.training
    test = data.load("digits", "test")
    assert nets.accuracy(first, test.images, test.labels) > 0.3  # of ten classes


@pytest.mark.usefixtures("no_training")
def test_a_committed_net_is_read_not_trained():
    saved = {preset: nets.ConvNet(generator=seeded(i)) for i, preset in enumerate(["quick", "reduced"])}
    for preset, net in saved.items():
        path = net_path(seed=0, preset=preset)
        experiments.save_net(net, path, {})
    assert experiments.largest_committed(dataset="digits", defense="none", seed=0) == "reduced"
    assert experiments.largest_committed(dataset="digits", defense="none", seed=1) is None
    assert same_weights(experiments.trained(dataset="digits"), saved["reduced"].half().float())
    assert same_weights(experiments.trained(dataset="digits", preset="quick"), saved["quick"].half().float())


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_a_committed_net_says_what_it_is(path):
    facts = experiments.net_facts(path)
    assert path.name == f"{facts['dataset']}-{facts['defense']}-{facts['preset']}-seed{facts['seed']}.safetensors"
    assert facts["dataset"] in data.DATASETS
    assert facts["preset"] in experiments.PRESETS
    assert 0.85 < facts["test_accuracy"] < 1
    assert path.stat().st_size < 1e6
    net = experiments.load_net(path)
    assert net(torch.rand(2, 1, 28, 28)).isfinite().all()


def test_a_net_is_committed():
    assert COMMITTED


RUN = ["run", "nets", "--dataset", "digits", "--defense", "none", "--preset", "smoke", "--seed", "4"]


def test_the_command_writes_a_net_once(capsys, monkeypatch):
    command_line.main(RUN)
    path = net_path(seed=4, preset="smoke")
    assert str(path) in capsys.readouterr().out
    facts, test = experiments.net_facts(path), data.load("digits", "test")
    assert {**facts, **SMOKE, "seed": 4, "test_fingerprint": test.fingerprint, "device": "cpu"} == facts
    accuracy = nets.accuracy(experiments.load_net(path), test.images, test.labels)
    assert facts["test_accuracy"] == pytest.approx(accuracy, abs=0.01)
    assert facts["validation_accuracy"] > 0.3
    assert same_weights(experiments.trained(**SMOKE, seed=4), experiments.load_net(path))

    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(nets, "train", lambda **_: pytest.fail("a net was trained"))
        command_line.main(RUN)
    assert str(path) in capsys.readouterr().out
    assert path.read_bytes() == before


def test_the_command_trains_again_when_asked():
    path = net_path(seed=4, preset="smoke")
    experiments.save_net(nets.ConvNet(), path, {})
    command_line.main([*RUN, "--recompute"])
    assert experiments.net_facts(path)["seed"] == 4


@pytest.mark.parametrize("wrong", ["--dataset=digist", "--preset=huge", "--seed=one"])
@pytest.mark.usefixtures("no_training")
def test_the_command_refuses_what_it_does_not_know(capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        command_line.main([*RUN, wrong])
    assert stopped.value.code == 2
    assert wrong.split("=")[1] in capsys.readouterr().err
