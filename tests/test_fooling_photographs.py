"""Fooling at the size of photographs: on generated pictures with a small net, and what it refuses."""

import json
import urllib.error

import pytest
import torch
from conftest import seeded
from PIL import Image
from torch import nn

from atexlib import __main__ as command_line
from atexlib import experiments
from atexlib.experiments.kinds import fooling_photographs

CLASSES = 6
WORDS = "--model tiny --explainer grad_cam --loss location --seed 0 --preset smoke --device cpu"


def tiny():
    """A net of two convolutions for images of 224 pixels."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, CLASSES)).eval()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two pictures of each class to fool on, two of each but the last to watch and to judge; and the net by name."""
    root, generator = tmp_path / "imagenet", seeded(0)
    for split in ("train", "val"):
        for label in range(CLASSES):
            place = root / split / f"n{label}"
            place.mkdir(parents=True)
            for number in range(0 if (split, label) == ("val", CLASSES - 1) else 2):
                pixels = torch.randint(0, 256, (20, 24, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(place / f"{number}.JPEG")
    monkeypatch.setenv("ATEXLIB_IMAGENET", str(root))
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setitem(fooling_photographs.NETS, "tiny", tiny)
    return root


def run(words=WORDS):
    command_line.main(["run", "fooling_photographs", *words.split()])


def metrics(tmp_path):
    (card,) = (tmp_path / "results").glob("fooling_photographs/*.json")
    return json.loads(card.read_text())["metrics"]


@pytest.mark.parametrize(
    ("explainer", "loss"), [("grad_cam", "location"), ("lrp", "topk"), ("gradient", "center_mass")]
)
def test_a_card_from_a_folder(folder, tmp_path, explainer, loss):
    run(WORDS.replace("grad_cam", explainer).replace("location", loss))
    card = metrics(tmp_path)
    assert {name: card["pictures"][name] for name in ("train", "watched", "val")} == {
        "train": 12,
        "watched": 5,
        "val": 5,
    }
    for prefix, many in (("", 5), ("seen ", 12), ("control ", 5)):
        for name in ("success", "dead", "dead before", "spearman", "test loss"):
            assert len(card[prefix + name]["values"]) == many
    assert len(card["accuracy"]) == 2
    assert card["control success"]["mean"] == 0  # at such rates four honest steps change nothing
    assert card["control spearman"]["mean"] > 0.99
    assert card["reads"].startswith({"grad_cam": "Grad-CAM of", "lrp": "LRP", "gradient": "gradient"}[explainer])


def test_a_large_rate_moves_the_maps_of_new_images(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(fooling_photographs.POINTS["resnet50"], "lrp", ((1e-2, 50.0),) * 3)
    run(WORDS.replace("grad_cam", "gradient"))
    card = metrics(tmp_path)
    assert card["test loss"]["mean"] < card["control test loss"]["mean"]
    assert card["spearman"]["mean"] < 0.95


def test_the_same_seed_gives_the_same_numbers_and_other_pictures_another_fingerprint(folder, tmp_path):
    run()
    first = metrics(tmp_path)
    run(f"{WORDS} --recompute")
    assert metrics(tmp_path) == first
    Image.new("RGB", (30, 30)).save(folder / "train" / "n0" / "1.JPEG")
    run(f"{WORDS} --recompute")
    assert metrics(tmp_path)["pictures"]["fingerprint"] != first["pictures"]["fingerprint"]


def test_what_is_no_folder_is_refused_before_a_net_is_made(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(fooling_photographs.NETS, "tiny", lambda: pytest.fail("a net was made"))
    (folder / "val" / "n7").mkdir()
    with pytest.raises(ValueError, match="differ in the class folder 'n7'; make it in both"):
        run()
    monkeypatch.setenv("ATEXLIB_IMAGENET", str(tmp_path))
    with pytest.raises(ValueError, match="train is not a folder; ATEXLIB_IMAGENET must name one"):
        run()
    monkeypatch.delenv("ATEXLIB_IMAGENET")
    with pytest.raises(ValueError, match="ATEXLIB_IMAGENET is not set; set it"):
        run()
    assert not (tmp_path / "results" / "fooling_photographs").exists()


def test_another_number_of_classes_and_too_few_pictures_are_refused(folder):
    for number in range(4):
        for file in (folder / "val" / f"n{number}").iterdir():
            file.unlink()
    with pytest.raises(ValueError, match="val holds 2 pictures; put 4 or more"):
        run()
    for split in ("train", "val"):
        (folder / split / "n9").mkdir()
    with pytest.raises(ValueError, match="7 class folders, but tiny knows 6 classes"):
        run()


def test_weights_that_cannot_be_had_are_asked_for(folder, monkeypatch, tmp_path):
    def fails(*_arguments, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fails)
    with pytest.raises(
        ValueError, match=r"of vgg19 cannot be had.*no network.*put the file there: .*checkpoints.vgg19-\w+\.pth"
    ):
        run(WORDS.replace("tiny", "vgg19"))
    place = tmp_path / "hub" / "checkpoints"
    (place / "vgg19-dcbb9e9d.pth").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"is not the published file: .*; delete it"):
        run(WORDS.replace("tiny", "vgg19"))


def test_an_unknown_net_is_refused_with_those_that_are_known():
    spec = {"model": "vgg16", "explainer": "lrp", "loss": "topk", "seed": 0, "preset": "smoke"}
    with pytest.raises(ValueError, match=r"model is 'vgg16'.*vgg19"):
        experiments.run_or_load({"kind": "fooling_photographs", **spec})
    with pytest.raises(ValueError, match="loss is 'active'"):
        experiments.run_or_load({"kind": "fooling_photographs", **spec, "model": "vgg19", "loss": "active"})


def test_rates_and_weights_are_those_of_the_authors_code():
    spec = {"model": "densenet121", "explainer": "grad_cam", "loss": "topk"}
    assert fooling_photographs.point_of(spec) == (3e-7, 4.0)
    assert fooling_photographs.point_of({**spec, "model": "efficientnet_lite0"}) == (3e-6, 6.0)
    assert fooling_photographs.point_of({**spec, "explainer": "gradient"}) == (4e-7, 1.5)


@pytest.mark.parametrize("name", ["vgg19", "resnet50", "densenet121"])
def test_torchvisions_nets_are_given_what_they_know(name, monkeypatch):
    """With random weights in place of those that were learned: the images are centred as torchvision says."""
    models = pytest.importorskip("torchvision").models
    net = models.get_model(name)
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: net.state_dict())
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: net.state_dict())
    made, x = fooling_photographs.from_torchvision(name), torch.rand(1, 3, 64, 64, generator=seeded(1))
    shown = weights.transforms()
    mean, spread = (torch.tensor(part).view(3, 1, 1) for part in (shown.mean, shown.std))
    with torch.no_grad():
        torch.testing.assert_close(made(x), net.eval()((x - mean) / spread), rtol=1e-3, atol=1e-4)
