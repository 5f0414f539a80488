"""Every bad call, in one table: each raises ValueError with a message that names the value and says what to do.

A case is (id, call, regex); a call takes a net. Those in EARLY must raise before the net has run even once.
"""

import functools
import math
import re

import pytest
import torch
from conftest import seeded
from torch import nn

from atexlib import __main__ as command_line
from atexlib import (
    chapters,
    data,
    experiments,
    explainers,
    intervals,
    metrics,
    models,
    objectives,
    plotting,
    stability,
    training,
)
from atexlib.input_manipulation import manipulate

X = torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64)
Y = torch.tensor([0, 1, 2])
IMAGES = data.ImageSet(X, Y, "three")


def attack(net, x=X, objective=None, **options):
    manipulate(net, x, objective or objectives.Distance(), **{"eps": 0.1, "steps": 1, **options})


def average(net, x=X, **options):
    stability.average_case(net, x, **{"radius": 0.1, "samples": 1, **options})


def worst(function, net, x=X, **options):
    function(net, x, **{"eps": 0.1, "steps": 1, **options})


def fit(net, images=X, labels=Y, **options):
    training.fit(net, images, labels, **{"epochs": 1, **options})


def begin(_, **options):
    chapters.begin(**{"preset": "smoke", "dataset": "digits", "device": "cpu", "seed": 0, **options})


def trained(_, **options):
    experiments.trained(**{"dataset": "digits", "preset": "smoke", **options})


max_min, min_max = (functools.partial(worst, function) for function in (stability.max_min, stability.min_max))
ATTACKS = {"manipulate": attack, "average_case": average, "max_min": max_min, "min_max": min_max}
METRICS = (metrics.spearman, metrics.topk_intersection, metrics.ssim)

BATCHES = {  # what takes a batch: the name in the message, and the call
    **{name: ("x", explainer) for name, explainer in explainers.EXPLAINERS.items()},
    **{name: ("x", function) for name, function in ATTACKS.items()},
    **{f"{m.__name__} a": ("a", lambda _, x, m=m: m(x, X)) for m in METRICS},
    **{f"{m.__name__} b": ("b", lambda _, x, m=m: m(X, x)) for m in METRICS},
    "fit": ("images", fit),
    "fit validation": ("validation images", lambda net, x: fit(net, validation=(x, Y))),
    "accuracy": ("images", lambda net, x: training.accuracy(net, x, Y)),
    "random_region": ("x", lambda _, x: objectives.Targeted.random_region(x, 3)),
    "TargetMap": ("map", lambda _, x: objectives.TargetMap(x)),
}
BAD_BATCHES = {
    "one image": (X[0], r"has shape \(1, 8, 8\); pass \(B, C, H, W\), one image as x\.unsqueeze\(0\)"),
    "five axes": (X[None], r"has shape \(1, 3, 1, 8, 8\); pass \(B, C, H, W\)"),
    "bytes": ((255 * X).byte(), r"has dtype torch\.uint8; pass floats, for example images\.float\(\) / 255"),
    "nan": (X.clone().index_fill_(0, torch.tensor(1), math.nan), "holds nan or infinite values; remove or replace"),
    "inf": (X.clone().index_fill_(0, torch.tensor(1), math.inf), "holds nan or infinite values; remove or replace"),
    "empty": (X[:0], r"has shape \(0, 1, 8, 8\), which is empty; pass at least one image"),
    "array": (X.numpy(), "is a ndarray; pass a torch tensor"),
}

NUMBERS = {  # what takes a number: the name in the message, further bad values, and the call
    "manipulate eps": ("eps", [], lambda net, v: attack(net, eps=v)),
    "manipulate step_size": ("step_size", [0], lambda net, v: attack(net, step_size=v)),
    "tolerance": ("prediction_tolerance", [1.5], lambda net, v: attack(net, prediction_tolerance=v)),
    "average_case radius": ("radius", [], lambda net, v: average(net, radius=v)),
    "max_min eps": ("eps", [], lambda net, v: max_min(net, eps=v)),
    "min_max eps": ("eps", [], lambda net, v: min_max(net, eps=v)),
    "smoothgrad sigma": ("sigma", [], lambda net, v: explainers.smoothgrad(net, X, sigma=v)),
    "ssim data_range": ("data_range", [0], lambda _, v: metrics.ssim(X, X, data_range=v)),
    "fit lr": ("lr", [0], lambda net, v: fit(net, lr=v)),
    "fit weight_decay": ("weight_decay", [], lambda net, v: fit(net, weight_decay=v)),
    "ConvNet beta": ("beta", [0], lambda _, v: models.ConvNet(beta=v)),
    "with_softplus beta": ("beta", [0], lambda net, v: models.with_softplus(net, v)),
    "bootstrap level": ("level", [0, 1.5], lambda _, v: intervals.bootstrap(X.flatten(), level=v)),
}
BAD_NUMBERS = (-0.1, math.nan, math.inf, True, "0.1")

COUNTS = {  # what takes a whole number: the name in the message, further bad values, and the call
    "manipulate steps": ("steps", [0], lambda net, v: attack(net, steps=v)),
    "manipulate starts": ("starts", [0], lambda net, v: attack(net, starts=v)),
    "average_case samples": ("samples", [0], lambda net, v: average(net, samples=v)),
    "max_min steps": ("steps", [0], lambda net, v: max_min(net, steps=v)),
    "max_min starts": ("starts", [0], lambda net, v: max_min(net, starts=v)),
    "min_max steps": ("steps", [0], lambda net, v: min_max(net, steps=v)),
    "min_max rounds": ("rounds", [0], lambda net, v: min_max(net, rounds=v)),
    "smoothgrad samples": ("samples", [0], lambda net, v: explainers.smoothgrad(net, X, samples=v)),
    "smoothgrad chunk": ("chunk", [0], lambda net, v: explainers.smoothgrad(net, X, chunk=v)),
    "integrated_gradients steps": ("steps", [0], lambda net, v: explainers.integrated_gradients(net, X, steps=v)),
    "integrated_gradients chunk": ("chunk", [0], lambda net, v: explainers.integrated_gradients(net, X, chunk=v)),
    "Untargeted k": ("k", [0], lambda _, v: objectives.Untargeted(k=v)),
    "random_region size": ("size", [0, 9], lambda _, v: objectives.Targeted.random_region(X, v)),
    "topk_intersection k": ("k", [0, 65], lambda _, v: metrics.topk_intersection(X, X, v)),
    "bootstrap resamples": ("resamples", [0], lambda _, v: intervals.bootstrap(X.flatten(), resamples=v)),
    "fit epochs": ("epochs", [0], lambda net, v: fit(net, epochs=v)),
    "fit batch_size": ("batch_size", [0], lambda net, v: fit(net, batch_size=v)),
    "ImageSet.first": ("count", [0, 4], lambda _, v: IMAGES.first(v)),
    "load_folder size": ("size", [0], lambda _, v: data.load_folder("nowhere", size=v)),
    "load_folder per_class": ("per_class", [0], lambda _, v: data.load_folder("nowhere", size=4, per_class=v)),
    "trained seed": ("seed", [], lambda net, v: trained(net, seed=v)),
    "begin seed": ("seed", [], lambda net, v: begin(net, seed=v)),
    "ConvNet side": ("side", [3], lambda _, v: models.ConvNet(side=v)),
    **{
        f"ConvNet {name}": (name, [0], lambda _, v, name=name: models.ConvNet(**{name: v}))
        for name in ("channels", "classes", "width", "hidden")
    },
}
BAD_COUNTS = (-1, 2.5, True, "3")

WORDS = [  # what takes a name: id, the call, the wrong name, the one that was meant
    ("load name", lambda _, v: data.load(v, "test"), "fashion-mnits", "fashion-mnist"),
    ("load split", lambda _, v: data.load("digits", v), "tset", "test"),
    ("manipulate norm", lambda net, v: attack(net, norm=v), "l-inf", "linf"),
    ("manipulate explainer", lambda net, v: attack(net, explainer=v), "smoothgrd", "smoothgrad"),
    ("max_min norm", lambda net, v: max_min(net, norm=v), "L2", "l2"),
    ("min_max norm", lambda net, v: min_max(net, norm=v), "Linf", "linf"),
    ("normalize by", lambda _, v: explainers.normalize(X, by=v), "maximum", "max"),
    ("grad_cam layer", lambda net, v: explainers.grad_cam(net, X, layer=v), "cnov1", "conv1"),
    ("trained dataset", lambda net, v: trained(net, dataset=v), "fashion_mnist", "fashion-mnist"),
    ("trained defense", lambda net, v: trained(net, defense=v), "None", "none"),
    ("trained preset", lambda net, v: trained(net, preset=v), "smok", "smoke"),
    ("begin preset", lambda net, v: begin(net, preset=v), "papers", "paper"),
    ("begin dataset", lambda net, v: begin(net, dataset=v), "digit", "digits"),
    ("begin device", lambda net, v: begin(net, device=v), "cdua", "cuda"),
    ("show kind", lambda _, v: plotting.show(None, X[0], v), "sgined", "signed"),
]

BOUNDS = {
    "reversed": ((1, 0), r"is \(1, 0\); the first number must be the smaller"),
    "equal": ((0, 0), r"is \(0, 0\); the first number must be the smaller"),
    "nan": ((0, math.nan), "is nan; pass a finite number"),
    "three": ((0, 1, 2), r"is \(0, 1, 2\); pass a pair"),
    "one": (1.0, r"is 1\.0; pass a pair"),
}

BAD_LABELS = {
    "float": (Y.double(), r"is torch\.float64; pass a tensor of whole numbers"),
    "bool": (Y > 0, r"is torch\.bool; pass a tensor of whole numbers"),
    "short": (Y[:2], r"has shape \(2,\); pass one label an image, shape \(3,\)"),
    "column": (Y[:, None], r"has shape \(3, 1\); pass one label an image"),
    "negative": (Y - 1, "holds -1; labels run from 0"),
}
LABELS = {
    "fit": ("labels", lambda net, y: fit(net, labels=y)),
    "fit validation": ("validation labels", lambda net, y: fit(net, validation=(X, y))),
    "accuracy": ("labels", lambda net, y: training.accuracy(net, X, y)),
}


class Branching(nn.Module):
    def forward(self, x):
        return x.relu() if x.sum() > 0 else x


def numbers(table, values, rule):
    """One case for each parameter and bad value: the message repeats the value and gives the rule."""
    return [
        (
            f"{case} {value!r}",
            lambda net, call=call, value=value: call(net, value),
            f"{name} is {re.escape(repr(value))}; {rule}",
        )
        for case, (name, more, call) in table.items()
        for value in (*values, *more)
    ]


def pairs(table, bad):
    return [
        (f"{case} {kind}", lambda net, call=call, value=value: call(net, value), f"^{name} {regex}")
        for case, (name, call) in table.items()
        for kind, (value, regex) in bad.items()
    ]


EARLY = [
    *pairs(BATCHES, BAD_BATCHES),
    *pairs(LABELS, BAD_LABELS),
    *pairs({name: ("bounds", lambda net, v, f=f: f(net, bounds=v)) for name, f in ATTACKS.items()}, BOUNDS),
    *numbers(NUMBERS, BAD_NUMBERS, "(pass a finite number|it must be (above|at least) 0)"),
    *numbers(COUNTS, BAD_COUNTS, "(pass a whole number|it must be at least [0-9])"),
    *[
        (name, lambda net, call=call, word=word: call(net, word), f"is '{word}'.*Did you mean '{near}'.*Choose one of")
        for name, call, word, near in WORDS
    ],
    *[
        (f"{name} pixels up to 255", lambda net, f=f: f(net, 255 * X), r"x ranges over \[.*2[0-9]{2}.*\].*rescale it")
        for name, f in ATTACKS.items()
    ],
    (
        "a name near to none",
        lambda _: data.load("imagenet", "test"),
        "'imagenet'.*unknown. Choose one of: fashion-mnist",
    ),
    ("explainer by name", lambda net: attack(net, explainer="lime"), "'lime'.*Choose one of: gradient"),
    ("explainer's right name", lambda net: attack(net, explainer="gradient"), "pass the function, explainers.gradient"),
    (
        "integrated_gradients baseline",
        lambda net: explainers.integrated_gradients(net, X, baseline=math.nan),
        "baseline holds nan or infinite values; pass a finite",
    ),
    ("grad_cam without convolution", lambda _: explainers.grad_cam(nn.Flatten(), X), "Flatten has no nn.Conv2d; name"),
    ("mask of one image", lambda _: objectives.Targeted(X[0] > 0.5), r"mask has shape \(1, 8, 8\); pass \(B"),
    ("mask beyond 1", lambda _: objectives.Targeted(2 + X), r"mask ranges over \[2.*outside \(0, 1\); rescale"),
    ("mask no tensor", lambda _: objectives.Targeted([[1]]), "mask is a list; pass a torch tensor"),
    *[
        (
            f"{m.__name__} shapes",
            lambda _, m=m: m(X, X[:, :, 1:]),
            r"a has shape \(3, 1, 8, 8\) but b.*7, 8\); they must",
        )
        for m in METRICS
    ],
    (
        "ssim of small maps",
        lambda _: metrics.ssim(X[..., :6], X[..., :6]),
        r"\(8, 6\) pixels; SSIM needs at least 7 x 7",
    ),
    (
        "bootstrap of one value",
        lambda _: intervals.bootstrap(X[0, 0, 0, :1]),
        r"shape \(1,\); pass at least two numbers",
    ),
    ("bootstrap of a matrix", lambda _: intervals.bootstrap(X[0, 0]), r"shape \(8, 8\); pass at least two numbers"),
    (
        "bootstrap of nan",
        lambda _: intervals.bootstrap(torch.tensor([0.0, math.nan])),
        "values holds nan or infinite numbers; drop those images",
    ),
    (
        "with_softplus untraceable",
        lambda _: models.with_softplus(Branching(), 9),
        "Branching cannot be.*as nn.ReLU modules",
    ),
    (
        "load_folder of no folder",
        lambda _: data.load_folder("nowhere", size=4),
        "nowhere is not a folder; pass one that",
    ),
    ("train dataset", lambda _: experiments.train(dataset="mnits", seed=0, preset="smoke"), "'mnits'.*mean 'mnist'"),
    (
        "trained without a committed net",
        lambda net: trained(net, preset=None, seed=10**6),
        "no net of digits, none, seed 1000000 is committed; pass preset='quick'",
    ),
    (
        "command line seed",
        lambda _: command_line.main(["run", "--dataset", "digits", "--preset", "smoke", "--seed", "-1"]),
        "--seed is -1; it must be at least 0",
    ),
]


class Returns(nn.Module):
    """A net with a convolution whose answer is what `of` makes of the logits."""

    def __init__(self, net, of):
        super().__init__()
        self.net, self.of = net, of

    def forward(self, x):
        return self.of(self.net(x))


def explain(name, target):
    return lambda net: explainers.EXPLAINERS[name](net, X, target)


LATE = [
    *[
        (f"{name} {case}", explain(name, target), f"target {regex}")
        for name in explainers.EXPLAINERS
        for case, target, regex in [
            ("target too large", 4, "is 4; it must be at least 0 and at most 3"),
            ("target negative", -1, "is -1; it must be at least 0 and at most 3"),
            ("target bool", True, "is True; pass a whole number"),
            ("target 1.0", 1.0, r"is 1\.0; pass a whole number"),
            ("target list", [0, 1, 2], r"is \[0, 1, 2\]; pass a whole number"),
            ("targets too large", Y + 2, "holds 4; labels run from 0 to 3"),
            ("targets negative", Y - 1, "holds -1; labels run from 0 to 3"),
            ("targets float", Y.float(), r"is torch\.float32; pass a tensor of whole numbers"),
        ]
    ],
    *[
        (f"{name} too few targets", explain(name, Y[:2]), r"target has shape \(2,\); pass one.*shape \(3,\)")
        for name in ("gradient", "gradient_x_input", "grad_cam")
    ],
    *[
        (
            f"{name} of a model that returns {case}",
            lambda net, f=f, of=of: f(Returns(net, of), X),
            f"the model returned {regex} for 3 images; it must return logits",
        )
        for name, f in explainers.EXPLAINERS.items()
        for case, of, regex in [
            ("(B,)", lambda logits: logits[:, 0], r"\(3,\)"),
            ("(C,)", lambda logits: logits.mean(0, keepdim=True), r"\(1, 4\)"),
            ("a tuple", lambda logits: (logits,), "tuple"),
        ]
    ],
    (
        "grad_cam of a flat layer",
        lambda net: explainers.grad_cam(net, X, layer="fc1"),
        "layer 'fc1' gives no map.*name a",
    ),
    (
        "grad_cam of a foreign layer",
        lambda net: explainers.grad_cam(net, X, layer=nn.Identity()),
        "Identity.*no map.*name",
    ),
    ("k beyond the map", lambda net: attack(net, objective=objectives.Untargeted(65)), "k is 65; .*at most 64"),
    (
        "a mask that does not fit",
        lambda net: attack(net, objective=objectives.Targeted(torch.ones(3, 1, 8, 7))),
        r"mask has shape \(3, 1, 8, 7\), which does not fit maps of \(3, 1, 8, 8\)",
    ),
    (
        "a mask for other images",
        lambda net: attack(net, objective=objectives.Targeted(torch.ones(2, 1, 8, 8))),
        r"mask has shape \(2, 1, 8, 8\), which does not fit maps of \(3, 1, 8, 8\)",
    ),
    (
        "a target map that does not fit",
        lambda net: attack(net, objective=objectives.TargetMap(X[:, :, 1:])),
        r"map has shape \(3, 1, 7, 8\), which does not fit maps of \(3, 1, 8, 8\)",
    ),
    ("fit diverges", lambda net: fit(net, epochs=3, lr=1e200), r"the loss of epoch \d is .*; lower lr \(now 1e\+200\)"),
]


def parametrize(cases):
    return pytest.mark.parametrize(("call", "regex"), [pytest.param(call, regex, id=i) for i, call, regex in cases])


def refused(call, regex):
    with pytest.raises(ValueError, match=regex) as error:
        call()
    assert type(error.value) is ValueError


@parametrize(LATE)
def test_a_call_that_does_not_fit_the_net_raises(net, call, regex):
    refused(lambda: call(net), regex)


@parametrize(EARLY)
def test_a_bad_call_raises_before_any_work_is_done(net, monkeypatch, call, regex):
    def fail(*_, **__):
        pytest.fail("work was done before the arguments were checked")

    monkeypatch.setattr(models.ConvNet, "forward", fail)
    for module, name in [(data, "_idx"), (data, "_digits"), (experiments, "load_net")]:
        monkeypatch.setattr(module, name, fail)
    refused(lambda: call(net), regex)


@pytest.mark.parametrize("cut", [None, 0, 5, 100, -10])
def test_a_net_that_is_missing_or_truncated_raises(tmp_path, cut):
    path = tmp_path / "net.safetensors"
    if cut is not None:
        experiments.save_net(models.ConvNet(width=1, hidden=1), path, {})
        path.write_bytes(path.read_bytes()[:cut])
    refused(lambda: experiments.load_net(path), rf"{path} cannot be read.*; restore it from the repository")
