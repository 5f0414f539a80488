"""Bad calls of one function alone, each of which raises a ValueError that says what to do; see test_raises.py."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import curved
from safetensors.torch import save_file
from test_raises import CALLS, NET, Returns, X, Y, fail_at_work, parametrize, refused, scores
from torch import nn

from atexlib import __main__ as command_line
from atexlib import attack, data, defend, experiments, explain, judge, maps, nets, show
from atexlib.experiments.engine import results

SPEC = {"kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "eps": 0.1, "seed": 0}
WEIGHTS = {"weight": torch.zeros(2)}
RUN = ["run", "undefended", "--dataset", "digits", "--preset", "smoke", "--seed"]
run, loaded = experiments.run_or_load, experiments.load
MANIPULATE, FOOL, ATEX, NAIVE, FIT, AUDIT, HARDEN, CURVE, AVERAGE, BEGIN, MAX_MIN, MIN_MAX = (
    functools.partial(CALLS[name][0], **CALLS[name][1])
    for name in ("manipulate", "fool", "atex", "naive", "fit", "audit", "adversarial_training", "deletion",
                 "average_case", "begin", "max_min", "min_max")
)  # fmt: skip
SEARCHES = {"manipulate": MANIPULATE, "average_case": AVERAGE, "max_min": MAX_MIN, "min_max": MIN_MAX}
TRAINERS = {"fit": FIT, "fool": FOOL, "atex": ATEX, "naive": NAIVE, "adversarial_training": HARDEN}
SLIDES = functools.partial(show.frames, draw=None, say=None, alt="A picture.", caption="A picture.")


class Branching(nn.Module):
    def forward(self, x):
        return x.relu() if x.sum() > 0 else x


def frozen():
    return curved().requires_grad_(False)


BY_HAND = [  # a call, and what it says
    (lambda: data.load("imagenet", "test"), "'imagenet'.*unknown. Choose one of: fashion-mnist"),
    *[
        (lambda f=f: f(x=255 * X), r"x ranges over \[.*2[0-9]{2}.*\].*rescale it") for f in SEARCHES.values()
    ],
    *[
        (lambda b=b: explain.integrated_gradients(NET, X, baseline=b),
         rf"(?s)^baseline is {regex}; pass a finite number, or images that (broadcast to|fit) \(3, 1, 8, 8\)")
        for b, regex in [
            (math.nan, "nan"),
            ("black", "'black'"),
            (torch.full((8, 8), math.nan), r"tensor\(.*nan.*\)"),
            (torch.zeros(3, 1, 8, 7), r"tensor\(.*\)"),
            (torch.zeros(2, 1, 8, 8), r"tensor\(.*\)"),
            (torch.zeros(2, 3, 1, 8, 8), r"tensor\(.*\)"),
        ]
    ],
    *[
        (lambda f=f: f(NET, X, layer="cnov1"), "layer is 'cnov1'.*Did you mean 'conv1'.*Choose one of")
        for f in (explain.gradient, explain.grad_cam)
    ],
    *[
        (lambda f=f: f(5, X, layer="conv1"), r"model is 5; pass a torch\.nn\.Module")
        for f in (explain.gradient, explain.grad_cam)
    ],
    *[
        (lambda f=f: f(5).__enter__(), r"model is 5; pass a torch\.nn\.Module") for f in (nets.evaluating, nets.frozen)
    ],
    (lambda: explain.grad_cam(nn.Flatten(), X), "Flatten has no feature map on the way to its logits; name"),
    (lambda: attack.Targeted(X[0] > 0.5), r"mask has shape \(1, 8, 8\); pass \(B"),
    (lambda: attack.Targeted(2 + X), r"mask ranges over \[2.*outside \(0, 1\); rescale"),
    (lambda: attack.Targeted([[1]]), "mask is a list; pass a torch tensor"),
    *[
        (lambda f=f: f(X, X[:, :, 1:]), r"a has shape \(3, 1, 8, 8\) but b.*7, 8\); they must")
        for f in (maps.spearman, maps.kendall, maps.topk_intersection, maps.lens_topk, maps.ssim)
    ],
    (lambda: maps.ssim(X[..., :6], X[..., :6]), r"\(8, 6\) pixels; SSIM needs at least 7 x 7"),
    (lambda: maps.mass_on(X, X[:, :, 1:] > 0), r"mask has shape \(3, 1, 7, 8\) but maps has"),
    *[
        (lambda v=v: maps.bootstrap(v), rf"(?s)^values is {regex}; pass a tensor of at least two numbers, shape \(N,\)")
        for v, regex in [
            (X[0, 0, 0, :1], r"tensor\(\[0\.[0-9]+\].*\)"),
            (X[0, 0], r"tensor\(\[\[0\..*\)"),
            ([0.25, 0.5], r"\[0\.25, 0\.5\]"),
        ]
    ],
    (lambda: maps.bootstrap(X.flatten(), level=1), r"level is 1; it must be above 0.* and at most 0\.9999"),
    (lambda: maps.bootstrap(torch.tensor([0.0, math.nan])), "values holds nan or infinite numbers; drop those images"),
    (lambda: maps.two_level(X.flatten()), r"values has shape \(192,\); pass \(S, N\)"),
    (lambda: maps.two_level(X[:, 0]), r"values has shape \(3, 8, 8\); pass \(S, N\), or \(S, N, K\) and a statistic"),
    (lambda: maps.two_level([1.0]), r"values has shape list; pass \(S, N\)"),
    (lambda: maps.two_level(X[:, 0, 0] * math.nan), "values holds infinite numbers, or nothing but nan"),
    (lambda: AUDIT(images=X[:1], labels=Y[:1]), "number of images is 1"),
    (lambda: AUDIT(images=255 * X), r"ranges over .* outside \(0, 1\)"),
    (lambda: AUDIT(attacks=[]), "number of attacks is 0"),
    (lambda: AUDIT(explainers={}), "number of explainers is 0"),
    (lambda: AUDIT(explainers={"mine": 5}), "explainer is 5; pass a name"),
    (lambda: AUDIT(explainers=["gradcam"]), "'gradcam'.*Did you mean 'grad_cam'"),
    (lambda: AUDIT(attacks=["centre_mass"]), "'centre_mass'.*Did you mean 'center_mass'"),
    (lambda: AUDIT(explainers="lrp"), r"explainers is 'lrp'; pass a list of names, \['lrp'\]"),
    (lambda: nets.with_softplus(torch.jit.script(nn.ReLU()), 9), "the model was made by torch.jit"),
    (lambda: nets.small("vgg19", divisor=3), "divisor is 3; pass one by which 32 can be divided"),
    (lambda: attack.judged(X, X[:, :, 1:], loss="topk"), r"after has shape \(3, 1, 7, 8\) but before has"),
    (lambda: judge.load_card("nowhere.json"), r"^nowhere\.json is no card of an audit \(.*No such file.*\); pass one"),
    (lambda: judge.load_card(5), "^5 is no card of an audit"),
    (lambda: AUDIT(place="lower rigth"), "^place is 'lower rigth', which is unknown. Did you mean 'lower right'?"),
    (lambda: AUDIT(place=torch.ones(4, 8)), r"^place has shape \(4, 8\); pass a mask of the images' \(8, 8\)"),
    *[
        (lambda m=m: AUDIT(place=m), "^place is a mask that marks nothing, all, or by halves; pass 1 there and 0")
        for m in (torch.ones(8, 8), torch.zeros(8, 8), torch.full((8, 8), 0.5))
    ],
    *[(lambda n=n: AUDIT(names=n), "^names is .*; pass a list of 3 names, one an image") for n in ("cat", ["a", "b"])],
    (lambda: data.load_folder(5, size=4), "^path is 5; pass the name of a folder"),
    (lambda: data.load_folder("nowhere", size=4), "nowhere is not a folder; pass one that"),
    (lambda: data.padded(X, side=7), "the images have 8 x 8 pixels; pass side=8 or more"),
    *[(lambda c=c: data.pairs(X, Y, c), "classes is .*; pass two different classes") for c in ((1, 1), 3, (1, 2, 0))],
    (lambda: data.pairs(X, Y, (0, 5)), r"classes is \(0, 5\), but not both are among the labels"),
    (
        lambda: experiments.trained(dataset="digits", seed=10**6),
        "no net of digits, none, seed 1000000 is there; pass preset='smoke'",
    ),
    (lambda: command_line.main([*RUN, "-1"]), "--seed is -1; it must be at least 0"),
    (lambda: command_line.main([*RUN, "0", "--device", "cdua"]), "device is 'cdua', which cannot be used here"),
    (lambda: command_line.main(["canary", "tabel"]), "kind is 'tabel'.*Did you mean 'table'"),
    *[
        (lambda f=f: f({"dataset": "digits"}), "pass a dict with the key 'kind'")
        for f in (run, experiments.ensure, lambda spec: loaded([spec]), lambda spec: experiments.run_all([spec]))
    ],
    (lambda: run("table"), "the spec is 'table'; pass a dict"),
    (lambda: run({**SPEC, "kind": "tables"}), "'tables'.*Did you mean 'table'"),
    (lambda: run({"kind": "table", "dataset": "digits", "attack": "targeted"}), "lacks defense, eps, seed, preset"),
    *[(lambda d=d: run({**SPEC, "preset": "smoke"}, device=d), f"device is {d!r}, which") for d in ("cdua", "cuda:99")],
    (lambda: ATEX(alpha=0.0, fidelity=0.0), "alpha, fidelity and label_weight are all 0; at least one must be above"),
    *[
        (lambda f=f: f(X, X[:2], radius=0.1), r"phi has shape \(2, 1, 8, 8\) but x has")
        for f in (defend.along, defend.orthogonal, functools.partial(defend.orthogonal_ascent, scores))
    ],
    (lambda: BEGIN(recompute="perhaps"), "recompute is 'perhaps'; pass True or False"),
    *[(lambda f=f: f(model=frozen()), "every weight of the model is frozen") for f in TRAINERS.values()],
    *[
        (lambda given=given: FOOL(**given), rf"classes is {regex} with the loss '{given['loss']}'; pass two different")
        for given, regex in [
            ({"loss": "active"}, "None"),
            ({"loss": "active", "classes": (1, 1)}, r"\(1, 1\)"),
            ({"loss": "active", "classes": ([1], [1])}, r"\(\[1\], \[1\]\)"),
            ({"loss": "topk", "classes": (1, 2)}, r"\(1, 2\)"),
        ]
    ],
    (lambda: FOOL(loss="active", classes=(0, 1.5)), r"a class is 1\.5; pass a whole number"),
    (lambda: SLIDES({}), "there are 0 controls; pass one or two"),
    (lambda: SLIDES({name: [1, 2] for name in "abc"}), "there are 3 controls; pass one or two"),
    (lambda: SLIDES({"beta": [1]}), "the control 'beta' has 1 values; pass two or more"),
    (lambda: SLIDES({"beta": [1, 2]}, start={"beta": 3}), r"start is 3 for 'beta'; pass one of \[1, 2\]"),
    (lambda: SLIDES({"beta": [1, 2]}, start={"bta": 1}), "'bta'.*Did you mean 'beta'"),
    *[
        (lambda n=n: show.gallery([show.Column("maps", X[:length]) for length in n]),
         f"the columns hold {re.escape(str(n))} pictures; pass columns of one length, at least one")
        for n in ([], [0], [3, 2])
    ],
]  # fmt: skip


class Deaf(Returns):
    """A net with a convolution that is called for nothing."""

    def __init__(self):
        super().__init__(lambda logits: logits)
        self.unheard = nn.Conv2d(1, 1, 3).double()

    def forward(self, x):
        self.unheard(x)
        return self.net(x)


class Constant(nn.Module):
    """A net whose logits are the same for all images."""

    def forward(self, x):
        return torch.zeros(len(x), 2)


class Attentive(nn.Module):
    """A net whose images attend to themselves, row by row."""

    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(64, 2)

    def forward(self, x):
        rows = torch.flatten(x, 1, 2)
        return self.head(torch.flatten(self.attention(rows, rows, rows)[0], 1))


class Keeping(nn.Module):
    """A net that keeps its logits, with their graph."""

    def __init__(self):
        super().__init__()
        self.features = curved()(X)


@dataclasses.dataclass
class Scores:
    """An objective that scores with a given function."""

    score: Callable

    def __call__(self, _):
        return self.score


LATE_BY_HAND = [
    (lambda: ATEX(maps=X[:2]), r"maps has shape \(2, 1, 8, 8\) but images has"),
    *[
        (lambda f=f: f(data=(2 * X, Y)), r"images ranges over .*outside \(0(\.0)?, 1(\.0)?\)") for f in (NAIVE, HARDEN)
    ],
    (lambda: HARDEN(count=2, refresh=True), "count is 2 with refresh=True.*drop one"),
    *[
        (lambda e=e: explain.heatmap(NET, X, Y, explainer=e, layer="fc1"), r"layer 'fc1' gives .*no map.*name a conv")
        for e in ("lrp", "gradient", "grad_cam")
    ],
    (lambda: explain.lrp(NET, X, layer="conv11"), "layer is 'conv11'.*Did you mean 'conv1'"),
    *[
        (lambda f=f: f(NET, X, layer=nn.Identity()), "layer is a Identity that is no part of the model")
        for f in (explain.gradient, explain.grad_cam)
    ],
    *[
        (lambda f=f: f(Deaf(), X, layer="unheard"), "the logits do not depend on what the map shows; name a layer")
        for f in (explain.gradient, explain.grad_cam)
    ],
    (lambda: explain.gradient(Constant(), X), "the logits do not depend on what the map shows"),
    (lambda: explain.lrp(Attentive().double(), X), "no rule for attention .*takes more than x"),
    (lambda: FOOL(explainer="smoothgrad", layer="conv1"), "smoothgrad reads no layer"),
    (lambda: FOOL(fool_set=(X[..., :6], Y)), r"an image of the fool set has shape \(1, 8, 6\) but one of the images"),
    (lambda: AUDIT(model=Returns(lambda logits: logits[:, :1])), "the model returned one logit an image"),
    (lambda: AUDIT(images=2 * X - 1), "put the preprocessing inside the net"),
    (lambda: nets.with_softplus(Keeping(), 10), "cannot be copied .*keep no tensors on the module"),
    *[
        (lambda s=s: MANIPULATE(objective=Scores(s)), r"objective Scores\(.*\) must score one number an image, shape")
        for s in (torch.sum, lambda found: found.sum().item(), torch.abs)
    ],
    (lambda: MANIPULATE(objective=Scores(5)), r"objective Scores\(.*\) returned 5; it must return a function"),
    (lambda: MANIPULATE(objective=attack.Untargeted(65)), "k is 65; .*at most 64"),
    *[
        (lambda m=m: MANIPULATE(objective=attack.Targeted(m)),
         rf"mask has shape {re.escape(str(tuple(m.shape)))}, which does not fit maps of \(3, 1, 8, 8\)")
        for m in (torch.ones(3, 1, 8, 7), torch.ones(2, 1, 8, 8))
    ],
    (
        lambda: MANIPULATE(objective=attack.TargetMap(X[:, :, 1:])),
        r"map has shape \(3, 1, 7, 8\), which does not fit maps of \(3, 1, 8, 8\)",
    ),
    (lambda: FIT(epochs=3, lr=1e200), r"the loss of epoch \d is .*; lower lr \(now 1e\+200\)"),
    (lambda: FOOL(steps=3, lr=1e200), r"the loss of step \d is not finite; lower lr \(now 1e\+200\)"),
]  # fmt: skip


def numbered(cases):
    return [(str(number), *case) for number, case in enumerate(cases)]


@parametrize(numbered(LATE_BY_HAND))
def test_a_call_that_does_not_fit_the_net_raises(call, regex):
    refused(call, regex)


@parametrize(numbered(BY_HAND))
def test_a_bad_call_raises_before_any_work_is_done(monkeypatch, call, regex):
    fail_at_work(monkeypatch)
    refused(call, regex)


@pytest.mark.parametrize("cut", [None, 0, 5, 100, -10])
def test_a_net_that_is_missing_or_truncated_raises(tmp_path, cut):
    path = tmp_path / "net.safetensors"
    if cut is not None:
        save_file(nets.ConvNet().state_dict(), path)
        results.load_net(path, nets.ConvNet())
        path.write_bytes(path.read_bytes()[:cut])
    reason = "No such file" if cut is None else "deserializing header"
    told = rf"{path} holds no ConvNet that can be read \(.*{reason}.*\); restore it"
    refused(lambda: results.load_net(path, nets.ConvNet()), told)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nets.ConvNet(width=2), "size mismatch"),
        (nets.ConvNet(classes=4), "size mismatch"),
        (nn.Linear(3, 2), "Missing key"),
        (nn.Sequential(nets.ConvNet()), "Unexpected key"),
    ],
)
def test_a_file_with_other_weights_raises(tmp_path, model, reason):
    path = tmp_path / "net.safetensors"
    save_file(model.state_dict(), path)
    told = rf"(?s){path} holds no ConvNet that can be read \(.*{reason}.*\); restore it"
    refused(lambda: results.load_net(path, nets.ConvNet()), told)


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("a.safetensors", lambda _: None, "No such file"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "deserializing header"),
        ("a.safetensors", lambda path: path.write_bytes(b"no net at all"), "deserializing header"),
        ("a.safetensors", lambda path: save_file(WEIGHTS, path), "TypeError"),
        ("a.safetensors", lambda path: save_file(WEIGHTS, path, {"seed": "0"}), "KeyError.*result"),
        ("a.safetensors", lambda path: save_file(WEIGHTS, path, {"result": "{"}), "JSONDecodeError"),
        ("a.safetensors", lambda path: save_file(WEIGHTS, path, {"result": '{"spec": {}}'}), "its keys are"),
        ("a.json", lambda _: None, "No such file"),
        ("a.json", lambda path: path.write_text(""), "JSONDecodeError"),
        ("a.json", lambda path: path.write_text('{"spec": {}, "metrics"'), "JSONDecodeError"),
        ("a.json", lambda path: path.write_bytes(b"\xff\xfe"), "UnicodeDecodeError"),
        ("a.json", lambda path: path.write_text('{"spec": {}, "metrics": {}}'), "its keys are"),
    ],
)
def test_a_file_without_a_result_raises(tmp_path, name, write, reason):
    path = tmp_path / name
    write(path)
    refused(lambda: results.read(path), rf"{path} is no result \(.*{reason}.*\); delete it, and the same run makes it")


@pytest.mark.parametrize("of", [(np.float32, np.int64), (np.float64, np.int32)], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda a, n: MANIPULATE(eps=a, steps=n, starts=n).x,
        lambda a, n: MANIPULATE(eps=a, steps=n, norm="l2", batch_size=n).x,
        lambda a, n: AVERAGE(radius=a, samples=n).value,
        lambda a, n: MAX_MIN(eps=a, steps=n).value,
        lambda a, n: MIN_MAX(eps=a, steps=n, rounds=n).value,
        lambda a, n: nets.predict(NET, a * X, batch_size=n),
        lambda a, n: defend.smooth_maps(NET, X, sigma=a, samples=n, batch_size=n),
        lambda a, n: torch.cat(
            [w.flatten() for w in NAIVE(eps=a, lr=a, epochs=n, batch_size=n, samples=n).model.parameters()]
        ),
        lambda a, n: explain.smoothgrad(NET, X, n, sigma=a, samples=n),
        lambda a, n: explain.integrated_gradients(NET, X, n, steps=n),
    ],
)
def test_numbers_of_numpy_are_numbers(call, of):
    real, whole = of
    expected = call(float(real(0.1)), 2)
    assert expected.any()
    torch.testing.assert_close(call(real(0.1), whole(2)), expected)
