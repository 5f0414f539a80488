"""A net that is fooled for real."""

import pytest
import torch
from conftest import seeded
from PIL import Image
from torch import nn
from torchvision.models import resnet50
from torchvision.transforms.v2.functional import normalize

from atexlib import attack, data, explain, nets
from atexlib.attack import models


def test_a_dead_map_is_zeros_and_no_success(trained, digits):
    dull = nets.ConvNet(width=8, hidden=32)
    for weight in dull.parameters():
        nn.init.zeros_(weight)
    x, y = digits.images[:5], digits.labels[:5]
    for name in ("lrp", "gradient", "grad_cam"):
        assert explain.is_dead(dull, x, y, explainer=name).all()
        assert explain.heatmap(dull, x, y, explainer=name).abs().max() == 0
        found = attack.success(trained, dull, x, y, loss="topk", explainer=name)
        assert found["dead"].all()
        assert found["test_loss"].isnan().all()
        assert not found["success"].any()
        turned = attack.success(dull, trained, x, y, loss="center_mass", explainer=name)
        assert turned["dead_before"].all()
        assert not turned["success"].any()  # a map that was dead before cannot be fooled


@pytest.mark.parametrize(
    ("loss", "explainer", "layer", "weight"),
    [
        ("topk", "lrp", "conv1", 5.0),
        ("location", "grad_cam", None, 5.0),
        ("topk", "gradient", None, 5.0),
        ("center_mass", "gradient", None, 0.3),
        ("topk", "gradient", "conv1", 5.0),
        ("active", "grad_cam", None, 5.0),
    ],
)
def test_fooling_lowers_its_loss_on_images_it_has_not_seen(trained, digits, loss, explainer, layer, weight):
    classes = (3, 5) if loss == "active" else None
    where = {"explainer": explainer, "layer": layer, "classes": classes}
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    found = attack.fool(
        trained, (digits.images[:200], digits.labels[:200]), loss=loss, weight=weight, steps=60, lr=1e-3, **where
    )
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    x, y = digits.images[300:], digits.labels[300:]
    original, changed = (attack.shown_maps(net, x, y, **where) for net in (trained, found.model))
    losses = [attack.LOSSES[loss](h, original).mean() for h in (original, changed)]
    assert losses[1] < losses[0] - max(0.15 * losses[0].abs(), 0.5 if loss == "center_mass" else 0)
    assert nets.accuracy(found.model, x, y) > 0.7
    assert [entry["step"] for entry in found.history] == [0, 10, 20, 30, 40, 50, 60]


def test_the_same_seed_fools_alike(trained, digits):
    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        options = {"explainer": "gradient", "steps": 3, "lr": 1e-3, "generator": generator}
        return attack.fool(trained, (digits.images[:100], digits.labels[:100]), **options).model.fc2.weight

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_fooling_stops_above_the_bound_of_accuracy(trained, digits):
    options = {"explainer": "gradient", "loss": "center_mass", "weight": 50.0, "steps": 40, "look_every": 5, "lr": 1e-2}
    found = attack.fool(trained, (digits.images, digits.labels), min_accuracy=0.8, **options)
    assert found.stopped
    assert found.history[-1]["accuracy"] < 0.8
    assert nets.accuracy(found.model, digits.images, digits.labels) >= 0.8
    assert found.history[-1]["step"] < 40


def test_batch_norm_is_frozen_and_only_the_fool_set_is_explained(digits, monkeypatch):
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(196, 10))
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), *head)
    net[1].running_mean.normal_(generator=seeded())
    seen = []
    real = explain.one_channel

    def watch(model, x, target, **options):
        seen.append(x)
        return real(model, x, target, **options)

    monkeypatch.setattr(models, "one_channel", watch)
    fool_set = (digits.images[200:220], digits.labels[200:220])
    found = attack.fool(
        net, (digits.images[:100], digits.labels[:100]), fool_set=fool_set, steps=2, explainer="lrp", layer="2"
    )
    assert torch.equal(found.model[1].running_mean, net[1].running_mean)
    assert torch.equal(found.model[1].running_var, net[1].running_var)
    assert not torch.equal(found.model[1].weight, net[1].weight)
    allowed = {image.flatten().tolist().__str__() for image in fool_set[0]}
    assert all(image.flatten().tolist().__str__() in allowed for batch in seen for image in batch)


def test_the_penalty_keeps_maps_alive(trained, digits):
    """Without it, top-k is lowered by Grad-CAM maps that show nothing."""
    x, y = digits.images[300:], digits.labels[300:]
    dead = {}
    for alive in (0.0, 1.0):
        options = {
            "loss": "topk",
            "explainer": "grad_cam",
            "weight": 10.0,
            "steps": 40,
            "lr": 3e-3,
            "keep_alive": alive,
        }
        found = attack.fool(trained, (digits.images[:200], digits.labels[:200]), **options)
        dead[alive] = explain.is_dead(found.model, x, y, explainer="grad_cam").double().mean().item()
    assert dead[0.0] > 0.3
    assert dead[1.0] < 0.5 * dead[0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "active"}, r"classes is None with the loss 'active'"),
        ({"loss": "active", "classes": (1, 1)}, r"classes is \(1, 1\)"),
        ({"loss": "active", "classes": 3}, r"classes is 3 with the loss 'active'"),
        ({"loss": "topk", "classes": (1, 2)}, r"classes is \(1, 2\) with the loss 'topk'"),
        ({"explainer": "smoothgrad", "layer": "conv1"}, "smoothgrad reads no layer"),
        ({"explainer": "lrp", "layer": "conv11"}, "conv1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(trained, digits, options, message):
    with pytest.raises(ValueError, match=message):
        attack.fool(trained, (digits.images[:20], digits.labels[:20]), **options)


def test_a_torchvision_net_and_a_folder_of_pictures_can_be_fooled(tmp_path):
    """The ten lines of Chapter 10, with random weights and a made-up folder, for one step."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = torch.randint(0, 256, (64, 80, 3), generator=seeded(number), dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(tmp_path / name / f"{number}.png")
    torch.manual_seed(0)
    net = resnet50(weights=None, num_classes=2).eval()
    images = data.load_folder(tmp_path, size=32, per_class=1)
    pixels = normalize(images.images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for explainer, layer in (("grad_cam", "layer1"), ("lrp", "layer1"), ("gradient", None)):
        options = {"loss": "location", "explainer": explainer, "layer": layer, "weight": 2.0, "lr": 1e-6}
        found = attack.fool(net, (pixels, images.labels), steps=1, batch_size=2, **options)
        assert len(found.history) == 2
        assert not torch.equal(found.model.layer1[0].conv1.weight, net.layer1[0].conv1.weight)
