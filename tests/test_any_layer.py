"""Any spelling, any layer, any number type: what is looked for by behaviour (kinds B, C and D of issue 21)."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as vision
from conftest import seeded
from entries import ATTACK, AUDIT, LABELS, audited, body, maps_of
from torch import nn

import atexlib
from atexlib import attack, explain, nets
from atexlib.attack import kinks

DISTANCE = attack.Distance()
EXPLAINED = ("gradient", "grad_cam", "lrp")


@pytest.fixture
def x():
    return 0.05 + 0.9 * torch.rand(3, 1, 8, 8, generator=seeded(1))


class Own(nn.Module):
    """A function as a module that no tracer takes for a leaf."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, h):
        return self.function(h)


def two_units(make):
    """A small net with two units."""
    torch.manual_seed(0)
    first = nn.Conv2d(1, 4, 3, padding=1), make(), nn.AvgPool2d(2)
    return nn.Sequential(*first, nn.Conv2d(4, 4, 3, padding=1), make(), nn.Flatten(), nn.Linear(64, 4))


# B. Spellings, and what Python decides

RELUS = {
    "F.relu": lambda: Own(F.relu),
    "torch.relu": lambda: Own(torch.relu),
    "clamp": lambda: Own(lambda h: h.clamp(min=0)),
    "torch.clamp": lambda: Own(lambda h: torch.clamp(h, 0)),
    "clip": lambda: Own(lambda h: h.clip(0.0, None)),
    "clamp_min": lambda: Own(lambda h: h.clamp_min(0)),
    "clamp by a tensor": lambda: Own(lambda h: h.clamp(min=torch.tensor(0.0))),
    "maximum": lambda: Own(lambda h: torch.maximum(h, torch.zeros_like(h))),
    "maximum of zero": lambda: Own(lambda h: torch.maximum(torch.tensor(0.0), h)),
    "max": lambda: Own(lambda h: torch.max(h, torch.zeros_like(h))),
    "max method": lambda: Own(lambda h: h.max(torch.zeros(()))),
    "minimum": lambda: Own(lambda h: -torch.minimum(-h, torch.zeros_like(h))),
    "in place": lambda: nn.ReLU(inplace=True),
    "relu_": lambda: Own(lambda h: h.relu_()),
    "F.relu in place": lambda: Own(lambda h: F.relu(h, inplace=True)),
    "threshold": lambda: nn.Threshold(0, 0),
    "leaky": lambda: nn.LeakyReLU(0.0),
    "own class": lambda: type("Rectifier", (nn.ReLU,), {})(),
}
# LRP passes relevance through all of these unchanged, but maxima: there it goes to the winner, and of zeros it is lost.
PASSED_ON = [name for name in RELUS if name not in ("maximum", "maximum of zero", "max", "max method", "minimum")]


def numbers(net, x, names):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = atexlib.audit(net, x, LABELS, explainers=names, **{**AUDIT, "steps": 4})
    return found.table.drop(columns="slopes see"), found.table["slopes see"].tolist(), found.notes


@pytest.fixture(scope="module")
def spelt_first():
    x = 0.05 + 0.9 * torch.rand(3, 1, 8, 8, generator=seeded(1))
    return {names: numbers(two_units(nn.ReLU).eval(), x, list(names)) for names in (EXPLAINED, EXPLAINED[:2])}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", RELUS)
def test_every_spelling_in_either_mode_has_the_numbers_of_the_first(name, training, x, spelt_first):
    names = EXPLAINED if name in PASSED_ON else EXPLAINED[:2]
    table, seen, notes = numbers(two_units(RELUS[name]).train(training), x, list(names))
    wanted = spelt_first[names]
    assert table.equals(wanted[0])
    assert seen == pytest.approx(wanted[1], abs=1e-4, nan_ok=True)
    assert notes == wanted[2]
    assert any("guided by a softplus copy" in note for note in notes)


@pytest.mark.parametrize("name", RELUS)
def test_the_softplus_copy_of_every_spelling_is_one(name, x):
    for beta in (1.0, 5.0):
        net = two_units(RELUS[name]).eval()
        before = net(x)
        twin = nets.with_softplus(net, beta)
        assert torch.allclose(twin(x), two_units(lambda beta=beta: nn.Softplus(beta)).eval()(x), atol=1e-5)
        assert torch.equal(net(x), before)


UNKNOWN = {
    "abs": lambda h: h.abs(),
    "half abs": lambda h: (h + h.abs()) / 2,
    "where": lambda h: torch.where(h > 0, h, torch.zeros_like(h)),
    "mask": lambda h: h * (h > 0),
    "setitem": lambda h: h.masked_fill(h < 0, 0),
    "two maps": lambda h: torch.maximum(h, h.flip(1)),
    "sort": lambda h: h.sort(1).values * torch.arange(1.0, 5).view(1, 4, 1, 1),
    "floor": lambda h: h - h.detach().floor(),
    "sign": lambda h: h * h.sign(),
    "top": lambda h: h.amax(1, keepdim=True).expand_as(h),
}


@pytest.mark.parametrize("unit", [None, nn.Softplus, nn.ReLU], ids=["alone", "with softplus", "with relu"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_kinks_that_stay_are_told(name, unit, x):
    """A net that bends nowhere else cannot be attacked; one that does may be, but slopes do not see the kinks."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), Own(UNKNOWN[name]), *([unit()] if unit else []), nn.Flatten(), nn.Linear(256, 4)
    )
    found = audited(net, x - 0.5 * 0, ["gradient"])
    told = [note for note in found.notes if note.startswith("gradient:")]
    assert any("WEAK" in note or "jumps at kinks" in note for note in told), found.notes
    if unit is None:
        assert found.efforts["gradient", "distance"].stepped == 0
        assert found.efforts["gradient", "distance"].why in (kinks.KINKS, kinks.NO_SLOPE)
        assert "0 of 3 images could step" in repr(found)


def test_a_smooth_net_is_not_slandered(x):
    found = audited(body(nn.Softplus(2)), x, ["gradient", "grad_cam"])
    assert not any("no step" in note or "kinks" in note for note in found.notes)


class Option(nn.Module):
    """The small net, whose forward takes more than images."""

    def __init__(self):
        super().__init__()
        self.net = body(nn.ReLU())


class Features(Option):
    def forward(self, x, return_features=False):
        h = self.net[:4](x)
        return h if return_features else self.net[4](h)


class Mask(Option):
    def forward(self, pixel_values, mask=None, *, scale=1.0):
        return self.net(pixel_values if mask is None else pixel_values * mask) * scale


class Arguments(Option):
    def forward(self, x, *args, **kwargs):
        if args or kwargs.get("twice"):
            x = 2 * x
        return self.net(x)


class Words(Option):
    def forward(self, x, mode="logits", layers=(0, 1), labels=None):
        h = self.net(x)
        if mode != "logits" or len(layers) != 2:
            return h.softmax(1)
        return h if labels is None else F.cross_entropy(h, labels)


class Everything(Option):
    def forward(self, *inputs, **options):
        return self.net(inputs[0])


@pytest.mark.parametrize("kind", [Features, Mask, Arguments, Words, Everything])
def test_further_arguments_keep_their_defaults(kind, x):
    net, plain = kind(), body(nn.ReLU())
    for name in explain.EXPLAINERS:
        assert torch.allclose(maps_of(name)(net, x), maps_of(name)(plain, x), atol=1e-6), name
    assert torch.allclose(nets.with_softplus(net, 5)(x), body(nn.Softplus(5))(x), atol=1e-6)
    assert audited(net, x, EXPLAINED).table.equals(audited(plain, x, EXPLAINED).table)


class Flags(nn.Module):
    """A net whose forward heeds what stands on it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(256, 4)
        self.unit = nn.ReLU()
        self.skip, self.repeats, self.options, self.act = True, 1, {"scale": 1.0}, F.relu
        self.register_buffer("gate", torch.tensor(1))
        self.blocks = [self.b]

    def forward(self, x):
        h = self.unit(self.a(x))
        for _ in range(self.repeats):
            h = self.act(h + self.b(h) if self.skip else self.b(h))
        for block in self.blocks[1:]:
            h = self.act(block(h))
        return self.head(h.flatten(1)) * self.options["scale"] * int(self.gate)


class Negative(Flags):
    def forward(self, x):
        return super().forward(1 - x)


def halve(net):
    with torch.no_grad():
        net.b.weight.mul_(-0.5)


CHANGES = {
    "skip": lambda net: setattr(net, "skip", False),
    "repeats": lambda net: setattr(net, "repeats", 2),
    "options": lambda net: net.options.update(scale=3.0),
    "function": lambda net: setattr(net, "act", torch.sigmoid),
    "buffer": lambda net: net.gate.add_(1),
    "list": lambda net: net.blocks.append(net.b),
    "layer": lambda net: setattr(net, "b", nn.Conv2d(4, 4, 1)),
    "unit": lambda net: setattr(net, "unit", nn.Identity()),
    "weights": halve,
    "stride": lambda net: setattr(net.b, "dilation", (2, 2)) or setattr(net.b, "padding", (2, 2)),
    "class": lambda net: setattr(net, "__class__", Negative),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_between_two_calls_is_seen(change, x):
    net = Flags().eval()
    calls = {name: maps_of(name) for name in explain.EXPLAINERS}
    calls["twin"] = lambda net, x: nets.with_softplus(net, 5)(x).detach()
    before = {name: call(net, x) for name, call in calls.items()}
    change(net)
    fresh = copy.deepcopy(net)
    for name, call in calls.items():
        found = call(net, x)
        assert torch.allclose(found, call(fresh, x), atol=1e-6), name
        if name in ("gradient", "twin"):
            assert not torch.allclose(found, before[name], atol=1e-6)


FORMS = {
    "F.max_pool2d": lambda h: F.max_pool2d(h, 2).flatten(1),
    "mean": lambda h: h.mean((2, 3)),
    "torch.reshape": lambda h: torch.reshape(h, (h.size(0), -1)),
    "relu_": lambda h: h.relu_().flatten(1),
    "squeeze": lambda h: F.adaptive_avg_pool2d(h, 1).squeeze(3).squeeze(2),
    "einsum of ones": lambda h: h.sum((2, 3)) / 64,
    "view": lambda h: h.contiguous().view(len(h) if isinstance(h, torch.Tensor) else h.shape[0], -1),
    "unflatten": lambda h: h.flatten(2).unflatten(2, (4, 16)).amax(3).flatten(1),
    "permute": lambda h: h.permute(0, 2, 3, 1).reshape(h.shape[0], -1),
    "chunk": lambda h: torch.cat(h.chunk(2, 1)[::-1], 1).flatten(1),
    "scaled": lambda h: (0.5 * h - 0.1).flatten(1),
    "stack": lambda h: torch.stack([h, 2 * h]).sum(0).flatten(1),
}


@pytest.mark.parametrize("name", FORMS)
def test_lrp_has_a_rule_for_functions_and_methods(name, x):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), Own(FORMS[name]), nn.LazyLinear(4)).eval()
    net(x)
    found = explain.lrp(net, x, LABELS)
    assert found.isfinite().all()
    assert found.flatten(1).any(1).all()


@pytest.mark.parametrize("function", [torch.fft.fft2, lambda h: h.cumprod(1), torch.special.erfcx, lambda h: h @ h])
def test_a_refusal_of_lrp_never_names_an_address(function, x):
    first, last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 4)
    net = nn.Sequential(first, Own(lambda h: function(h).real), nn.Flatten(), last)
    with pytest.raises(ValueError, match=r"no rule|cannot be traced") as refusal:
        explain.lrp(net, x, 0)
    assert "0x" not in str(refusal.value)


# C. The layer of Grad-CAM


def by_hooks(net, x, target, layer, channels="first", grid=None):
    """Grad-CAM as one writes it by hand."""
    seen = []

    def keep(_module, _inputs, output):
        seen.append(output)
        return output.clone()

    handle = net.get_submodule(layer).register_forward_hook(keep)
    with torch.enable_grad():
        score = net(x)[:, target].sum()
        (slope,) = torch.autograd.grad(score, seen[-1])
    handle.remove()
    output = seen[-1]
    if channels == "last":
        output, slope = output.permute(0, 3, 1, 2), slope.permute(0, 3, 1, 2)
    if channels == "tokens":
        output, slope = (v[:, -grid[0] * grid[1] :].transpose(1, 2).reshape(len(v), -1, *grid) for v in (output, slope))
    cam = (slope.mean((2, 3), keepdim=True) * output).sum(1, keepdim=True)
    return F.interpolate(cam, size=x.shape[2:], mode="bilinear", align_corners=False).detach()


def vit():
    net = vision.VisionTransformer(32, 8, 3, 2, 32, 64, num_classes=10)
    nn.init.normal_(net.heads.head.weight)
    return net


WIDE = {"weights": None, "init_weights": False}
LITERATURE = {  # the net, what its papers and tools read, a size at which that is more than a pixel
    "resnet18": (lambda: vision.resnet18(), "layer4", 64, {}),
    "resnet50": (lambda: vision.resnet50(), "layer4", 64, {}),
    "densenet121": (lambda: vision.densenet121(), "features", 64, {}),
    "googlenet": (lambda: vision.googlenet(**WIDE), "inception5b", 64, {}),
    "inception_v3": (lambda: vision.inception_v3(**WIDE), "Mixed_7c", 107, {}),
    "efficientnet_b0": (lambda: vision.efficientnet_b0(), "features", 64, {}),
    "convnext_tiny": (lambda: vision.convnext_tiny(), "features", 64, {}),
    "vgg11": (lambda: vision.vgg11(init_weights=False), "features.18", 64, {}),
    "swin_t": (lambda: vision.swin_t(), "norm", 64, {"channels": "last"}),
    "vit": (vit, "encoder.layers.encoder_layer_2.ln_1", 32, {"channels": "tokens", "grid": (4, 4)}),
}


@pytest.mark.parametrize("name", LITERATURE)
def test_the_default_layer_is_that_of_the_literature(name):
    make, layer, side, how = LITERATURE[name]
    torch.manual_seed(0)
    net, x = make().eval(), torch.rand(1, 3, side, side + (name != "vit") * 32, generator=seeded(1))
    found, at = explain.grad_cam(net, x, 1), explain.reading(net, x)
    hand = by_hooks(net, x, 1, layer, **how)
    assert torch.allclose(found, hand, atol=1e-5 * hand.abs().max().item()), at.name
    assert str(at) in explain.described(explain.layers.resolved(explain.grad_cam, net, x))


class Aux(nn.Module):
    """A head for training, registered last and never called in eval mode."""

    def __init__(self, unit=None):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(256, 4)
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.unit = nn.BatchNorm2d(4), unit or nn.Identity()
        self.aux = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(72, 4))

    def forward(self, x):
        h = self.unit(self.norm(self.last(F.relu(self.first(x)))))
        z = self.head(h.flatten(1))
        return z + self.aux(h) if self.training else z


def test_a_head_that_is_registered_last_is_not_read(x):
    net = Aux().train()
    assert torch.allclose(explain.grad_cam(net, x, 1), by_hooks(net.eval(), x, 1, "norm"), atol=1e-6)


class Unused(Aux):
    """The auxiliary head is called, but its answer goes nowhere."""

    def forward(self, x):
        z = super().forward(x)
        self.aux(self.last(F.relu(self.first(x))))
        return z


def test_a_map_on_which_no_logit_depends_is_not_read(x):
    net = Unused().eval()
    assert torch.allclose(explain.grad_cam(net, x, 1), by_hooks(Aux().eval(), x, 1, "norm"), atol=1e-6)


class Doubles(nn.Module):
    def forward(self, h):
        return h.mul_(2)


@pytest.mark.parametrize(
    ("writes", "apart"),
    [
        (lambda: nn.ReLU(inplace=True), nn.ReLU),
        (lambda: Own(lambda h: F.relu_(h)), nn.ReLU),
        (lambda: Own(lambda h: h.add_(1).mul_(2)), lambda: Own(lambda h: (h + 1) * 2)),
        (lambda: nn.Hardtanh(0, 1, inplace=True), lambda: nn.Hardtanh(0, 1)),
        (lambda: nn.SiLU(inplace=True), nn.SiLU),
    ],
)
@pytest.mark.parametrize("layer", ["last", "norm", "first"])
def test_what_is_written_after_a_layer_changes_no_map_of_it(writes, apart, layer, x):
    found, wanted = (explain.grad_cam(Aux(unit()).eval(), x, 1, layer=layer) for unit in (writes, apart))
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(found, by_hooks(Aux(apart()).eval(), x, 1, layer), atol=1e-6)
    slopes = [explain.gradient(Aux(unit()).eval(), x, 1, layer=layer) for unit in (writes, apart)]
    assert torch.allclose(*slopes, atol=1e-6)


def test_a_sum_that_is_written_on_a_block_is_the_blocks_own(x):
    class Net(Aux):
        def forward(self, x):
            h = self.first(x)
            out = self.norm(self.last(h))
            out += h
            return self.head(self.unit(out).flatten(1))

    torch.manual_seed(1)
    net = Net(nn.ReLU(inplace=True)).eval()
    for layer in ("first", "norm", "last"):
        assert torch.allclose(explain.grad_cam(net, x, 1, layer=layer), by_hooks(net, x, 1, layer), atol=1e-6)


class ChannelsLast(nn.Module):
    """A block that works on (B, h, w, K), as those of Swin do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.LayerNorm(6)
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        h = self.mix(self.norm(self.stem(x).permute(0, 2, 3, 1)))
        return self.head(F.gelu(h).mean((1, 2)))


@pytest.mark.parametrize("shape", [(1, 3, 24, 24), (1, 3, 16, 24), (2, 3, 24, 20)])
def test_channels_that_come_last_are_read_as_such(shape):
    """Also where a map has as many rows as channels."""
    net, x = ChannelsLast().eval(), torch.rand(shape, generator=seeded())
    assert explain.reading(net, x).channels == "last"
    for layer, kind in {"mix": "last", "norm": "last", "stem": "first"}.items():
        found = explain.grad_cam(net, x, 1, layer=layer)
        assert torch.allclose(found, by_hooks(net, x, 1, layer, kind), atol=1e-6)
    assert torch.allclose(explain.grad_cam(net, x, 1), by_hooks(net, x, 1, "mix", "last"), atol=1e-6)


def test_a_block_of_swin_is_read_over_its_channels():
    torch.manual_seed(0)
    net, x = vision.swin_t().eval(), torch.rand(1, 3, 64, 96, generator=seeded())
    for layer in ("features.5", "features.3.1", "features.1"):
        hand = by_hooks(net, x, 0, layer, "last")
        assert torch.allclose(explain.grad_cam(net, x, 0, layer=layer), hand, atol=1e-5 * hand.abs().max().item())


def test_a_layer_that_is_called_twice_counts_where_it_is_called_last(x):
    class Net(Aux):
        def forward(self, x):
            h = F.softplus(self.last(F.softplus(self.last(self.first(x)))))
            return self.head(h.flatten(1))

    net = Net().eval()
    assert explain.reading(net, x).name == "last"
    assert torch.allclose(explain.grad_cam(net, x, 1), by_hooks(net, x, 1, "last"), atol=1e-6)


def test_where_every_map_is_one_pixel_the_last_convolution_is_read():
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 4, 2), nn.Conv2d(4, 4, 1)
    net, x = nn.Sequential(first, nn.Softplus(), last, nn.Flatten(), nn.Linear(4, 3)).eval(), torch.rand(2, 1, 2, 2)
    assert explain.reading(net, x).name == "2"
    assert explain.grad_cam(net, x, 1).shape == x.shape
    found = audited(net, x, ["gradient", "grad_cam"])
    assert any("constant" in note for note in found.notes if note.startswith("grad_cam"))


def test_a_squeeze_of_one_pixel_after_the_maps_is_stepped_over(x):
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.SiLU(), nn.Flatten(), nn.Linear(4, 4)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), *head).eval()
    assert explain.reading(net, x).name == "0"


def test_a_net_without_maps_is_refused_by_name(x):
    with pytest.raises(ValueError, match=r"Sequential has no feature map.*layer="):
        explain.grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), x)
    found = audited(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Softplus(), nn.Linear(8, 4)), x, EXPLAINED)
    assert any(note.startswith("grad_cam was left out: Sequential has no feature map") for note in found.notes)


def test_the_layer_stands_in_every_result(x):
    net = Aux(nn.Softplus()).eval()
    found = attack.manipulate(net, x, DISTANCE, explainer="grad_cam", **ATTACK)
    name = explain.reading(net, x).name
    assert found.effort.explainer == f"Grad-CAM of {name}"
    whole = audited(net, x, ["grad_cam"])
    assert f"Grad-CAM of {name}" in whole.settings["explained"]
    assert f"Grad-CAM of {name}" in repr(whole)


# D. Whether an attack could step


COARSE = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("name", COARSE)
def test_coarse_nets_are_refused_by_attacks(name, x):
    net, z = body().to(COARSE[name]), x.to(COARSE[name])
    for call in (
        lambda: attack.manipulate(net, z, DISTANCE, **ATTACK),
        lambda: audited(net, z),
        lambda: attack.pgd(net, z, LABELS, eps=0.1, steps=1),
        lambda: atexlib.judge.max_min(net, z, eps=0.1, steps=1),
    ):
        with pytest.raises(ValueError, match=r"too coarse for an attack.*\.float\(\)"):
            call()


@pytest.mark.parametrize("name", COARSE)
def test_a_coarse_net_of_fine_images_is_named(name, x):
    net = body().to(COARSE[name])
    for call in (lambda net, x: attack.manipulate(net, x, DISTANCE, **ATTACK), audited, nets.predict):
        with pytest.raises(ValueError, match=r"Sequential cannot take images of shape .*float32|float\(\)"):
            call(net, x)


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("explainer", ["gradient", "grad_cam", "smoothgrad", "integrated_gradients"])
def test_maps_of_coarse_nets_are_those_of_fine_ones_but_for_rounding(name, explainer, x):
    found = maps_of(explainer)(body().to(COARSE[name]), x.to(COARSE[name]))
    wanted = maps_of(explainer)(body(), x)
    assert torch.allclose(found.float(), wanted, atol=0.06 * wanted.abs().max().item())


@pytest.mark.parametrize("dtype", COARSE.values(), ids=COARSE)
def test_autocast_changes_no_number(dtype, x):
    net = two_units(lambda: nn.Softplus(5))
    calls = {
        **{name: maps_of(name) for name in explain.EXPLAINERS},
        "predict": nets.predict,
        "manipulate": lambda net, x: attack.manipulate(net, x, DISTANCE, **ATTACK).x,
        "stepped": lambda net, x: attack.manipulate(net, x, DISTANCE, **ATTACK).stepped,
        "pgd": lambda net, x: attack.pgd(net, x, LABELS, eps=0.1, steps=2),
        "max_min": lambda net, x: atexlib.judge.max_min(net, x, eps=0.1, steps=2).value,
    }
    for name, call in calls.items():
        wanted = call(net, x)
        with torch.autocast("cpu", dtype=dtype):
            found = call(net, x)
            assert torch.is_autocast_enabled("cpu")
        assert found.dtype == wanted.dtype, name
        assert torch.equal(found, wanted), name
    table = audited(net, x, EXPLAINED).table
    with torch.autocast("cpu", dtype=dtype):
        assert audited(net, x, EXPLAINED).table.equals(table)


def half_linear():
    """A net whose maps change with the image where that is bright, and not where it is dark."""
    torch.manual_seed(0)
    straight, bent = nn.Linear(64, 4), nn.Linear(64, 4)

    class Net(nn.Module):
        def forward(self, x):
            h = x.flatten(1)
            bright = (h.mean(1, keepdim=True) > 0.5).float().detach()
            return straight(h) + bright * bent(h).square()

    return Net()


def loses_graph(model, x, target=None, *, create_graph=False):
    return explain.gradient(model, x, target)


class Before(nn.Module):
    """The small net with something done to the image before it."""

    def __init__(self, before):
        super().__init__()
        self.net, self.before = body(), before

    def forward(self, x):
        return self.net(self.before(x))


CASES = {  # net, explainer, which of a dark, a bright and a dark image can step, why not
    "smooth": (body, "gradient", [True] * 3, ""),
    "relu": (lambda: two_units(nn.ReLU), "gradient", [False] * 3, kinks.KINKS),
    "relu, smoothgrad": (lambda: two_units(nn.ReLU), "smoothgrad", [False] * 3, kinks.KINKS),
    "relu, gradient x input": (lambda: two_units(nn.ReLU), "gradient_x_input", [True] * 3, ""),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), "gradient", [False] * 3, kinks.NO_SLOPE),
    "half": (half_linear, "gradient", [False, True, False], kinks.NO_SLOPE),
    "no graph": (body, loses_graph, [False] * 3, kinks.NO_GRAPH),
    "no graph, relu": (lambda: two_units(nn.ReLU), loses_graph, [False] * 3, kinks.NO_GRAPH),
    "constant": (
        body,
        lambda model, x, target=None, *, create_graph=False: x.detach() * 0 + 1,
        [False] * 3,
        kinks.NO_SLOPE,
    ),
    "rounded": (lambda: Before(lambda x: (64 * x).round() / 64), "gradient", [False] * 3, kinks.ROUNDED),
    "saturated": (lambda: Before(lambda x: torch.sigmoid(60 + x)), "gradient", [False] * 3, kinks.SATURATED),
}


@pytest.mark.parametrize("case", CASES)
def test_a_result_says_which_images_could_step_and_why_not(case, x):
    make, explainer, stepped, why = CASES[case]
    net, z = make(), x * torch.tensor([0.3, 1, 0.3]).view(3, 1, 1, 1) + torch.tensor([0.0, 0.04, 0]).view(3, 1, 1, 1)
    z[1] = z[1] * 0.7 + 0.3
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = attack.manipulate(net, z, DISTANCE, explainer=explainer, eps=0.05, steps=2)
    assert found.stepped.tolist() == stepped
    assert (found.effort.stepped, found.effort.images, found.effort.why) == (sum(stepped), 3, why)
    assert f"{sum(stepped)} of 3 images could step" in repr(found)
    assert why in repr(found)
    told = [str(warning.message) for warning in said if "took no step" in str(warning.message)]
    assert bool(told) == (not any(stepped))
    if told:
        assert ("ReLU" in told[0]) == (why == kinks.KINKS)
    whole = (
        attack.manipulate(net, z, DISTANCE, explainer=explainer, eps=0.05, steps=2, batch_size=2)
        if any(stepped)
        else found
    )
    assert whole.stepped.tolist() == stepped
    rows = audited(net, z, {"mine": explain.find(explainer)})
    if case.startswith("relu"):  # there the softplus copy shows the way
        assert rows.table.loc[("mine", "distance"), "could step"] == 1
    elif case != "no graph, relu":
        assert rows.table.loc[("mine", "distance"), "could step"] == pytest.approx(sum(stepped) / 3)
        assert any("WEAK" in note and why in note for note in rows.notes) == (not all(stepped))


def test_what_stepped_is_told_for_each_explainer(x):
    chosen = {"gradient": explain.gradient, "blind": loses_graph}
    found = audited(body(), x, chosen)
    assert found.table.loc[("gradient", "distance"), "could step"] == 1
    assert found.table.loc[("blind", "distance"), "could step"] == 0
    assert found.efforts["blind", "distance"].why == kinks.NO_GRAPH
    assert any(note.startswith("blind: the attacks were WEAK") and "no graph" in note for note in found.notes)
