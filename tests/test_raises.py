"""Every bad call raises a ValueError that names the value and says what to do about it.

CALLS holds one valid call of each public function. What may be wrong with a parameter follows from its annotation and
its name: each kind of parameter has a list of bad values. What is bad for one function alone stands below.
"""

import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.datasets
import torch
from conftest import curved, seeded
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from atexlib import attack, chapters, data, defend, detect, experiments, explain, judge, maps, nets, show
from atexlib.attack import ascent, fooling_losses
from atexlib.data import sets
from atexlib.experiments.engine import results
from atexlib.judge import stability

NET = curved()
X = torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64)
Y = torch.tensor([0, 1, 2])
IMAGES = data.ImageSet(X, Y, "three")
SCENE = detect.Scene(NET, explain.gradient, known=X, clean=X, steps=1)
SPEC = {"kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "eps": 0.1, "seed": 0}
RUN = ["run", "undefended", "--dataset", "digits", "--preset", "smoke", "--seed"]
CALLS: dict[str, tuple[Callable, dict]] = {}


def add(*functions, **valid):
    CALLS.update({function.__name__: (function, valid) for function in functions})


def scores(z):
    return z.sum((1, 2, 3))


ONE, EXAMPLES = {"model": NET, "x": X}, {"model": NET, "data": (X, Y)}
SMALL = {"dataset": "digits", "preset": "smoke"}
add(*explain.EXPLAINERS.values(), judge.blurred_gradient, **ONE)
add(explain.heatmap, explain.is_dead, **ONE, target=Y)
add(explain.one_channel, **ONE, target=Y, explainer="lrp")
add(explain.scaled, maps=X, explainer="lrp")
add(explain.find, explain.traits, chosen="lrp")
add(attack.manipulate, **ONE, objective=attack.Distance(), eps=0.1, steps=1)
add(attack.fool, **EXAMPLES, explainer="gradient", steps=1)
add(attack.success, model=NET, fooled=NET, images=X, labels=Y, loss="topk", explainer="gradient")
add(attack.shown_maps, **ONE, labels=Y, explainer="gradient")
add(attack.fairwash, **EXAMPLES, target=torch.eye(8), epochs=1)
add(attack.backdoor, **EXAMPLES, target=torch.eye(8), trigger=attack.Trigger(torch.ones(1, 2, 2), 0, 0), epochs=1)
add(attack.Decorated, net=NET, style="blur")
add(attack.judged, before=X, after=X, loss="topk")
add(fooling_losses.measured_loss, loss="center_mass", h=X, original=X)
add(attack.loss_gradient, **ONE, labels=Y)
add(attack.fgsm, **ONE, labels=Y, eps=0.1)
add(attack.pgd, **ONE, labels=Y, eps=0.1, steps=1)
add(attack.Untargeted, k=5)
add(attack.Targeted.random_region, x=X, size=3)
add(attack.TargetMap, map=X)
add(ascent.ascend, model=NET, target=Y, score=scores, ball=attack.Ball(X, 0.1, "linf", (0, 1)),
    explainer=explain.gradient, steps=1)  # fmt: skip
add(defend.naive, defend.atex, defend.adversarial_training, **EXAMPLES, eps=0.1, epochs=1)
add(defend.steady, **EXAMPLES, eps=0.1, epochs=1, plain_epochs=1)
add(defend.anew, defend.averaged, **EXAMPLES, epochs=1)
add(*(chosen.train for chosen in defend.DEFENSES.values() if chosen.loss), **EXAMPLES, epochs=1)
add(defend.smoothing, **EXAMPLES, epochs=1, beta=3.0)
add(defend.smooth, model=NET, beta=3.0)
add(defend.along, defend.orthogonal, x=X, phi=X, radius=0.1)
add(defend.orthogonal_ascent, loss=scores, x=X, phi=X, radius=0.1)
add(defend.smooth_maps, model=NET, images=X)
add(judge.average_case, **ONE, radius=0.1, samples=1)
add(judge.max_min, judge.min_max, **ONE, eps=0.1, steps=1)
add(judge.deletion, judge.insertion, **ONE, maps=X, steps=4)
add(judge.audit, model=NET, images=X, labels=Y)
add(judge.judge, model=NET, images=X, labels=Y, suite="smoke")
add(judge.suspicion, model=NET, images=X)
add(judge.made_by, where="mine.py:make_net")
add(judge.load_judgement, path="card.json")
add(attack.random_search, **ONE, objective=attack.Distance(), eps=0.1, queries=1)
add(attack.universal, **ONE, objective=attack.Distance(), eps=0.1, steps=1)
add(attack.blunt_guide, model=NET)
add(detect.alarm, name="blur", scene=SCENE)
add(detect.evade, scene=SCENE, x=X, objective=attack.Distance(), detectors=["blur"], eps=0.1, steps=1)
add(detect.press_on, scene=SCENE, x=X, objective=attack.Distance(), detectors=["blur"], start=X, eps=0.1, steps=1)
add(detect.jpeg, x=X)
add(judge.load_card, path="nowhere.json")
add(maps.spearman, maps.kendall, maps.ssim, a=X, b=X)
add(maps.topk_intersection, maps.lens_topk, a=X, b=X, k=5)
add(maps.normalize, maps.center_of_mass, maps.total_variation, maps=X)
add(maps.mass_on, maps=X, mask=X)
add(maps.bootstrap, values=X.flatten())
add(maps.two_level, values=X[:, 0, 0])
add(maps.auc, maps.roc, positive=X.flatten(), negative=X.flatten())
add(maps.threshold, negative=X.flatten())
add(maps.wilson, hits=1, count=3)
add(nets.fit, **EXAMPLES, epochs=1)
add(nets.ConvNet)
add(nets.with_beta, nets.with_softplus, model=NET, beta=10)
add(nets.with_pooling, model=NET, pooling="average")
add(nets.Centred, model=NET)
add(nets.SmoothMaxPool2d, kernel_size=2, beta=1.0)
add(nets.small, name="vgg19")
add(nets.efficientnet_lite0)
add(nets.accuracy, model=NET, images=X, labels=Y)
add(nets.predict, model=NET, images=X)
add(nets.logits_of, **ONE)
add(nets.plain, model=NET)
add(explain.reading, **ONE)
add(data.load, name="digits", split="test")
add(data.load_folder, path="nowhere", size=4, per_class=4)
add(IMAGES.first, count=1)
add(data.padded, data.singles, images=X)
add(data.pairs, images=X, labels=Y, classes=(0, 1))
add(data.photographs, names=["chelsea"])
add(show.show, ax=None, picture=X[0], kind="signed")
add(experiments.trained, **SMALL)
add(chapters.begin, chapters.challenge, **SMALL, device="cpu", seed=0)
add(chapters.begin_real, preset="smoke", device="cpu", seed=0)
add(chapters.deal, hand={"one": nets.ConvNet(width=2, hidden=4)}, seed=0)
add(chapters.exam, folder="nowhere", **SMALL, device="cpu", seed=0)
add(chapters.nets_of, chapters.sit, folder="nowhere")
add(judge.read_entry, judge.check_entry, folder="nowhere")
add(chapters.grade, sheet="nowhere/sheet.csv")
FREE = {  # what trusts its caller, or has nothing to check
    "Alarm", "apart", "area", "Audit", "available", "Ball", "CenterMass", "Column", "Dataset", "dataset", "Defense",
    "defense", "described", "Detector", "detector", "Distance", "distillation", "Effort", "ensure", "Entry",
    "evaluating",
    "explainer", "Fitted", "Fooled", "foot", "Frames", "frames", "frozen", "gallery", "grid", "ImageSet",
    "Interval", "Judgement", "Kind", "kind", "known_pair", "likeness", "Look", "Manipulation", "margin", "members_of",
    "objective", "of_class", "of_rows", "Photograph", "Place", "Preset", "RankDistance", "ranks", "Reading",
    "remove_component", "run_all", "run_or_load", "save_card", "Scene", "Slopes", "slopes", "smooth_guide",
    "SoftplusReLU6", "spared", "Stability", "statistics", "status", "style", "Subject", "Targeted", "topk_mask",
    "Traits", "Trigger", "Verdict", "verdicts", "webp",
}  # fmt: skip
NAN = ("nan", "inf")
UNCHECKED = {  # parameters that are handed on, free text, or checked by cases of their own below
    ("r2et", "k"), ("scaled", "maps"), ("load_folder", "path"), ("measured_loss", "h"), ("measured_loss", "original"),
    ("mass_on", "mask"), ("two_level", "values"), ("bootstrap", "values"), ("show", "limit"), ("show", "picture"),
    ("show", "over"), ("begin_real", "folder"), ("load_card", "path"), ("load_judgement", "path"), ("made_by", "where"),
    ("judge", "name"), ("manipulate", "where"), ("read_entry", "folder"), ("check_entry", "folder"),
    ("exam", "folder"), ("nets_of", "folder"), ("sit", "folder"), ("grade", "sheet"),
    *[(name, side) for name in ("auc", "roc", "threshold") for side in ("positive", "negative")],
    ("fairwash", "target"), ("backdoor", "target"), ("backdoor", "trigger"),
    ("success", "fooled"), ("integrated_gradients", "baseline"), ("logits_of", "x"), ("plain", "name"),
    *[("ascend", name) for name in ("model", "target", "explainer", "surrogate", "steps", "starts", "step_size")],
}  # fmt: skip
AFTER_A_LOOK = set()  # arguments that are checked only when the net has seen an image

BATCH = {
    "one image": (X[0], r"has shape \(1, 8, 8\); pass \(B, C, H, W\), one image as x\.unsqueeze\(0\)"),
    "five axes": (X[None], r"has shape \(1, 3, 1, 8, 8\); pass \(B, C, H, W\)"),
    "bytes": ((255 * X).byte(), r"has dtype torch\.uint8; pass floats, for example images\.float\(\) / 255"),
    "whole numbers": ((255 * X).long(), r"has dtype torch\.int64; pass floats"),
    "empty": (X[:0], r"has shape \(0, 1, 8, 8\), which is empty; pass at least one image"),
    "array": (X.numpy(), "is a ndarray; pass a torch tensor"),
    "nan": (X.clone().index_fill_(0, torch.tensor(1), math.nan), "holds nan or infinite values; remove or replace"),
    "inf": (X.clone().index_fill_(0, torch.tensor(1), math.inf), "holds nan or infinite values; remove or replace"),
}
MAPS = {kind: bad for kind, bad in BATCH.items() if kind not in ("nan", "inf")}  # in which nan may be
LABELS = {
    "float": (Y.double(), r"is torch\.float64; pass a tensor of whole numbers"),
    "bool": (Y > 0, r"is torch\.bool; pass a tensor of whole numbers"),
    "list": ([0, 1, 2], "is list; pass a tensor of whole numbers"),
    "short": (Y[:2], r"has shape \(2,\); pass one label an image, shape \(3,\)"),
    "column": (Y[:, None], r"has shape \(3, 1\); pass one label an image"),
    "negative": (Y - 1, "holds -1; labels are whole numbers from 0"),
}
BOUNDS = {
    "reversed": ((1, 0), r"is \(1, 0\); the first number must be the smaller"),
    "equal": ((0, 0), r"is \(0, 0\); the first number must be the smaller"),
    "nan": ((0, math.nan), "is nan; pass a finite number"),
    "three": ((0, 1, 2), r"is \(0, 1, 2\); pass a pair"),
    "one": (1.0, r"is 1\.0; pass a pair"),
}
NUMBERS = (-0.1, math.nan, math.inf, True, "0.1", np.float32("nan"), np.True_)
COUNTS = (-1, 2.5, True, "3", np.float32(3), np.int64(-1))
SAY_NUMBER, SAY_COUNT = "(pass a finite number|it must be (above|at least) 0)", "(pass a whole number|it must be)"
ZERO = {"lr", "step_size", "temperature", "beta", "data_range", "level"}  # numbers that must be above 0
MORE = {  # values that are out of range for a parameter, or for that of one function alone
    "prediction_tolerance": [1.5], "min_accuracy": [1.5], "level": [1, 1.5], "side": [3], "k": [65],
    ("random_region", "size"): [9], ("naive", "eps"): [0], ("atex", "eps"): [0], ("audit", "eps"): [0],
    ("blurred_gradient", "sigma"): [0], ("first", "count"): [4], ("adversarial_training", "count"): [4],
    ("steady", "eps"): [0], ("deletion", "steps"): [65], ("insertion", "steps"): [65],
}  # fmt: skip
FINE = {  # and values that are not
    ("Untargeted", "k"): [65], ("padded", "side"): [3], ("smoothing", "epochs"): [0], "plain_epochs": [0],
    ("SmoothMaxPool2d", "padding"): [0], ("wilson", "hits"): [0], "seed": [0], "window": [0], "baseline": [-0.1],
}  # fmt: skip
FITTED = ("fit", "anew", "smoothing", "steady")  # by cross entropy
CALLED = {"map": "map", "validation": "validation ", "fool_set": "the fool set's ", "data": ""}  # by their names


def numbers(name, values, rule):
    return [(repr(value), value, f"^{name} is {re.escape(repr(value))}; {rule}") for value in values]


def misspelt(name, word):
    """A word without its last letter, for which the one that was meant is offered."""
    near = f"^.*{name}s? is {word[:-1]!r}, which is unknown. Did you mean {word!r}\\? Choose one of: "
    return word[:-1], word[:-1], near


def bad_values(function, name, parameter, value):
    """What is wrong for a parameter, as (id, value, regex); nothing for a kind that has no rule."""
    union = isinstance(parameter.annotation, types.UnionType) or typing.get_origin(parameter.annotation) is typing.Union
    kinds = set(typing.get_args(parameter.annotation)) - {type(None)} if union else {parameter.annotation}
    more, fine = ([v for key in (name, (function, name)) for v in table.get(key, [])] for table in (MORE, FINE))
    if name in ("explainer", "chosen") and function != "spec":
        return [
            misspelt("explainer", value if isinstance(value, str) else "gradient"),
            ("lime", "lime", "^explainer is 'lime', which is unknown. Choose one of: gradient"),
            ("no function", 5, r"^explainer is 5; pass a name \(gradient, .*\) or a function"),
        ]
    if isinstance(value, str) and str in kinds and torch.device not in kinds:
        return [misspelt(name, value)]
    if kinds in ({float}, {int}):
        values = (*NUMBERS, *([0] if name in ZERO else [])) if kinds == {float} else (*COUNTS, 0)
        rule = "(pass a (finite|whole) number|it must be (above|at least) [0-9])"
        values = [v for v in (*values, *more) if not any(v is known for known in fine)]
        return [(repr(v), v, f"^{name} is {re.escape(repr(v))}; {rule}") for v in values]
    if kinds == {torch.Generator}:
        say = r"; pass torch\.Generator\(\)\.manual_seed"
        return [(str(v), v, f"^generator is {v}{say}") for v in (0, 5)]
    if kinds == {str, torch.device}:
        say = r", which cannot be used here \(.+\); pass 'cpu'"
        return [(str(v), v, f"^device is {v!r}{say}") for v in ("cdua", "cuda:99", 3.5)]
    if kinds == {nn.Module}:
        return [(str(v), v, rf"^{name} is {v!r}; pass a torch\.nn\.Module") for v in ("resnet18", 10)]
    if name in ("objective", "distance"):
        bad = {"a word": "untargeted", "a class": attack.Distance}
        return [(k, v, f"^{name} is {re.escape(repr(v))}; pass an (instance|objective), for") for k, v in bad.items()]
    if name == "bounds":
        return [(kind, bad, f"bounds {say}") for kind, (bad, say) in BOUNDS.items()]
    if kinds == {Tensor}:
        maps_alone = function in ("normalize", "center_of_mass")
        table = LABELS if name == "labels" else {k: v for k, v in BATCH.items() if not maps_alone or k not in NAN}
        return [(kind, bad, f"^{name} {say}") for kind, (bad, say) in table.items()]
    if kinds == {object} and parameter.kind is not parameter.VAR_KEYWORD:
        forms = {"Tensor": X, "tuple": (X, Y, Y), "TensorDataset": TensorDataset(X), "int": 5, "dict": {}}
        return [
            *[(kind, bad, f"^{name} is a {kind}; pass an ImageSet, a pair") for kind, bad in forms.items()],
            *[(f"images {k}", (bad, Y), f"^{CALLED[name]}images {say}") for k, (bad, say) in BATCH.items()],
            *[(f"labels {k}", (X, bad), f"^{CALLED[name]}labels {say}") for k, (bad, say) in LABELS.items()],
        ]
    return []


def parameters(name, function):
    """The parameters of a function, those that it hands on included."""
    found = dict(inspect.signature(function).parameters)
    if "options" in found:
        found |= inspect.signature(stability._worst_case).parameters
        found.pop("rounds" if name == "max_min" else "", None)
    return {key: value for key, value in found.items() if (name, key) not in UNCHECKED}


def generated(*, after_a_look):
    for name, (function, valid) in CALLS.items():
        for key, parameter in parameters(name, function).items():
            if after_a_look != ((name, key) in AFTER_A_LOOK):
                continue
            for case, value, regex in bad_values(name, key, parameter, valid.get(key, parameter.default)):
                yield f"{name} {key} {case}", functools.partial(function, **{**valid, key: value}), regex


def specs():
    """Every key of every kind of result, wrong, missing and unknown."""
    for kind in experiments.KINDS.values():
        first = {int: 0, float: 0.1}
        spec = {k: first[a] if a in (int, float) else next(iter(a)) for k, a in kind.keys.items()}
        spec |= {"kind": kind.name, "preset": "smoke"}
        for key, allowed in kind.keys.items():
            annotation = allowed if allowed in (int, float) else str
            parameter = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
            more = [("0", 0, f"{key} is 0; it must be above 0")] if allowed is float else []
            for case, value, regex in bad_values("spec", key, parameter, spec[key]) + more:
                if not (allowed is int and value == 0 and type(value) is int):
                    yield (
                        f"{kind.name}: {key} {case}",
                        functools.partial(experiments.run_or_load, {**spec, key: value}),
                        regex,
                    )
            lacking = {k: v for k, v in spec.items() if k != key}
            yield (
                f"{kind.name} lacks {key}",
                functools.partial(experiments.run_or_load, lacking),
                f"lacks {key}; add it",
            )
            yield (
                f"{kind.name} {key[:-1]}",
                functools.partial(experiments.run_or_load, {**spec, key[:-1]: 1}),
                f"Did you mean '{key}'",
            )


EARLY = [*generated(after_a_look=False), *specs()]


class Returns(nn.Module):
    """A net with a convolution whose answer is what `of` makes of the logits."""

    def __init__(self, of):
        super().__init__()
        self.net, self.of = curved(), of

    def forward(self, x):
        return self.of(self.net(x))


BAD_TARGETS = [
    (4, "is 4; it must be at least 0 and at most 3"),
    (-1, "is -1; it must be at least 0 and at most 3"),
    (True, "is True; pass a whole number"),
    (1.0, r"is 1\.0; pass a whole number"),
    ([0, 1, 2], r"is \[0, 1, 2\]; pass torch\.tensor"),
    (Y.numpy(), r"is array\(.*\); pass torch\.tensor"),
    (Y + 2, "holds 4; the net has 4 classes, so labels run from 0 to 3"),
    (Y - 1, "holds -1; labels are whole numbers from 0"),
    (Y.float(), r"is torch\.float32; pass a tensor of whole numbers"),
    (Y[:2], r"has shape \(2,\); pass one label an image, shape \(3,\)"),
    (Y.repeat(2), r"has shape \(6,\); pass one label an image, shape \(3,\)"),
    (Y[:, None], r"has shape \(3, 1\); pass one label an image, shape \(3,\)"),
]
BAD_RETURNS = [
    (lambda logits: logits[:, 0], r"\((3,\) for 3|2,\) for 2|1,\) for 1)"),  # a trainer asks one image
    (lambda logits: logits.mean(0, keepdim=True), r"\(1, 4\) for [236]"),
    (lambda logits: (logits,), "tuple for [123]"),
    (lambda logits: [logits], "list for [123]"),
]
BAD_IMAGES = {"three channels": X.expand(3, 3, 8, 8), "a side": F.pad(X, (2, 2, 2, 2)), "floats": X.float()}


def late():
    for name, f in explain.EXPLAINERS.items():
        for target, regex in BAD_TARGETS:
            yield f"{name} target {target}", functools.partial(f, NET, X, target), f"target {regex}"
    for name, (f, valid) in CALLS.items():
        known = parameters(name, f)
        for key in sorted({"labels", "data", "validation", "fool_set"} & known.keys()) if "model" in valid else ():
            large = Y + 2 if key == "labels" else (X, Y + 2)
            told = "(labels|target)" if key == "labels" else f"{CALLED[key]}labels"
            regex = f"^{told} holds 4; the net has 4 classes, so labels run from 0 to 3"
            yield f"{name} {key} too large", functools.partial(f, **{**valid, key: large}), regex
        for key in sorted({"x", "images", "data"} & valid.keys()) if "model" in valid else ():
            for of, regex in BAD_RETURNS:
                if name not in (*FITTED, "reading") or regex != BAD_RETURNS[1][1]:  # of one image these are logits
                    call = functools.partial(f, **{**valid, "model": Returns(of)})
                    yield f"{name} returns {regex}", call, f"the model returned {regex} images; it must return logits"
            for case, x in BAD_IMAGES.items() if name not in ("deletion", "insertion") else ():  # maps would not fit
                call = functools.partial(f, **{**valid, key: (x, Y) if key == "data" else x})
                say = rf"shape \(\d, {re.escape(str(tuple(x.shape[1:]))[1:])}, {x.dtype}, on cpu \(.+\); pass images as"
                yield f"{name} {key} {case}", call, say
        if "validation" in known:
            call = functools.partial(f, **{**valid, "validation": (X[..., :6], Y)})
            yield f"{name} validation", call, r"a validation image has shape \(1, 8, 6\) but one of the images"


LATE = [*generated(after_a_look=True), *late()]


def parametrize(cases):
    return pytest.mark.parametrize(("call", "regex"), [pytest.param(call, regex, id=i) for i, call, regex in cases])


def refused(call, regex):
    with pytest.raises(ValueError, match=regex) as error:
        call()
    assert type(error.value) is ValueError


@parametrize(LATE)
def test_a_call_that_does_not_fit_the_net_raises(call, regex):
    refused(call, regex)


def fail_at_work(monkeypatch):
    """Let a test fail if a net is called or a file is read."""

    def fail(*_, **__):
        pytest.fail("work was done before the arguments were checked")

    monkeypatch.setattr(nets.ConvNet, "forward", fail)
    for module, name in [(sets, "_idx"), (sklearn.datasets, "load_digits"), (results, "load_net")]:
        monkeypatch.setattr(module, name, fail)


@parametrize(EARLY)
def test_a_bad_call_raises_before_any_work_is_done(monkeypatch, call, regex):
    fail_at_work(monkeypatch)
    refused(call, regex)


def test_every_public_function_has_a_valid_call_here():
    """What a room offers is called here, or is known to trust its caller."""
    rooms = (attack, data, defend, detect, explain, judge, maps, nets, show, experiments)
    offered = {name: getattr(room, name) for room in rooms for name in room.__all__}
    faces = {name for name, value in offered.items() if inspect.isfunction(value) or inspect.isclass(value)}
    assert faces - CALLS.keys() - FREE == set()
    assert FREE & CALLS.keys() == FREE - faces == set()
