"""Specs, cards, provenance and status: small sizes, real runs."""

import ast
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atexlib import __main__ as command_line
from atexlib import attack, data, experiments, explain, nets
from atexlib.defend import adversarial
from atexlib.experiments.engine import cards, presets, provenance, runs, store
from atexlib.experiments.findings import freshness
from atexlib.experiments.kinds import costs, efficacy, fooling, repair, smoothness, tables, variants
from atexlib.experiments.subjects import families, iterations, nets, pictures
from atexlib.maps import shape
from atexlib.nets import ConvNet

CELL = {
    "kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "eps": 0.1, "seed": 0,
    "preset": "smoke",
}  # fmt: skip
CARDS = Path(experiments.__file__).parents[1] / "results/cards"
WHERE = {"dataset": "digits", "seed": 0, "preset": "smoke"}
EFFICACY = {
    "kind": "adversarial_efficacy", "defense": "plain", "iterations": 0, "share": 1.0, "recipe": "once", **WHERE,
}  # fmt: skip
SMOOTHNESS = {
    "kind": "smoothness", "defense": "plain", "iterations": 0, "map": "gradient", **WHERE,
}  # fmt: skip
FOOLING = {"kind": "fooling", "model": "vgg19", "explainer": "gradient", "loss": "topk", **WHERE}
REPAIR = {"kind": "repair", "defense": "none", "explainer": "grad_cam", "treatment": "none", **WHERE}
SPECS = [
    CELL,
    {**CELL, "attack": "targeted", "defense": "atex_ascent"},
    {**CELL, "defense": "naive"},
    *({**CELL, "kind": "attacks", "attack": name} for name in experiments.EXPERIMENTS["attacks"].keys["attack"]),
    {"kind": "budget", "defense": "none", "steps": 2, "starts": 1, "eps": 0.1, **WHERE},
    *({"kind": "explainers", "defense": "none", "explainer": name, "eps": 0.1, **WHERE} for name in tables.EXPLAINERS),
    *({"kind": "variants", "variant": name, **WHERE} for name in variants.VARIANTS),
    *({"kind": "bar", "net": name, **WHERE} for name in ("none", "naive with ascent", "beta 3, naive, weight 1")),
    {"kind": "cost", "side": "14", "seed": 0, "preset": "smoke"},
    *({**SMOOTHNESS, "map": name} for name in smoothness.MAPS),
    *({**EFFICACY, "defense": name, "iterations": 1} for name in iterations.ITERATED),
    {**EFFICACY, "recipe": "refresh"},
    {"kind": "theorem1", "defense": "none", **WHERE},
    {**FOOLING, "explainer": "lrp", "loss": "center_mass"},
    {**FOOLING, "loss": "active"},
    {**FOOLING, "kind": "fooling_variant", "change": "elsewhere", "explainer": "lrp"},
    {**FOOLING, "kind": "fooling_variant", "change": "longer"},
    {**FOOLING, "kind": "fooling_point", "lr": 0.002, "weight": 30.0, "steps": 2},
    *({**REPAIR, "treatment": name} for name in repair.TREATMENTS),
    {**REPAIR, "defense": "atex", "explainer": "lrp"},
]


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """The preset smoke at a fraction of its size, and a folder of results that starts empty."""
    few = {"train_images": 200, "epochs": 1, "batch_size": 20, "defense_images": 40, "images": 4, "steps": 2}
    few |= {"family_images": 40, "fool_steps": 1}
    size = dataclasses.replace(presets.PRESETS["smoke"], **few)
    monkeypatch.setitem(presets.PRESETS, "smoke", size)
    monkeypatch.setattr(costs, "SAMPLES", (1,))
    monkeypatch.setattr(costs, "BATCHES", 1)
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))
    nets.base_net.cache_clear()
    smoothness._reference.cache_clear()
    for cached in (fooling._scene, fooling._control, fooling._references):
        cached.cache_clear()
    return tmp_path


def without_times(card):
    made = {key: value for key, value in card["provenance"].items() if key not in ("date", "seconds", "command")}
    return card["spec"], card["metrics"], made


def files(folder):
    """All files but those of locks, which stay and are empty."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 for path in found if path.parent.name == ".locks")
    return sorted(path.relative_to(folder).as_posix() for path in found if path.parent.name != ".locks")


def test_a_card_is_computed_once_and_read_ever_after(tiny, monkeypatch):
    card = experiments.run_or_load(CELL)
    assert set(card) == {"spec", "metrics", "provenance"}
    assert card["spec"] == CELL
    assert files(tiny) == [
        "cards/table/digits-untargeted-none-eps0.1-seed0-smoke.json",
        "nets/digits-none-smoke-seed0.safetensors",
    ]
    for name in ("spearman", "topk", "ssim", "label_kept", "prediction_shift"):
        metric = card["metrics"][name]
        assert len(metric["values"]) == 4
        assert metric["low"] <= metric["mean"] <= metric["high"]
    assert max(card["metrics"]["distance"]["values"]) <= 0.1 + 1e-6
    assert 0 <= card["metrics"]["accuracy"] <= 1
    made = card["provenance"]
    net = "nets/digits-none-smoke-seed0.safetensors"
    assert made["nets"] == {net: provenance.file_hash(tiny / net)}
    assert made["code"].keys() == set(tables.TABLE.code)
    assert made["device"] == "cpu"
    assert {"commit", "dirty", "versions", "machine", "seconds", "date", "command"} <= set(made)
    with monkeypatch.context() as patch:
        patch.setattr(cards, "compute", lambda *_, **__: pytest.fail("the card was computed again"))
        assert experiments.run_or_load(dict(reversed(CELL.items()))) == card
    assert without_times(experiments.run_or_load(CELL, recompute=True)) == without_times(card)


def test_two_specs_never_share_a_file():
    eps, seeds = [0.02, 0.1, 0.1000001], [0, 1, 20260101, 20260102]
    for name, experiment in experiments.EXPERIMENTS.items():
        axes = {key: {int: seeds, float: eps}.get(allowed, allowed) for key, allowed in experiment.keys.items()}
        specs = experiments.grid(kind=name, **{key: list(values) for key, values in axes.items()})
        assert len({cards.card_name(*runs.check(spec)) for spec in specs}) == len(specs)


def test_numpys_numbers_are_as_good_as_pythons():
    plain, numpys = CELL, {**CELL, "seed": np.int64(0), "eps": np.float64(0.1)}
    assert json.dumps(runs.check(numpys)[1]) == json.dumps(runs.check(plain)[1])


def test_defences_start_from_the_undefended_net_that_is_there_now(tiny, monkeypatch):
    monkeypatch.setattr(nets, "MAP_SAMPLES", 1)
    nets.ensure(defense="naive", **WHERE)
    old = nets.base_net(dataset="digits", seed=0, preset="smoke", device="cpu", progress=False)
    monkeypatch.setitem(presets.PRESETS, "smoke", dataclasses.replace(presets.PRESETS["smoke"], epochs=2))
    nets.ensure(defense="none", recompute=True, **WHERE)
    new = nets.base_net(dataset="digits", seed=0, preset="smoke", device="cpu", progress=False)
    assert not torch.equal(old.fc2.weight, new.fc2.weight)


def test_an_unknown_defence_is_refused_before_anything_is_trained(tiny):
    with pytest.raises(ValueError, match="Did you mean 'atex'"):
        nets.ensure(defense="atx", **WHERE)
    assert files(tiny) == []


@pytest.fixture
def one_of_each(monkeypatch):
    """Trains no defence for real twice: nets of all defences come from one small base."""
    monkeypatch.setattr(nets, "MAP_SAMPLES", 1)


def called(action):
    """The functions of the library, as `module.name`, that an action calls."""
    package, names = str(provenance.PACKAGE), set()

    def watch(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package):
            module = ".".join(Path(code.co_filename).relative_to(package).with_suffix("").parts)
            names.add(f"{module}.{code.co_qualname.split('.')[0]}")

    sys.setprofile(watch)
    threading.setprofile(watch)
    try:
        action()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {name for name in names if not name.endswith(("<module>", "<lambda>"))}


# What checks arguments, finds files and writes cards has no influence on a number.
BOOKKEEPING = ("checks", *(f"experiments.{name}" for name in ("cards", "presets", "provenance", "runs", "store")))
FILES = ("_check", "_train_and_write", "elsewhere", "ensure", "load_net", "net_name", "save_net", "trained")
NET_FILES = {f"experiments.{module}.{name}" for module in ("nets", "families") for name in FILES} | {
    "data.ImageSet",
    "data.data_root",
}


def influences(name):
    module, _, function = name.rpartition(".")
    return (
        module not in BOOKKEEPING and not function.startswith(("check_", "_check", "_rests")) and name not in NET_FILES
    )


@pytest.mark.usefixtures("one_of_each")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: "-".join(str(value) for value in spec.values()))
def test_an_experiment_declares_the_code_it_calls(spec):
    experiment, spec = runs.check(spec)
    for defense in experiment.nets(spec):  # the nets carry hashes of their own
        nets.ensure(defense=defense, **WHERE)
    for net in experiment.family_nets(spec):
        families.ensure(**net)
    if spec.get("attack") == "transfer" or spec["experiment"] == "adversarial_efficacy":
        nets.ensure(defense="none", **WHERE | {"seed": 1})
    card = {}
    names = called(lambda: card.update(cards.compute(experiment, spec, device="cpu", progress=False)))
    undeclared = {name for name in names if influences(name)} - set(experiment.code)
    undeclared = {name for name in undeclared if not name.startswith("data._")}
    assert undeclared == set()
    assert cards.stale_since(json.loads(json.dumps(card))) == []


@pytest.mark.parametrize("defense", nets.DEFENSES)
@pytest.mark.usefixtures("one_of_each")
def test_a_net_declares_the_code_it_calls(defense):
    names = called(lambda: nets.ensure(defense=defense, **WHERE))
    declared = nets.NET_CODE if defense == "none" else nets.DEFENSE_CODE
    undeclared = {name for name in names if influences(name) and not name.startswith("data._")} - set(declared)
    assert undeclared == set()


@pytest.mark.parametrize("model", nets.MODELS)
def test_a_net_of_a_family_declares_the_code_it_calls_and_is_read_back(model):
    where = {"model": model, **WHERE, "wide": True}
    names = called(lambda: families.ensure(**where))
    names = {name for name in names if influences(name) and not name.startswith("data._")}
    assert names - set(families.FAMILY_CODE) == set()
    assert [entry.stale_since for entry in experiments.status()] == [[], []]
    path = store.find(families.net_name(**where))
    written = path.stat().st_mtime_ns
    net = families.trained(**where)
    images, labels = families.scene("digits", "test", wide=True)
    assert nets.net_facts(path)["test_accuracy"] == pytest.approx(nets.accuracy(net, images, labels), abs=0.02)
    assert path.stat().st_mtime_ns == written
    store.find(families.net_name(**where | {"wide": False})).unlink()
    assert [entry.stale_since for entry in experiments.status()] == [[f"the net {model}"]]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Ten folders of coloured pictures, each class in its own shade of red."""
    for split, count in (("train", 10), ("test", 4)):
        for label in range(10):
            folder = tmp_path / "data" / pictures.COLOUR / split / f"class {label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (20 * label, 200, 10 * number)).save(folder / f"{number}.png")
    monkeypatch.setenv("ATEXLIB_DATA", str(tmp_path / "data"))
    pictures._tree.cache_clear()
    families.scene.cache_clear()


def test_pictures_of_a_tree_are_mixed_and_cut_once(tree):
    parts = {split: pictures.load(pictures.COLOUR, split) for split in data.SPLITS}
    assert [len(part.labels) for part in parts.values()] == [80, 20, 40]
    assert len(parts["test"].labels[:10].unique()) > 4
    for part in parts.values():
        assert part.images.shape[1:] == (3, 32, 32)
        assert torch.equal((part.images[:, 0, 0, 0] * 255 / 20).round().long(), part.labels)
    joined = torch.cat([parts[split].images[:, 0::2, 0, 0] for split in ("train", "validation")])
    assert len(joined.unique(dim=0)) == 100
    again = pictures.load(pictures.COLOUR, "test")
    assert torch.equal(again.images, parts["test"].images)
    assert torch.equal(pictures.load("digits", "test").images, data.load("digits", "test").images)
    with pytest.raises(ValueError, match="split"):
        pictures.load(pictures.COLOUR, "tset")


@pytest.mark.parametrize("loss", ["center_mass", "active"])
def test_a_net_for_colours_is_fooled(tree, loss):
    card = experiments.run_or_load({**FOOLING, "dataset": pictures.COLOUR, "loss": loss})
    assert len(card["metrics"]["success"]["values"]) == 4
    (path,) = (store.find(name) for name in card["provenance"]["nets"])
    assert nets.net_facts(path)["test_fingerprint"] == pictures.load(pictures.COLOUR, "test").fingerprint


def test_constants_are_declared_with_the_functions_that_use_them():
    """Every upper-case name of a module that one of its declared functions mentions is declared too."""
    for experiment in experiments.EXPERIMENTS.values():
        for name in experiment.code:
            module, _, top = name.rpartition(".")
            path = provenance.PACKAGE / f"{module.replace('.', '/')}.py"
            own = provenance._definitions(path)
            used = {node.id for node in ast.walk(own[top]) if isinstance(node, ast.Name)}
            constants = {f"{module}.{other}" for other in used if other in own and other.isupper()}
            choices = {c for c in constants if c.endswith(CHOICES)}
            assert constants - choices <= set(experiment.code), name


# Lists of allowed words: a change of one alters no number. The settings of a net are compared one by one.
CHOICES = (
    *("NORMS", "READINGS", "NOISES", "DIRECTIONS", "NEIGHBOURS", "TARGET_MAPS", "EXPLAINERS", "DATASETS", "ATTACKS"),
    *("DEFENSES", "nets.SETTINGS"),
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package whose source may be edited; hashes are taken from it."""
    copy = tmp_path / "package"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("results", "__pycache__"))

    def edit(module, old, new):
        path = copy / module
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        provenance._hash.cache_clear()
        provenance._definitions.cache_clear()

    experiments.run_or_load(CELL)
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    provenance._hash.cache_clear()
    provenance._definitions.cache_clear()
    yield edit
    monkeypatch.undo()
    provenance._hash.cache_clear()
    provenance._definitions.cache_clear()


def stale():
    return {entry.name.split("/")[0]: entry.stale_since for entry in experiments.status()}


def test_a_changed_line_makes_the_cards_stale_that_rest_on_it(package):
    assert stale() == {"nets": [], "cards": []}
    package("metrics.py", "k: int = 50", "k: int = 40")
    assert stale() == {"nets": [], "cards": ["metrics.topk_intersection"]}
    package("training.py", "value.backward()", "(2 * value).backward()")
    net = "the net digits-none-smoke-seed0"  # a card on a stale net is stale too
    assert stale() == {"nets": ["training.optimise"], "cards": ["metrics.topk_intersection", net]}


def test_what_is_stale_can_be_made_anew_and_what_is_fresh_is_left(package, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cards, "compute", lambda *_, **__: pytest.fail("a fresh card was computed again"))
        experiments.run_or_load(CELL, recompute="stale")
    package("metrics.py", "k: int = 50", "k: int = 40")
    experiments.run_or_load(CELL)
    assert stale()["cards"] == ["metrics.topk_intersection"]
    experiments.run_or_load(CELL, recompute="stale")
    assert stale() == {"nets": [], "cards": []}


def test_the_status_tells_what_cannot_be_read_and_goes_on(tiny, capsys):
    experiments.run_or_load(CELL)
    (tiny / "nets/b.safetensors").write_bytes(b"?")
    (tiny / "cards/table/a.json").write_text("{")
    states = {entry.name: entry.state for entry in experiments.status()}
    assert states.pop("nets/b.safetensors") == states.pop("cards/table/a.json") == "cannot be read"
    assert set(states.values()) == {"fresh"}
    command_line.main(["status"])
    told = capsys.readouterr().out
    assert "cards/table/a.json  cannot be read" in told
    assert "4 results, 2 of them stale" in told
    table = freshness.table(experiments.status())
    assert table.state.value_counts().to_dict() == {"fresh": 2, "cannot be read": 2}
    assert freshness.summary(experiments.status()).stale.to_dict() == {"nets": 1, "table": 1}


def test_a_badge_says_what_changed(package):
    assert repr(freshness.badge("bar")) == "Result cards: none yet"
    badge = freshness.badge("table", "bar")
    assert badge.fresh
    assert repr(badge) == "Result cards: 1, all fresh"
    package("metrics.py", "k: int = 50", "k: int = 40")
    badge = freshness.badge("table")
    assert not badge.fresh
    assert repr(badge) == "Result cards: 1, 1 stale since a change of metrics.topk_intersection"
    assert 'class="results-badge results-stale"' in badge._repr_html_()


def test_the_summary_adds_up():
    for eps in (0.05, 0.1):
        experiments.run_or_load({**CELL, "eps": eps})
    entries = list(experiments.status())
    line = freshness.summary(entries).loc["table"]
    assert (line.results, line.stale, line.preset, line.seed, line.device) == (2, 0, "smoke", "0", "cpu")
    assert freshness.table(entries).index.tolist() == [entry.name.removeprefix("cards/") for entry in entries]


def test_a_docstring_or_a_comment_makes_nothing_stale(package):
    package("ascent.py", '"""Projected ascent on a score', '"""Climbing on a score')
    package("input_manipulation.py", "What a manipulation found, one entry an image.", "What was found.")
    package("metrics.py", "def ssim(", "# a comment\ndef ssim(")
    assert stale() == {"nets": [], "cards": []}


def test_another_size_of_the_preset_makes_its_results_stale(monkeypatch):
    experiments.run_or_load(CELL)
    monkeypatch.setitem(presets.PRESETS, "smoke", dataclasses.replace(presets.PRESETS["smoke"], steps=3))
    steps, net = "the preset's steps", "the net digits-none-smoke-seed0"
    assert stale() == {"nets": [steps], "cards": [steps, net]}
    experiments.run_or_load(CELL, recompute="stale")
    assert stale() == {"nets": [], "cards": []}


def test_results_that_state_no_sizes_had_those_of_their_time(monkeypatch):
    assert presets.changed("reduced", None) == []
    monkeypatch.setitem(presets.PRESETS, "reduced", dataclasses.replace(presets.PRESETS["reduced"], fool_steps=100))
    assert presets.changed("reduced", None) == ["the preset's fool_steps"]
    assert presets.changed("huge", {}) == ["the preset huge, which is gone"]


def test_a_new_net_makes_its_cards_stale():
    experiments.run_or_load(CELL)
    path = store.find(nets.net_name(defense="none", **WHERE))
    nets.save_net(experiments.train(dataset="digits", seed=7, preset="smoke"), path, nets.net_facts(path))
    assert stale() == {"nets": [], "cards": ["the net digits-none-smoke-seed0"]}


def test_a_card_that_cannot_be_read_says_so_and_is_not_overwritten(tiny):
    path = tiny / cards.card_name(tables.TABLE, CELL)
    path.parent.mkdir(parents=True)
    for text in ("", "{", "[]", '{"spec": {}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name} is no result card .*; delete it"):
            experiments.run_or_load(CELL)
        assert path.read_text() == text


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-m", "atexlib", "run", "table", "--dataset", "digits", "--attack", "untargeted"]
    command += ["--defense", "none", "--eps", "0.02", "0.04", "0.06", "--seed", "0", "--preset", "smoke"]
    folder = tmp_path / "results"
    environment = {**os.environ, "ATEXLIB_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(folder.glob("cards/table/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    done = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    finished = [path for path in done if path.suffix == ".json" and path.parent.name != ".locks"]
    assert 1 <= len(finished) < 3
    assert all(cards.read(path)["metrics"] for path in finished)
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert len(files(folder)) == 4  # three cards, one net, nothing half-written
    whole = [path for path in done if path.suffix in (".json", ".safetensors") and path.parent.name != ".locks"]
    assert all((path.stat().st_mtime_ns, path.read_bytes()) == done[path] for path in whole)


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = tmp_path / f".a.json.{int(dead.stdout)}.part"
    left.write_text("{")
    store.write(tmp_path / "a.json", lambda temporary: Path(temporary).write_text("{}"))
    assert files(tmp_path) == ["a.json"]


def test_results_go_where_they_can_be_written(tmp_path, monkeypatch):
    assert store.place("cards/a.json") == tmp_path / "cards/a.json"
    monkeypatch.delenv("ATEXLIB_RESULTS")
    monkeypatch.setattr(store, "COMMITTED", tmp_path / "package")
    (tmp_path / "package").mkdir()
    assert store.place("a") == tmp_path / "package/a"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    assert store.place("a") == tmp_path / "home/atexlib/a"


def test_the_command_line_runs_lists_and_tells_the_status(capsys):
    command = ["run", "table", "--dataset", "digits", "--attack", "untargeted", "--defense", "none"]
    command_line.main([*command, "--eps", "0.05", "0.1", "--seed", "0", "--preset", "smoke", "--device", "cpu"])
    command_line.main(["list"])
    assert "table: 2 cards" in capsys.readouterr().out
    command_line.main(["status"])
    told = capsys.readouterr().out
    assert told.count("fresh") == 3
    assert "3 results, 0 of them stale" in told


def test_every_committed_result_is_fresh(monkeypatch):
    monkeypatch.undo()
    entries = list(experiments.status())
    assert entries
    assert {entry.name: entry.stale_since for entry in entries if entry.stale_since} == {}


def test_each_defence_got_as_many_trials():
    assert len({len(trials) for trials in variants.TRIALS.values()}) == 1
    assert set(variants.TRIALS) == set(nets.SETTINGS)


def test_bytes_kept_are_those_of_the_saved_tensors():
    x = torch.rand(1000, requires_grad=True)
    with costs.saved_bytes() as largest:
        y = (x.exp() * 2).sin()
        del y
        z = x.exp()
    assert largest["bytes"] == 8000  # exp keeps its result, sin its argument
    del z


def test_theorem_1_holds_on_the_digits_and_not_for_the_logit():
    metrics = experiments.run_or_load({"kind": "theorem1", "defense": "none", **WHERE})["metrics"]
    for name in ("probability", "log-probability"):
        assert max(abs(value) for value in metrics[name]["values"]) < 1e-10
    assert min(metrics["logit"]["values"]) > 1e-6


def test_each_direction_is_what_its_name_says():
    model, other = (ConvNet(generator=torch.Generator().manual_seed(seed)).eval() for seed in (0, 1))
    x = 0.3 + 0.4 * torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(2))  # nothing is clipped
    y = nets.predict(model, x).argmax(1)
    found = efficacy.other_directions(model, other, x, y, seed=0)
    assert found.keys() == set(efficacy.DIRECTIONS)
    shifts = {name: (z - x).flatten(1) for name, z in found.items()}
    largest = {name: shift.abs().amax(1).max().item() for name, shift in shifts.items()}
    for name in ("random", "transfer", "orthogonal", "pgd"):
        assert 0.05 < largest[name] <= efficacy.FGSM_EPS * (1 + 1e-5)
    assert shifts["pgd l2"].norm(dim=1).max().item() == pytest.approx(efficacy.L2_EPS, rel=1e-3)
    slope = attack.loss_gradient(model, x, y).flatten(1)
    assert torch.cosine_similarity(shifts["orthogonal"], slope).abs().max() < 1e-3
    assert torch.equal(found["transfer"], attack.fgsm(other, x, y, eps=efficacy.FGSM_EPS))
    margins = {name: attack.margin(nets.predict(model, z), y).mean() for name, z in found.items()}
    assert margins["pgd"] < margins["orthogonal"] < margins["random"]


def test_efficacy_is_that_of_the_hardened_net():
    metrics = experiments.run_or_load({**EFFICACY, "share": 0.5})["metrics"]
    model = experiments.trained(dataset="digits", preset="smoke")
    train, test = (experiments.attacks.first_images("digits", split, n) for split, n in (("train", 20), ("test", 4)))
    hardened = adversarial.adversarial_training(
        model, (train.images, train.labels), eps=efficacy.FGSM_EPS, count=10, epochs=1, batch_size=20,
        generator=torch.Generator().manual_seed(0),
    ).model  # fmt: skip
    for name, crafted, judged in (("before", model, model), ("fgsm", hardened, hardened)):
        z = attack.fgsm(crafted, test.images, test.labels, eps=efficacy.FGSM_EPS)
        assert metrics[name]["mean"] == nets.accuracy(judged, z, test.labels)
    assert metrics["clean"]["mean"] == nets.accuracy(hardened, test.images, test.labels)


def test_smoothness_measures_the_map_it_names():
    metrics = experiments.run_or_load(SMOOTHNESS)["metrics"]
    model = experiments.trained(dataset="digits", preset="smoke")
    x = experiments.attacks.first_images("digits", "test", 4).images
    maps = explain.gradient(model, x)
    assert metrics["mass"]["mean"] == pytest.approx(shape.mass_on(maps, x > 0).mean().item(), rel=1e-4)
    smooth = experiments.run_or_load({**SMOOTHNESS, "map": "smoothgrad"})["metrics"]
    assert metrics["ssim max"]["mean"] < smooth["ssim max"]["mean"] < 1  # the rival has other noise


def test_iterations_are_passes_from_the_undefended_net(monkeypatch):
    seen = []

    def defend(model, settings, *, count, **_):
        seen.append((settings, count))
        return model

    monkeypatch.setattr(nets, "defend", defend)
    nets.ensure(defense="none", **WHERE)
    for _ in range(2):  # the second time it is read
        iterations.after(3, defense="atex_ascent", **WHERE)
    assert seen == [({**nets.SETTINGS["atex_ascent"], "epochs": 3}, 10)]
    base = iterations.after(0, defense="atex", **WHERE)
    assert torch.equal(base.fc2.weight, experiments.trained(dataset="digits", preset="smoke").fc2.weight)
    assert "experiments.nets.SETTINGS" in iterations.ITERATION_CODE


@pytest.mark.parametrize(
    ("rates", "losses", "tried"),
    [
        ((0.9, 0.9, 0.9), (0.01, 0.0, 0.0), 1),  # the first meets the bar
        ((0.8, 0.9, 0.9), (0.03, 0.015, 0.0), 2),  # success is enough, but it costs too much
        ((0.79, 0.7, 0.6), (0.0, 0.0, 0.0), 3),
    ],
)
def test_the_sweep_ends_at_the_first_point_that_meets_the_bar(monkeypatch, rates, losses, tried):
    honest, nets = object(), [object() for _ in rates]
    fooled = iter(nets)
    right = {honest: 0.9, **{net: 0.9 - lost for net, lost in zip(nets, losses, strict=True)}}
    found = {net: {"success": torch.tensor([rate])} for net, rate in zip(nets, rates, strict=True)}
    lie = fooling.model_manipulation
    monkeypatch.setattr(fooling, "_fool", lambda *_, **__: lie.Fooled(next(fooled), [], stopped=False))
    monkeypatch.setattr(fooling.training, "accuracy", lambda net, *_: right[net])
    monkeypatch.setattr(lie, "success", lambda _model, net, *_, **__: found[net])
    scene = fooling.Scene(honest, *[()] * 7)
    trials, kept = fooling._sweep(scene, "topk", {}, size=presets.PRESETS["smoke"], seed=0, progress=False)
    assert kept == nets[:tried]
    assert [(trial["lr"], trial["weight"]) for trial in trials] == list(fooling.POINTS["topk"][:tried])
    assert [trial["success"] for trial in trials] == pytest.approx(rates[:tried])
    assert [trial["accuracy lost"] for trial in trials] == pytest.approx(losses[:tried])


def test_fooling_is_judged_on_images_that_nothing_else_saw():
    where = {"model": "vgg19", **WHERE}
    families.ensure(**where, wide=False)
    scene = fooling._scene(**where, wide=False, device="cpu")
    seen, chosen, judged = (
        {image.numpy().tobytes() for part in parts for image in part[0]}
        for parts in ((scene.train, scene.fool_set), (scene.validated, scene.chosen_by), (scene.tested, scene.judged))
    )
    assert not seen & chosen
    assert not (seen | chosen) & judged


def test_where_no_point_meets_the_bar_success_is_weighed_against_accuracy(monkeypatch):
    families.ensure(model="vgg19", wide=False, **WHERE)
    made = {"lr": 1e-3, "stopped": False, "curve": [{}] * 11}
    trials = [{**made, "success": s, "accuracy lost": lost} for s, lost in ((0.5, 0.0), (0.7, 0.01), (0.95, 0.06))]
    monkeypatch.setattr(fooling, "_sweep", lambda scene, *_, **__: (trials, [scene.model] * len(trials)))
    options = {"device": "cpu", "progress": False}
    assert fooling.fooling(FOOLING, **options)["chosen"] == 1
    trials[2]["accuracy lost"] = 0.02
    assert fooling.fooling(FOOLING, **options)["chosen"] == 2


def test_a_run_that_left_the_net_as_it_was_is_not_chosen():
    made = {"success": 0.0, "accuracy lost": 0.05, "stopped": False, "curve": [{}] * 11}
    untouched = {"success": 0.0, "accuracy lost": 0.0, "stopped": True, "curve": [{}, {}]}
    assert fooling._best([made, untouched]) == 0
    assert fooling._best([made, {**untouched, "curve": [{}, {}, {}]}]) == 1  # given up later: its net was changed
    assert fooling._best([untouched, untouched]) == 0


def test_every_card_holds_the_choice_that_its_trials_ask_for():
    found = [cards.read(path)["metrics"] for path in CARDS.glob("fooling*/*.json")]
    found = [metrics for metrics in found if "trials" in metrics]
    assert len(found) > 50
    for metrics in found:
        assert metrics["chosen"] == fooling._best(metrics["trials"])


def test_a_change_of_the_code_that_moved_no_result_is_listed_with_its_reason():
    assert set(provenance.EQUAL) <= set(provenance.declared(*provenance.CODE))
    for name, equal in provenance.EQUAL.items():
        assert provenance.code_hashes([name]) == {name: equal["is"]}, "the code changed again: delete the entry"
        assert len(equal["why"]) > 20
        for was in equal["was"]:
            assert provenance.changed({name: was}) == []
        assert provenance.changed({name: "0" * 12}) == [name]


def test_another_hash_than_the_listed_one_makes_a_result_stale(monkeypatch):
    (name, equal), *_ = provenance.EQUAL.items()
    monkeypatch.setitem(provenance.EQUAL, name, {**equal, "is": "0" * 12})
    assert provenance.changed({name: equal["was"][0]}) == [name]


def test_code_that_moved_is_looked_for_at_its_new_place():
    assert set(provenance.MOVED.values()) <= set(provenance.declared(*provenance.CODE))
    for old, new in provenance.MOVED.items():
        assert provenance.changed({old: provenance.code_hashes([new])[new]}) == []
        assert provenance.changed({old: "0" * 12}) == [old]
        with pytest.raises(ValueError, match="holds no"):
            provenance.code_hashes([old])
