"""Results: made once, kept whole, read back, fresh or stale; small sizes, real runs."""

import dataclasses
import itertools
import json
import os
import pickle
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import seeded
from safetensors.torch import load_file, save_file

from atexlib import __main__ as command_line
from atexlib import data, experiments, files, nets
from atexlib.experiments import KINDS, Place
from atexlib.experiments.engine import kinds, presets, provenance, results, store
from atexlib.experiments.findings import freshness
from atexlib.experiments.subjects import nets as subjects

WHERE = {"dataset": "digits", "seed": 0, "preset": "smoke"}
CELL = {"kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "eps": 0.1}
CELL |= {"seed": 0, "preset": "smoke"}
NET = "undefended/digits-seed0-smoke.safetensors"
CARD = "table/digits-untargeted-none-eps0.1-seed0-smoke.json"
COMMITTED = store.COMMITTED
FEW = {"train_images": 200, "epochs": 1, "batch_size": 20, "defense_images": 40, "images": 4, "steps": 2}


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """The preset smoke at a fraction of its size, and a folder of results that starts empty."""
    resize(monkeypatch, **FEW, family_images=40, fool_steps=1)
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))
    return tmp_path


def resize(monkeypatch, **sizes):
    monkeypatch.setitem(presets.SIZES, "smoke", dataclasses.replace(presets.SIZES["smoke"], **sizes))


def kept(folder):
    """All files but those of locks, which stay and are empty."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 for path in found if path.parent.name == ".locks")
    return sorted(path.relative_to(folder).as_posix() for path in found if path.parent.name != ".locks")


def without_times(card):
    made = {key: value for key, value in card["provenance"].items() if key not in ("date", "seconds", "command", "sum")}
    return card["spec"], card["metrics"], made


def same_weights(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def stale():
    return {entry.kind: entry.stale_since for entry in experiments.status() if entry.stale_since}


@pytest.fixture
def no_making(monkeypatch):
    monkeypatch.setattr(results, "_make", lambda *_: pytest.fail("a result was made"))


def test_a_result_is_made_once_and_read_ever_after(tiny, monkeypatch):
    card = experiments.run_or_load(CELL)
    assert set(card) == {"spec", "metrics", "provenance"}
    assert card["spec"] == CELL
    assert kept(tiny) == [CARD, NET]
    for name in ("spearman", "kendall", "topk", "lens_topk", "ssim", "label_kept", "prediction_shift"):
        metric = card["metrics"][name]
        assert len(metric["values"]) == 4
        assert metric["low"] <= metric["mean"] <= metric["high"]
    assert max(card["metrics"]["distance"]["values"]) <= 0.1 + 1e-6
    made = card["provenance"]
    assert made["needs"] == {NET: provenance.fingerprint(tiny / NET)}
    assert made["version"] == KINDS["table"].version
    assert made["sizes"] == {"images": 4, "steps": 2, "starts": 2}
    assert made["settings"]["k"] == 50
    assert made["images"] == {"digits": data.DATASETS["digits"].fingerprint}
    assert made["device"] == "cpu"
    assert {"commit", "dirty", "package versions", "machine", "seconds", "date", "command"} <= set(made)
    with monkeypatch.context() as patch:
        patch.setattr(results, "_make", lambda *_: pytest.fail("the card was made again"))
        assert experiments.run_or_load(dict(reversed(CELL.items()))) == card
    assert without_times(experiments.run_or_load(CELL, recompute=True)) == without_times(card)


def test_two_specs_never_share_a_file():
    eps, seeds = [0.1, 0.1000001], [20260101, 20260102]
    for name, kind in KINDS.items():
        numbers = {int: seeds, float: eps}
        axes = {key: numbers[a] if a in (int, float) else a for key, a in kind.keys.items()}
        specs = experiments.grid(**{key: list(values) for key, values in axes.items()})
        assert len({kind.file(kind.check({"kind": name, **spec})) for spec in specs}) == len(specs)


def test_numpys_numbers_are_as_good_as_pythons():
    numpys = {**CELL, "seed": np.int64(0), "eps": np.float64(0.1)}
    assert json.dumps(kinds.check(numpys)[1]) == json.dumps(kinds.check(CELL)[1])


@pytest.mark.parametrize("wrong", [{"defense": "atx"}, {"kind": "tabel"}, {"eps": 0.0}, {"seed": -1}, {"color": "red"}])
def test_an_impossible_spec_is_refused_before_any_work(tiny, wrong):
    with pytest.raises(ValueError, match="color" if "color" in wrong else str(*wrong.values())):
        experiments.run_or_load({**CELL, **wrong})
    assert kept(tiny) == []


def test_a_defence_starts_from_the_undefended_net_that_is_there(tiny, monkeypatch):
    monkeypatch.setattr(subjects, "MAP_SAMPLES", 1)
    spec = {"kind": "defended", "defense": "atex", **WHERE}
    path = experiments.ensure(spec)
    assert kept(tiny) == ["defended/digits-atex-seed0-smoke.safetensors", NET]
    assert results.read(path)["provenance"]["needs"] == {NET: provenance.fingerprint(tiny / NET)}
    assert stale() == {}
    base = experiments.trained(dataset="digits", preset="smoke")
    assert same_weights(subjects.net_at(Place(**WHERE)), base)
    assert not same_weights(experiments.trained(dataset="digits", defense="atex", preset="smoke"), base)


def test_another_version_makes_a_result_stale_and_says_what_moved(tiny, monkeypatch):
    experiments.run_or_load(CELL)
    assert stale() == {}
    newer = dataclasses.replace(KINDS["table"], history=(*KINDS["table"].history, "momentum is reset"))
    monkeypatch.setitem(KINDS, "table", newer)
    assert stale() == {"table": ["table 2: momentum is reset"]}
    experiments.run_or_load(CELL)
    assert stale() == {"table": ["table 2: momentum is reset"]}  # what is there is left, unless one asks
    experiments.run_or_load(CELL, recompute="stale")
    assert stale() == {}
    older = dataclasses.replace(newer, history=newer.history[:1])
    monkeypatch.setitem(KINDS, "table", older)
    assert "does not know" in stale()["table"][0]


def test_another_setting_size_or_image_makes_a_result_stale(monkeypatch):
    experiments.run_or_load(CELL)
    with monkeypatch.context() as patch:
        settings = KINDS["table"].settings
        patch.setitem(KINDS, "table", dataclasses.replace(KINDS["table"], settings=lambda s: {**settings(s), "k": 40}))
        assert stale() == {"table": ["the setting k"]}
    with monkeypatch.context() as patch:
        resize(patch, steps=3)
        assert stale() == {"table": ["the preset's steps"]}  # the net uses no steps
    with monkeypatch.context() as patch:
        resize(patch, epochs=3)
        assert stale() == {"undefended": ["the preset's epochs"], "table": ["the net digits-seed0-smoke"]}
    with monkeypatch.context() as patch:
        patch.setitem(data.DATASETS, "digits", dataclasses.replace(data.DATASETS["digits"], fingerprint="another"))
        assert stale()["undefended"] == ["the images of digits"]
    with monkeypatch.context() as patch:
        resize(patch, samples=99, fool_steps=7)
        assert stale() == {}


def test_another_net_makes_its_cards_stale_but_not_another_header(tiny):
    experiments.run_or_load(CELL)
    weights, card = load_file(tiny / NET), results.read(tiny / NET)
    card["provenance"]["machine"] = "another"
    card["provenance"][provenance.SUM] = provenance.sum_of(card)
    save_file(weights, tiny / NET, metadata={"result": json.dumps(card)})
    assert stale() == {}
    weights["fc2.bias"] += 1
    save_file(weights, tiny / NET, metadata={"result": json.dumps(card)})
    assert stale() == {"table": ["the net digits-seed0-smoke"]}
    (tiny / NET).unlink()
    assert stale() == {"table": ["the net digits-seed0-smoke"]}


def test_the_fingerprints_of_the_images_are_those_of_the_data():
    """A changed loader moves it, and then every result on these images is stale."""
    found = "".join(data.load("digits", split).fingerprint for split in data.SPLITS)
    assert data.DATASETS["digits"].fingerprint == provenance.hashlib.sha256(found.encode()).hexdigest()[:16]


@pytest.mark.usefixtures("no_making")
def test_a_file_that_cannot_be_read_says_so_and_is_not_overwritten(tiny):
    path = tiny / CARD
    path.parent.mkdir(parents=True)
    for text in ("", "{", "[]", '{"spec": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name} is no result .*; delete it"):
            experiments.run_or_load(CELL)
        assert path.read_text() == text


def test_the_status_tells_what_cannot_be_read_and_goes_on(tiny, capsys):
    experiments.run_or_load(CELL)
    (tiny / "undefended/b.safetensors").write_bytes(b"?")
    (tiny / "table/a.json").write_text("{")
    states = {entry.name: entry.state for entry in experiments.status()}
    assert states.pop("undefended/b.safetensors") == states.pop("table/a.json") == "cannot be read"
    assert set(states.values()) == {"fresh"}
    command_line.main(["status"])
    told = capsys.readouterr().out
    assert "table/a.json  cannot be read" in told
    assert "4 results, 2 of them stale" in told
    table = freshness.table(experiments.status())
    assert table.state.value_counts().to_dict() == {"fresh": 2, "cannot be read": 2}
    assert freshness.summary(experiments.status()).stale.to_dict() == {"undefended": 1, "table": 1}


def test_a_badge_says_what_changed(monkeypatch):
    assert repr(freshness.badge("price")) == "Result cards: none yet"
    experiments.run_or_load(CELL)
    badge = freshness.badge("table", "price")
    assert badge.fresh
    assert repr(badge) == "Result cards: 1, all fresh"
    resize(monkeypatch, steps=3)
    badge = freshness.badge("table")
    assert not badge.fresh
    assert repr(badge) == "Result cards: 1, 1 stale since a change of the preset's steps"
    assert 'class="results-badge results-stale"' in badge._repr_html_()
    with pytest.raises(ValueError, match="tabel"):
        freshness.badge("tabel")


def test_the_summary_adds_up():
    experiments.run_all({**CELL, "eps": eps} for eps in (0.05, 0.1))
    entries = list(experiments.status())
    line = freshness.summary(entries).loc["table"]
    assert (line.results, line.stale, line.preset, line.seed, line.device) == (2, 0, "smoke", "0", "cpu")
    assert freshness.table(entries).index.tolist() == [entry.name for entry in entries]


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-m", "atexlib", "run", "table", "--dataset", "digits", "--attack", "untargeted"]
    command += ["--defense", "none", "--eps", "0.02", "0.04", "0.06", "--seed", "0", "--preset", "smoke"]
    folder = tmp_path / "results"
    environment = {**os.environ, "ATEXLIB_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(folder.glob("table/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    done = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    finished = [path for path in done if path.suffix == ".json" and path.parent.name != ".locks"]
    assert 1 <= len(finished) < 3
    assert all(results.read(path)["metrics"] for path in finished)
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert len(kept(folder)) == 4  # three cards, one net, nothing half-written
    whole = [path for path in done if path.suffix in (".json", ".safetensors") and path.parent.name != ".locks"]
    assert all((path.stat().st_mtime_ns, path.read_bytes()) == done[path] for path in whole)


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    process, host = int(dead.stdout), platform.node()
    theirs = f".a.json.{host}x.{process}.part"  # on a shared disk: who knows whether that process still runs
    for left in (f".a.json.{host}.{process}.part", theirs):
        (tmp_path / left).write_text("{")
    files.write(tmp_path / "a.json", lambda temporary: Path(temporary).write_text("{}"))
    assert kept(tmp_path) == [theirs, "a.json"]


def test_what_gets_its_name_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda number: order.append(os.fstat(number).st_size))
    monkeypatch.setattr(os, "replace", lambda *names: order.append("named"))
    files.write(tmp_path / "a.json", lambda temporary: Path(temporary).write_text("{}"))
    assert order == [2, "named"]


def test_a_damaged_number_does_not_pass_for_another(tiny):
    """One digit of a card, one bit of a net: both still have the form of a result."""
    experiments.run_or_load(CELL)
    text = (tiny / CARD).read_text()
    for place in re.finditer(r"(?<=0\.)\d", text):  # of the spec, of a value, of what is said of the run
        at = place.start()
        (tiny / CARD).write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
        with pytest.raises(ValueError, match="not what was written"):
            results.read(tiny / CARD)
    weights = bytearray((tiny / NET).read_bytes())
    weights[-9] ^= 1
    (tiny / NET).write_bytes(weights)
    with pytest.raises(ValueError, match="not those that were written"):
        results.read(tiny / NET)
    with pytest.raises(ValueError, match="not those that were written"):
        results.load_net(tiny / NET, nets.ConvNet())
    assert stale() == {"table": ["the file"], "undefended": ["the file"]}
    experiments.run_or_load(CELL, recompute="stale")
    assert stale() == {}
    assert results.read(tiny / CARD)["metrics"] == json.loads(text)["metrics"]


def test_a_disk_that_loses_a_file_is_named(monkeypatch):
    monkeypatch.setattr(os, "replace", lambda source, _: os.unlink(source))
    with pytest.raises(OSError, match="was written, and is not there: the disk lost it"):
        experiments.ensure({"kind": "undefended", **WHERE})


def test_results_go_where_they_can_be_written(tmp_path, monkeypatch):
    assert store.place("table/a.json") == tmp_path / "table/a.json"
    monkeypatch.delenv("ATEXLIB_RESULTS")
    monkeypatch.setattr(store, "COMMITTED", tmp_path / "package")
    (tmp_path / "package").mkdir()
    assert store.place("a") == tmp_path / "package/a"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    assert store.place("a") == tmp_path / "home/atexlib/a"


def test_the_command_line_runs_lists_and_tells_the_status(tiny, capsys):
    command = ["run", "table", "--dataset", "digits", "--attack", "untargeted", "--defense", "none"]
    command_line.main([*command, "--eps", "0.05", "0.1", "--seed", "0", "--preset", "smoke", "--device", "cpu"])
    assert str(tiny / CARD) in capsys.readouterr().out
    command_line.main(["list"])
    assert "table, version 1: 2 results" in capsys.readouterr().out
    command_line.main(["status"])
    told = capsys.readouterr().out
    assert told.count("fresh") == 3
    assert "3 results, 0 of them stale" in told


RUN = ["run", "undefended", "--dataset", "digits", "--preset", "smoke", "--seed", "4"]


def test_the_command_writes_a_net_once_and_anew_when_asked(tiny, capsys):
    command_line.main(RUN)
    path = tiny / "undefended/digits-seed4-smoke.safetensors"
    assert str(path) in capsys.readouterr().out
    card, test = results.read(path), data.load("digits", "test")
    assert card["spec"] == {"kind": "undefended", "dataset": "digits", "seed": 4, "preset": "smoke"}
    net = experiments.trained(dataset="digits", seed=4, preset="smoke")
    assert card["metrics"]["test accuracy"] == pytest.approx(nets.accuracy(net, test.images, test.labels), abs=0.01)
    before = path.stat().st_mtime_ns
    command_line.main(RUN)
    assert path.stat().st_mtime_ns == before
    command_line.main([*RUN, "--recompute"])
    assert path.stat().st_mtime_ns > before


@pytest.mark.parametrize("wrong", ["--dataset=digist", "--preset=huge", "--seed=one"])
@pytest.mark.usefixtures("no_making")
def test_the_command_refuses_what_it_does_not_know(wrong):
    with pytest.raises(SystemExit) as stopped:
        command_line.main([*RUN, wrong])
    assert stopped.value.code == 2


def test_the_same_seed_trains_the_same_net():
    first, second, other = (experiments.trained(dataset="digits", preset="smoke", seed=seed) for seed in (0, 0, 1))
    assert same_weights(first, second)
    assert not same_weights(first, other)
    assert not first.training
    assert kept(store.place("")) == []  # `trained` keeps nothing


def test_a_net_that_is_kept_is_read_in_half_precision(tiny, monkeypatch):
    written = {}
    for preset, seed in (("quick", 1), ("reduced", 2)):
        written[preset] = nets.ConvNet(generator=seeded(seed)).to(memory_format=torch.channels_last)
        spec = {"kind": "undefended", "dataset": "digits", "seed": 0, "preset": preset}
        quick = dataclasses.replace(KINDS["undefended"], make=lambda _spec, _place, p=preset: (written[p], {}))
        with monkeypatch.context() as patch:
            patch.setitem(KINDS, "undefended", quick)
            experiments.ensure(spec)
    assert subjects.committed(dataset="digits", defense="none", seed=0) == ["reduced", "quick"]
    assert subjects.committed(dataset="digits", defense="none", seed=1) == []
    largest = experiments.trained(dataset="digits")
    assert same_weights(largest, nets.ConvNet(generator=seeded(2)).half().float())
    assert {weight.dtype for weight in largest.parameters()} == {torch.float32}
    quick = experiments.trained(dataset="digits", preset="quick")
    assert same_weights(quick, nets.ConvNet(generator=seeded(1)).half().float())
    with pytest.raises(ValueError, match="no net of digits, naive, seed 0 is there"):
        experiments.trained(dataset="digits", defense="naive")


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
        results.load_net(path, nets.ConvNet())
    with pytest.raises(ValueError, match="is no result"):
        results.read(path)
    assert not sprung.exists()
    with path.open("rb") as file:  # the trap works
        pickle.load(file) if dump is pickle.dump else torch.load(file, weights_only=False)
    assert sprung.exists()


def stop(*_, **__):
    raise OSError("the disk is full")


def half_written(_, path, **__):
    Path(path).write_bytes(b"half")
    stop()


@pytest.mark.parametrize(("module", "name", "failure"), [(results, "save_file", half_written), (os, "replace", stop)])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tiny, monkeypatch, module, name, failure):
    experiments.ensure({"kind": "undefended", **WHERE})
    before = (tiny / NET).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failure)
        with pytest.raises(OSError, match="disk is full"):
            experiments.ensure({"kind": "undefended", **WHERE}, recompute=True)
    assert (tiny / NET).read_bytes() == before
    assert kept(tiny) == [NET]


def test_presets_grow_from_smoke_to_paper():
    assert list(experiments.PRESETS) == ["smoke", "quick", "reduced", "paper"]
    sizes = [dataclasses.asdict(preset) for preset in experiments.PRESETS.values()]
    assert [preset.pop("name") for preset in sizes] == list(experiments.PRESETS)
    for smaller, larger in itertools.pairwise(sizes):
        assert smaller["images"] < larger["images"]
        assert smaller["samples"] < larger["samples"]
        assert smaller["train_images"] * smaller["epochs"] <= larger["train_images"] * larger["epochs"]
        assert smaller["steps"] * smaller["starts"] <= larger["steps"] * larger["starts"]


def test_every_committed_result_is_fresh(monkeypatch):
    monkeypatch.undo()
    entries = list(experiments.status())
    assert len(entries) > 600
    assert {entry.name: entry.stale_since for entry in entries if entry.stale_since} == {}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.build and not kind.scratch])
def test_a_committed_net_says_what_it_is(kind):
    paths = sorted((COMMITTED / kind).glob("*.safetensors"))
    assert paths
    for path in paths:
        card = results.read(path)
        found, spec = kinds.check(card["spec"])
        assert f"{kind}/{path.name}" == found.file(spec)
        assert 0.45 < card["metrics"]["test accuracy"] < 1
        assert path.stat().st_size < 1e6
    net = results.load_net(path, found.build(spec))
    channels, side, _ = data.DATASETS[spec["dataset"]].shape
    side = 32 if kind == "family" else side  # to which its images are padded
    assert net(torch.rand(2, channels, side, side)).isfinite().all()
