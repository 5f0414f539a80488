"""Every family of torchvision: explainers against an oracle or refused by name, softplus copies, attacks, audits."""

import copy
import functools
from pathlib import Path

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchvision.models as vision
from conftest import seeded
from torch import nn

import atexlib
from atexlib import attack, explain, nets
from atexlib.judge import signs

BARE = {"init_weights": False}
FAMILIES = {  # name: options, side of the images, the layer that Grad-CAM reads, where its channels are
    "resnet18": ({}, 64, "layer4", "first"),
    "vgg11_bn": (BARE, 32, "features.26", "first"),
    "densenet121": ({}, 64, "features", "first"),
    "squeezenet1_1": ({}, 64, "classifier.1", "first"),
    "regnet_y_400mf": ({}, 64, "trunk_output", "first"),
    "googlenet": (BARE, 64, "inception5b", "first"),
    "inception_v3": (BARE, 107, "Mixed_7c", "first"),
    "mobilenet_v2": ({}, 64, "features", "first"),
    "mobilenet_v3_small": ({}, 64, "features", "first"),
    "mnasnet0_5": ({}, 64, "layers", "first"),
    "shufflenet_v2_x0_5": ({}, 64, "conv5", "first"),
    "efficientnet_b0": ({}, 64, "features", "first"),
    "convnext_tiny": ({}, 64, "features", "first"),
    "vit": ({}, 32, "encoder.layers.encoder_layer_1.ln_1", "tokens"),
    "swin_t": ({}, 64, "norm", "last"),
}
NO_LRP = {"vit": "self_attention (MultiheadAttention)", "swin_t": "shifted_window_attention in features.7.1.attn"}
# Of Hardsigmoid, in its squeeze units and in Hardswish, torch has no second derivative.
ONCE = ("mobilenet_v3_small",)
PARTLY = ("regnet_y_400mf",)  # beside its ReLUs there are sigmoids, so a step has a direction, if not the right one
SUSPECTED = ("resnet18", "vit")  # one with LRP and one without: signs of manipulation take most of an audit's time
SMOOTH = ("vit", "swin_t", "convnext_tiny", "efficientnet_b0")  # no ReLU: GELU and SiLU


@functools.cache
def made(name):
    """A net with random weights whose logits are of the size of one, so that rounding is no part of any test."""
    torch.manual_seed(0)
    if name == "vit":
        net = vision.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=10)
        nn.init.normal_(net.heads.head.weight)  # torchvision starts it at zero
    else:
        net = getattr(vision, name)(weights=None, num_classes=10, **FAMILIES[name][0])
    if name == "vgg11_bn":  # what costs is its head
        net.classifier = nn.Sequential(nn.Linear(512 * 49, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10))
    norms = [module for module in net.eval().modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:  # signals would fade on the way through a deep random net
        norm.momentum = None
        norm.train()
    side = FAMILIES[name][1]
    with torch.no_grad():
        net(torch.rand(4, 3, side, side, generator=seeded(3)))
    return net.eval()


def images(name, count=2):
    side = FAMILIES[name][1]
    return 0.1 + 0.8 * torch.rand(count, 3, side, side, generator=seeded(1))


def exact(name):
    """The net and its images in float64, so that no rounding turns a ReLU over."""
    return copy.deepcopy(made(name)).double(), images(name).double()


family = pytest.mark.parametrize("name", FAMILIES)
TARGET = torch.tensor([3, 7])


def near(found, wanted, share=1e-4):
    """Equal but for rounding, which is measured by the largest value."""
    assert found.shape == wanted.shape
    assert wanted.flatten(1).any(1).all()
    return (found - wanted).abs().max() <= share * wanted.abs().max()


@family
def test_gradient_is_that_of_autograd(name):
    net, x = exact(name)
    z = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(net(z).gather(1, TARGET[:, None]).sum(), z)
    assert near(explain.gradient(net, x, TARGET), wanted)
    assert near(explain.gradient_x_input(net, x, TARGET), x * wanted)


@family
def test_grad_cam_is_that_of_hooks(name):
    net, x, (_, _, layer, channels) = made(name), images(name), FAMILIES[name]
    seen = []

    def keep(_module, _inputs, output):
        seen.append(output)
        return output.clone()  # some nets write on it

    handle = net.get_submodule(layer).register_forward_hook(keep)
    score = net(x).gather(1, TARGET[:, None]).sum()
    handle.remove()
    pair = seen[0], torch.autograd.grad(score, seen[0])[0]
    if channels == "last":
        pair = [values.permute(0, 3, 1, 2) for values in pair]
    if channels == "tokens":
        pair = [values[:, 1:].transpose(1, 2).unflatten(2, (4, 4)) for values in pair]
    output, slope = pair
    assert output.shape[2] > 1 or name in ("vgg11_bn",)
    cam = (slope.mean((2, 3), keepdim=True) * output).sum(1, keepdim=True)
    wanted = F.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False).detach()
    assert near(explain.grad_cam(net, x, TARGET), wanted, share=1e-3), explain.reading(net, x)


@family
def test_means_of_gradients_are_those_of_captum(name):
    net, x = exact(name)
    wanted = captum.attr.IntegratedGradients(net).attribute(
        x, 0 * x, target=TARGET.tolist(), n_steps=3, method="gausslegendre", internal_batch_size=2
    )
    assert near(explain.integrated_gradients(net, x, TARGET, steps=3), wanted)
    noise = 0.1 * torch.randn((2, *x.shape[1:]), generator=seeded(0), dtype=torch.float64)
    slopes = []
    for shift in noise:
        z = (x + shift).requires_grad_()
        slopes += torch.autograd.grad(net(z).gather(1, TARGET[:, None]).sum(), z)
    assert near(explain.smoothgrad(net, x, TARGET, samples=2), (slopes[0] + slopes[1]) / 2)


@family
def test_lrp_gives_a_map_or_names_the_rule_that_is_missing(name):
    net, x = made(name), images(name, 1)
    if name in NO_LRP:
        with pytest.raises(ValueError, match="LRP has no rule for") as refusal:
            explain.lrp(net, x, 3)
        assert NO_LRP[name] in str(refusal.value)
        return
    found = explain.lrp(net, x, 3)
    assert found.shape == x.shape
    assert found.isfinite().all()
    assert found.any()


@family
def test_a_sharp_softplus_copy_has_nearly_the_logits_of_the_net(name):
    net, x = made(name), images(name)
    with torch.no_grad():
        logits = net(x)
        apart = [(nets.with_softplus(net, beta)(x) - logits).abs().max() for beta in (3.0, 300.0, 3e4)]
    scale = logits.abs().max()
    if name in SMOOTH:
        assert apart[0] <= 1e-5 * scale
    else:
        assert apart[2] <= 0.01 * scale
        assert apart[2] <= apart[1] < apart[0]


@family
def test_an_attack_by_the_softplus_copy_steps_on_every_image(name):
    net, x = made(name), images(name)
    found = attack.manipulate(net, x, attack.Distance(), eps=8 / 255, steps=1, surrogate=nets.with_softplus(net, 10))
    assert found.stepped.tolist() == [True, True]
    assert found.label_kept.all()
    assert (found.distance <= 8 / 255).all()
    assert (found.score >= found.clean_score).all()


@family
def test_without_a_copy_it_steps_or_says_why_not(name):
    net, x = made(name), images(name)
    if name in ONCE:
        with pytest.raises(ValueError, match=r"no second derivative.*with_softplus"):
            attack.manipulate(net, x, attack.Distance(), eps=8 / 255, steps=1)
    elif name in PARTLY:
        effort = attack.manipulate(net, x, attack.Distance(), eps=8 / 255, steps=1).effort
        assert effort.stepped == 2
        assert effort.seen < 0.9
    elif name in SMOOTH:
        assert attack.manipulate(net, x, attack.Distance(), eps=8 / 255, steps=1).stepped.all()
    else:
        with pytest.warns(UserWarning, match="as in every ReLU net"):
            found = attack.manipulate(net, x, attack.Distance(), eps=8 / 255, steps=1)
        assert (found.effort.stepped, found.effort.why) == (0, "kinks")


@family
def test_an_audit_runs(name, monkeypatch):
    if name not in SUSPECTED:
        monkeypatch.setattr(signs, "read", lambda *_, **__: ([], []))
    net, x = made(name), images(name)
    chosen = ["gradient", "lrp"] if name in NO_LRP else ["gradient"]
    found = atexlib.audit(net, x, TARGET, explainers=chosen, attacks=["distance"], steps=1, starts=1, progress=False)
    assert found.table.index.unique("explainer").tolist() == ["gradient"]
    assert found.table["predictions kept"].between(0, 1).all()
    assert found.efforts["gradient", "distance"].stepped == 2
    assert any("softplus copy" in note for note in found.notes) == (name not in SMOOTH)
    assert any("lrp was left out: LRP has no rule" in note for note in found.notes) == (name in NO_LRP)
    assert bool(found.signs) == (name in SUSPECTED)
    assert not any("could not be read" in note for note in found.notes)


def row(name):
    """A family's line of the table on the page."""
    without = "steps" if name in SMOOTH else "steps, blind to kinks" if name in PARTLY else "no step: kinks"
    without = "refused by name" if name in ONCE else without
    lrp = "refused by name: attention" if name in NO_LRP else "a map"
    reads = explain.reading(made(name), images(name, 1))
    return f"| {name} | `{reads.name}` | {lrp} | {without} | steps |"


@family
def test_the_page_says_what_was_found(name):
    page = (Path(__file__).parents[1] / "book/any_net.md").read_text(encoding="utf-8")
    assert row(name) in page.splitlines()
