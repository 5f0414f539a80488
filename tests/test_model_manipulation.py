"""Heat maps, the losses of fooling in closed form, and a net that is fooled for real."""

import pytest
import scipy.stats
import torch
from conftest import seeded
from PIL import Image
from torch import nn
from torchvision.models import resnet50
from torchvision.transforms.v2.functional import normalize

from atexlib import attack, data, explain, nets
from atexlib.attack import fooling_losses
from atexlib.maps import alike


def dot(row, column, side=14):
    maps = torch.zeros(1, 1, side, side)
    maps[0, 0, row, column] = 1
    return maps


def test_the_frame_is_a_seventh_of_the_side_wide():
    mask = fooling_losses.frame(torch.zeros(1, 1, 14, 28))
    assert mask[2:-2, 4:-4].sum() == 0
    assert mask.sum() == 14 * 28 - 10 * 20
    assert fooling_losses.location(mask.expand(2, 1, -1, -1), None).tolist() == [0.0, 0.0]
    assert fooling_losses.location(1 - mask.expand(1, 1, -1, -1), None).item() == 1


def test_topk_looks_at_the_top_tenth_of_the_original():
    original = torch.rand(3, 1, 10, 10, generator=seeded())
    mask = fooling_losses.top_mask(original)
    assert mask.sum((1, 2, 3)).tolist() == [10, 10, 10]
    assert (original[mask].min() > original[~mask].min()).item()
    expected = [h[m].mean() for h, m in zip(original, mask, strict=True)]
    torch.testing.assert_close(fooling_losses.topk(original, original), torch.stack(expected))
    torch.testing.assert_close(fooling_losses.measured_loss("topk", 0.25 * original, original), torch.full((3,), 0.25))
    assert fooling_losses.topk((~mask).float(), original).sum() == 0


def test_center_mass_is_the_way_that_the_centre_went():
    h, original = dot(3, 10), dot(1, 3)
    assert fooling_losses.center_mass(h, original).item() == pytest.approx(-9)
    assert fooling_losses.measured_loss("center_mass", h, original).item() == pytest.approx(9 / 28)


def test_active_is_zero_where_the_two_maps_are_swapped():
    pair = torch.rand(2, 2, 8, 8, generator=seeded())
    assert fooling_losses.active(pair.flip(1), pair).tolist() == [0, 0]
    squares = (pair[:, 0] - pair[:, 1]).square().mean((1, 2))
    torch.testing.assert_close(fooling_losses.active(pair, pair), squares)
    found = attack.judged(pair, pair.flip(1), loss="active")
    assert found["success"].tolist() == [True, True]  # a clean swap
    assert not attack.judged(pair, pair, loss="active")["success"].any()


def test_active_is_judged_by_both_maps():
    original = torch.rand(4, 2, 8, 8, generator=seeded(), dtype=torch.float64)
    h = original.flip(1) + 0.3 * torch.rand(original.shape, generator=seeded(1))
    swapped, own = (
        [alike.spearman(h[:, c : c + 1], original[:, k : k + 1]) for c, k in pairs]
        for pairs in (((0, 1), (1, 0)), ((0, 0), (1, 1)))
    )
    expected = torch.minimum(swapped[0] - own[0], swapped[1] - own[1])
    torch.testing.assert_close(fooling_losses.measured_loss("active", h, original), expected)
    same = original[:, 1:].repeat(1, 2, 1, 1)  # both classes show the second's map: no swap
    assert not attack.judged(original, same, loss="active")["success"].any()


EDGES = {
    "location": lambda h, share: (
        fooling_losses.frame(h) * (1 - (share * h[0].numel() / fooling_losses.frame(h).sum()).sqrt())
    ),
    "topk": lambda h, share: share * h,
}


@pytest.mark.parametrize(
    ("loss", "value", "counts"),
    [("location", 0.19, True), ("location", 0.21, False), ("topk", 0.29, True), ("topk", 0.31, False)],
)
def test_an_image_counts_up_to_the_end_of_the_range(loss, value, counts):
    original = torch.rand(2, 1, 14, 14, generator=seeded())
    h = EDGES[loss](original, torch.tensor(value)).expand_as(original)
    found = attack.judged(original, h, loss=loss)
    torch.testing.assert_close(found["test_loss"], torch.full((2,), value))
    assert found["success"].tolist() == [counts, counts]


@pytest.mark.parametrize(("shift", "counts"), [(2, False), (3, True)])
def test_a_centre_counts_that_moved_by_a_tenth(shift, counts):
    found = attack.judged(dot(5, 4), dot(5, 4 + shift), loss="center_mass")
    assert found["test_loss"].item() == pytest.approx(shift / 28)
    assert found["success"].item() == counts


def test_a_swap_counts_from_a_difference_of_a_tenth():
    original = torch.rand(1, 2, 8, 8, generator=seeded(), dtype=torch.float64)
    outcomes = set()
    for part in torch.linspace(0.4, 0.7, 61):
        h = (1 - part) * original + part * original.flip(1)
        own, other = (
            [scipy.stats.spearmanr(h[0, c].flatten(), o[0, c].flatten()).statistic for c in (0, 1)]
            for o in (original, original.flip(1))
        )
        difference = min(b - a for a, b in zip(own, other, strict=True))
        found = attack.judged(original, h, loss="active")
        assert found["success"].item() == (difference >= 0.1)
        outcomes |= {found["success"].item()} if abs(difference - 0.1) < 0.05 else set()
    assert outcomes == {True, False}


def test_a_pair_is_dead_if_one_of_its_maps_is():
    pair = torch.rand(1, 2, 8, 8, generator=seeded())
    half = pair.clone()
    half[:, 1] = 0
    assert attack.judged(pair, half, loss="active")["dead"].item()
    assert attack.judged(half, pair, loss="active")["dead_before"].item()


@pytest.mark.parametrize("name", ["lrp", "gradient_x_input", "integrated_gradients"])
def test_relevance_below_zero_is_cut_off(trained, digits, name):
    x, y = digits.images[:4], digits.labels[:4]
    raw = explain.EXPLAINERS[name](trained, x, y).clamp_min(0)
    assert raw.min() == 0
    expected = raw / raw.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(explain.heatmap(trained, x, y, explainer=name), expected)


def test_a_net_in_training_is_explained_in_eval_mode_and_left_as_it_was(digits):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))
    x, y = digits.images[:3], digits.labels[:3]
    for explainer in ("gradient", "grad_cam", "lrp"):
        expected = explain.heatmap(net.eval(), x, y, explainer=explainer)
        assert torch.equal(explain.heatmap(net.train(), x, y, explainer=explainer), expected)
        assert net.training
        assert net[1].training
    assert net[1].running_mean.abs().sum() == 0


def test_a_map_of_one_value_is_dead_unless_it_starts_from_zero():
    flat = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    for weight in flat.parameters():
        nn.init.ones_(weight)
    x, y = torch.ones(2, 1, 8, 8), torch.tensor([0, 1])
    for name, dead in {"gradient": True, "lrp": True, "grad_cam": False}.items():
        assert explain.is_dead(flat, x, y, explainer=name).tolist() == [dead] * 2
        assert explain.heatmap(flat, x, y, explainer=name).unique().tolist() == [0.0 if dead else 1.0]


@pytest.mark.parametrize("name", explain.EXPLAINERS)
def test_heat_maps_lie_between_zero_and_one(trained, digits, name):
    h = explain.heatmap(trained, digits.images[:6], digits.labels[:6], explainer=name)
    assert h.shape == (6, 1, 28, 28)
    assert h.min() >= 0
    assert h.amax((1, 2, 3)).tolist() == pytest.approx([1] * 6)
    assert not explain.is_dead(trained, digits.images[:6], digits.labels[:6], explainer=name).any()


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


def test_grad_cam_is_divided_by_its_largest_value_and_cut_at_zero(trained, digits):
    x, y = digits.images[:4], digits.labels[:4]
    raw = explain.grad_cam(trained, x, y).relu()
    torch.testing.assert_close(
        explain.heatmap(trained, x, y, explainer="grad_cam"), raw / raw.amax((1, 2, 3), keepdim=True)
    )


def test_the_gradient_is_read_at_a_layer_that_is_named(trained, digits):
    x, y = digits.images[:4], digits.labels[:4]
    at = torch.zeros(4, *trained.conv1(x).shape[1:], requires_grad=True)
    handle = trained.conv1.register_forward_hook(lambda _module, _inputs, output: output + at)
    slopes = torch.autograd.grad(trained(x).gather(1, y.unsqueeze(1)).sum(), at)[0].abs().sum(1, keepdim=True)
    handle.remove()
    low, high = slopes.amin((1, 2, 3), keepdim=True), slopes.amax((1, 2, 3), keepdim=True)
    h = explain.heatmap(trained, x, y, explainer="gradient", layer="conv1")
    torch.testing.assert_close(h, (slopes - low) / (high - low))
    assert torch.equal(explain.gradient(trained, x, y), explain.gradient(trained, x, y))


@pytest.mark.parametrize(
    ("loss", "explainer", "layer", "weight"),
    [
        ("topk", "lrp", "act1", 5.0),
        ("location", "grad_cam", None, 5.0),
        ("topk", "gradient", None, 5.0),
        ("center_mass", "gradient", None, 0.3),
        ("topk", "gradient", "act1", 5.0),
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

    monkeypatch.setattr(fooling, "one_channel", watch)
    fool_set = (digits.images[200:220], digits.labels[200:220])
    found = attack.fool(
        net, (digits.images[:100], digits.labels[:100]), fool_set=fool_set, steps=2, explainer="lrp", layer="2"
    )
    assert torch.equal(found.model[1].running_mean, net[1].running_mean)
    assert torch.equal(found.model[1].running_var, net[1].running_var)
    assert not torch.equal(found.model[1].weight, net[1].weight)
    allowed = {image.flatten().tolist().__str__() for image in fool_set[0]}
    assert all(image.flatten().tolist().__str__() in allowed for batch in seen for image in batch)


def test_fading_starts_at_a_tenth_of_the_original():
    original = torch.tensor([[2.0], [2.0], [2.0], [0.0], [2.0]])
    peaks = torch.tensor([[2.0], [0.2], [0.1], [0.0], [-0.2]])
    assert fooling_losses.fading(peaks, original).tolist() == pytest.approx([0, 0, 0.5, 0, 2])


def test_the_penalty_keeps_maps_alive(trained, digits):
    """Without it, top-k is lowered by Grad-CAM maps that show nothing."""
    x, y = digits.images[300:], digits.labels[300:]
    dead = {}
    for alive in (0.0, 1.0):
        options = {"loss": "topk", "explainer": "grad_cam", "weight": 10.0, "steps": 60, "lr": 3e-3, "alive": alive}
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
    images = data.load_folder(tmp_path, size=64, per_class=2)
    pixels = normalize(images.images, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for explainer, layer in (("grad_cam", "layer2"), ("lrp", "layer2"), ("gradient", None)):
        options = {"loss": "location", "explainer": explainer, "layer": layer, "weight": 2.0, "lr": 1e-6}
        found = attack.fool(net, (pixels, images.labels), steps=1, batch_size=2, **options)
        assert len(found.history) == 2
        assert not torch.equal(found.model.layer1[0].conv1.weight, net.layer1[0].conv1.weight)
