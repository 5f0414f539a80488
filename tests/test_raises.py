"""Every bad call, in one table: each raises ValueError with a message that names the value and says what to do.

A case is (id, call, regex); a call takes a net. Those in EARLY must raise before the net has run even once.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import seeded
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from atexlib import __main__ as command_line
from atexlib import chapters, data, defend, experiments, judge, nets, show
from atexlib.attack import ascent, ball, fooling_losses, manipulate, models, objectives, predictions
from atexlib.experiments.subjects import nets
from atexlib.explain import gradients, heatmaps, lrp, registry
from atexlib.maps import alike, intervals, shape

X = torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64)
Y = torch.tensor([0, 1, 2])
BALL = ball.Ball(X, 0.1, "linf", (0, 1))
WEIGHTS = {"weight": torch.zeros(2)}
IMAGES = data.ImageSet(X, Y, "three")


def attack(net, x=X, objective=None, **options):
    manipulate(net, x, objective or objectives.Distance(), **{"eps": 0.1, "steps": 1, **options})


def average(net, x=X, **options):
    judge.average_case(net, x, **{"radius": 0.1, "samples": 1, **options})


def worst(function, net, x=X, **options):
    function(net, x, **{"eps": 0.1, "steps": 1, **options})


def fit(net, images=X, labels=Y, **options):
    nets.fit(net, (images, labels), **{"epochs": 1, **options})


def begin(_, **options):
    chapters.begin(**{"preset": "smoke", "dataset": "digits", "device": "cpu", "seed": 0, **options})


def slides(controls, **options):
    show.frames(controls, None, None, **{"alt": "A picture.", "caption": "A picture.", **options})


def train(_, **options):
    experiments.train(**{"dataset": "digits", "preset": "smoke", "seed": 0, **options})


def trained(_, **options):
    experiments.trained(**{"dataset": "digits", "preset": "smoke", **options})


def atex(net, x=None, y=None, **options):
    x, y = X if x is None else x, Y if y is None else y
    defend.atex(net, (x, y), **{"eps": 0.1, "epochs": 1, "orthogonal_samples": 1, **options}).model


def naive(net, x=None, y=None, **options):
    defend.naive(net, (X if x is None else x, Y if y is None else y), **{"eps": 0.1, "epochs": 1, **options}).model


TRAINERS = {"train_atex": atex, "train_naive": naive}
SAMPLES = {
    "along": lambda x, phi=X, **options: defend.along(x, phi, **{"radius": 0.1, **options}),
    "orthogonal": lambda x, phi=X, **options: defend.orthogonal(x, phi, **{"radius": 0.1, **options}),
    "orthogonal_ascent": lambda x, phi=X, **options: defend.orthogonal_ascent(
        lambda z: z.sum((1, 2, 3)), x, phi, **{"radius": 0.1, **options}
    ),
}
CELL = {
    "kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "eps": 0.1, "seed": 0,
    "preset": "smoke",
}  # fmt: skip


def cell(_, **changes):
    experiments.run_or_load(CELL | changes)


def harden(net, images=X, y=Y, **options):
    defend.adversarial_training(net, (images, y), **{"eps": 0.1, "epochs": 1, **options}).model


def curve(net, x=X, maps=X, **options):
    judge.deletion(net, x, maps, **{"steps": 4, **options})


FOOL_COUNTS = ("steps", "look_every", "batch_size", "fool_batch_size")


def fool(net, images=X, y=Y, **options):
    models.fool(net, (images, y), **{"explainer": "gradient", "steps": 1, **options})


def success(net, images=X, y=Y):
    models.success(net, net, images, y, loss="topk", explainer="gradient")


PREDICTIONS = {  # attacks on predictions
    "loss_gradient": lambda net, x=X, y=Y: predictions.loss_gradient(net, x, y),
    "fgsm": lambda net, x=X, y=Y, **options: predictions.fgsm(net, x, y, **{"eps": 0.1, **options}),
    "pgd": lambda net, x=X, y=Y, **options: predictions.pgd(net, x, y, **{"eps": 0.1, "steps": 1, **options}),
}
max_min, min_max = (functools.partial(worst, function) for function in (judge.max_min, judge.min_max))
ATTACKS = {"manipulate": attack, "average_case": average, "max_min": max_min, "min_max": min_max}
FUNCTIONS = {  # what runs a net on images
    **registry.EXPLAINERS,
    **ATTACKS,
    "fit": fit,
    "accuracy": lambda net, x: nets.accuracy(net, x, Y),
    "predict": nets.predict,
    "adversarial_training": harden,
    "fool": fool,
    "blurred_gradient": judge.blurred_gradient,
    "deletion": curve,
    "insertion": lambda net, x: judge.insertion(net, x, X, steps=4),
    **PREDICTIONS,
}
METRICS = (alike.spearman, alike.topk_intersection, alike.ssim)

OF_X = {*registry.EXPLAINERS, *ATTACKS, *PREDICTIONS, "blurred_gradient", "deletion", "insertion"}
BATCHES = {  # what takes a batch: the name in the message, and the call
    **{name: ("x" if name in OF_X else "images", f) for name, f in FUNCTIONS.items()},
    **{f"{m.__name__} a": ("a", lambda _, x, m=m: m(x, X)) for m in METRICS},
    **{f"{m.__name__} b": ("b", lambda _, x, m=m: m(X, x)) for m in METRICS},
    "fit validation": ("validation images", lambda net, x: fit(net, validation=(x, Y))),
    **{name: ("images", lambda net, x, f=f: f(net, x)) for name, f in TRAINERS.items()},
    **{
        f"{name} validation": ("validation images", lambda net, x, f=f: f(net, validation=(x, Y)))
        for name, f in TRAINERS.items()
    },
    "train_atex maps": ("maps", lambda net, x: atex(net, maps=x)),
    "success": ("images", lambda net, x: success(net, x)),
    "explain": ("x", lambda net, x: models.shown_maps(net, x, Y, explainer="gradient")),
    "judge before": ("before", lambda _, x: models.judged(x, X, loss="topk")),
    "judge after": ("after", lambda _, x: models.judged(X, x, loss="topk")),
    "smooth_maps": ("images", lambda net, x: atexlib.atex.smooth_maps(net, x)),
    **{name: ("x", lambda _, x, f=f: f(x)) for name, f in SAMPLES.items()},
    **{f"{name} phi": ("phi", lambda _, x, f=f: f(X, x)) for name, f in SAMPLES.items()},
    "random_region": ("x", lambda _, x: objectives.Targeted.random_region(x, 3)),
    "TargetMap": ("map", lambda _, x: objectives.TargetMap(x)),
    "deletion maps": ("maps", lambda net, x: curve(net, maps=x)),
    "total_variation": ("maps", lambda _, x: shape.total_variation(x)),
    "mass_on": ("maps", lambda _, x: shape.mass_on(x, X > 0)),
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
MAPS = {  # what takes maps, in which nan may be
    "normalize": ("maps", lambda _, maps: shape.normalize(maps)),
    "center_of_mass": ("maps", lambda _, maps: shape.center_of_mass(maps)),
}
BAD_MAPS = {
    **{kind: bad for kind, bad in BAD_BATCHES.items() if kind not in ("nan", "inf")},
    "whole numbers": ((255 * X).long(), r"has dtype torch\.int64; pass floats"),
}

NUMBERS = {  # what takes a number: the name in the message, further bad values, and the call
    "manipulate eps": ("eps", [], lambda net, v: attack(net, eps=v)),
    "manipulate step_size": ("step_size", [0], lambda net, v: attack(net, step_size=v)),
    "tolerance": ("prediction_tolerance", [1.5], lambda net, v: attack(net, prediction_tolerance=v)),
    "average_case radius": ("radius", [], lambda net, v: average(net, radius=v)),
    "max_min eps": ("eps", [], lambda net, v: max_min(net, eps=v)),
    "min_max eps": ("eps", [], lambda net, v: min_max(net, eps=v)),
    "smoothgrad sigma": ("sigma", [], lambda net, v: gradients.smoothgrad(net, X, sigma=v)),
    "ssim data_range": ("data_range", [0], lambda _, v: alike.ssim(X, X, data_range=v)),
    "fit lr": ("lr", [0], lambda net, v: fit(net, lr=v)),
    "fit weight_decay": ("weight_decay", [], lambda net, v: fit(net, weight_decay=v)),
    "fgsm eps": ("eps", [], lambda net, v: PREDICTIONS["fgsm"](net, eps=v)),
    "pgd eps": ("eps", [], lambda net, v: PREDICTIONS["pgd"](net, eps=v)),
    "pgd step_size": ("step_size", [0], lambda net, v: PREDICTIONS["pgd"](net, step_size=v)),
    "adversarial_training eps": ("eps", [], lambda net, v: harden(net, eps=v)),
    "adversarial_training lr": ("lr", [0], lambda net, v: harden(net, lr=v)),
    "fool weight": ("weight", [], lambda net, v: fool(net, weight=v)),
    "fool alive": ("alive", [], lambda net, v: fool(net, keep_alive=v)),
    "fool lr": ("lr", [0], lambda net, v: fool(net, lr=v)),
    "fool min_accuracy": ("min_accuracy", [1.5], lambda net, v: fool(net, min_accuracy=v)),
    "blurred_gradient sigma": ("sigma", [0], lambda net, v: judge.blurred_gradient(net, X, sigma=v)),
    "ConvNet beta": ("beta", [0], lambda _, v: nets.ConvNet(beta=v)),
    "with_softplus beta": ("beta", [0], lambda net, v: nets.with_softplus(net, v)),
    **{
        f"{name} {n}": (n, [0], lambda net, v, f=f, n=n: f(net, **{n: v}))
        for name, f in TRAINERS.items()
        for n in ("eps", "lr")
    },
    **{
        f"train_atex {n}": (n, [], lambda net, v, n=n: atex(net, **{n: v}))
        for n in ("alpha", "fidelity", "label_weight")
    },
    "train_atex temperature": ("temperature", [0], lambda net, v: atex(net, temperature=v)),
    **{f"train_naive {n}": (n, [], lambda net, v, n=n: naive(net, **{n: v})) for n in ("a1", "a2", "weight")},
    **{f"{name} radius": ("radius", [], lambda _, v, f=f: f(X, radius=v)) for name, f in SAMPLES.items()},
    "a spec's eps": ("eps", [0], lambda _, v: cell(_, eps=v)),
    "two_level level": ("level", [0, 1, 1.5], lambda _, v: intervals.two_level(X[:, 0, 0], level=v)),
    "bootstrap level": ("level", [0, 1, 1.5], lambda _, v: intervals.bootstrap(X.flatten(), level=v)),
}
BAD_NUMBERS = (-0.1, math.nan, math.inf, True, "0.1", np.float32("nan"), np.True_)

COUNTS = {  # what takes a whole number: the name in the message, further bad values, and the call
    "manipulate steps": ("steps", [0], lambda net, v: attack(net, steps=v)),
    "manipulate starts": ("starts", [0], lambda net, v: attack(net, starts=v)),
    "average_case samples": ("samples", [0], lambda net, v: average(net, samples=v)),
    "max_min steps": ("steps", [0], lambda net, v: max_min(net, steps=v)),
    "max_min starts": ("starts", [0], lambda net, v: max_min(net, starts=v)),
    "min_max steps": ("steps", [0], lambda net, v: min_max(net, steps=v)),
    "min_max rounds": ("rounds", [0], lambda net, v: min_max(net, rounds=v)),
    "smoothgrad samples": ("samples", [0], lambda net, v: gradients.smoothgrad(net, X, samples=v)),
    "smoothgrad chunk": ("chunk", [0], lambda net, v: gradients.smoothgrad(net, X, chunk=v)),
    "integrated_gradients steps": ("steps", [0], lambda net, v: gradients.integrated_gradients(net, X, steps=v)),
    "integrated_gradients chunk": ("chunk", [0], lambda net, v: gradients.integrated_gradients(net, X, chunk=v)),
    "Untargeted k": ("k", [0], lambda _, v: objectives.Untargeted(k=v)),
    "random_region size": ("size", [0, 9], lambda _, v: objectives.Targeted.random_region(X, v)),
    "topk_intersection k": ("k", [0, 65], lambda _, v: alike.topk_intersection(X, X, v)),
    "bootstrap resamples": ("resamples", [0], lambda _, v: intervals.bootstrap(X.flatten(), resamples=v)),
    "fit epochs": ("epochs", [0], lambda net, v: fit(net, epochs=v)),
    "fit batch_size": ("batch_size", [0], lambda net, v: fit(net, batch_size=v)),
    **{
        f"{name} {n}": (n, [0], lambda net, v, f=f, n=n: f(net, **{n: v}))
        for name, f, more in (
            ("train_atex", atex, ("along_samples", "orthogonal_samples", "ascent_steps", "steps_per_batch")),
            ("train_naive", naive, ("samples",)),
        )
        for n in ("epochs", "batch_size", *more)
    },
    "pgd steps": ("steps", [0], lambda net, v: PREDICTIONS["pgd"](net, steps=v)),
    "pgd starts": ("starts", [0], lambda net, v: PREDICTIONS["pgd"](net, starts=v)),
    **{
        f"adversarial_training {n}": (n, bad, lambda net, v, n=n: harden(net, **{n: v}))
        for n, bad in {"count": [0, 4], "epochs": [0], "batch_size": [0]}.items()
    },
    **{f"fool {n}": (n, [0], lambda net, v, n=n: fool(net, **{n: v})) for n in FOOL_COUNTS},
    "deletion steps": ("steps", [0, 65], lambda net, v: curve(net, steps=v)),
    "smooth_maps batch_size": ("batch_size", [0], lambda net, v: atexlib.atex.smooth_maps(net, X, batch_size=v)),
    "smooth_maps samples": ("samples", [0], lambda net, v: atexlib.atex.smooth_maps(net, X, samples=v)),
    "orthogonal_ascent steps": ("steps", [0], lambda _, v: SAMPLES["orthogonal_ascent"](X, steps=v)),
    "a spec's seed": ("seed", [], lambda _, v: cell(_, seed=v)),
    "two_level resamples": ("resamples", [0], lambda _, v: intervals.two_level(X[:, 0, 0], resamples=v)),
    "accuracy batch_size": ("batch_size", [0], lambda net, v: nets.accuracy(net, X, Y, batch_size=v)),
    "predict batch_size": ("batch_size", [0], lambda net, v: nets.predict(net, X, batch_size=v)),
    "ImageSet.first": ("count", [0, 4], lambda _, v: IMAGES.first(v)),
    "load_folder size": ("size", [0], lambda _, v: data.load_folder("nowhere", size=v)),
    "load_folder per_class": ("per_class", [0], lambda _, v: data.load_folder("nowhere", size=4, per_class=v)),
    "train seed": ("seed", [], lambda net, v: train(net, seed=v)),
    "trained seed": ("seed", [], lambda net, v: trained(net, seed=v)),
    "begin seed": ("seed", [], lambda net, v: begin(net, seed=v)),
    "ConvNet side": ("side", [3], lambda _, v: nets.ConvNet(side=v)),
    **{
        f"ConvNet {name}": (name, [0], lambda _, v, name=name: nets.ConvNet(**{name: v}))
        for name in ("channels", "classes", "width", "hidden")
    },
}
BAD_COUNTS = (-1, 2.5, True, "3", np.float32(3), np.int64(-1))

WORDS = [  # what takes a name: id, the call, the wrong name, the one that was meant
    ("load name", lambda _, v: data.load(v, "test"), "fashion-mnits", "fashion-mnist"),
    ("load split", lambda _, v: data.load("digits", v), "tset", "test"),
    ("manipulate norm", lambda net, v: attack(net, norm=v), "l-inf", "linf"),
    *[
        (f"{name} explainer", lambda net, v, f=f: f(net, explainer=v), "smoothgrd", "smoothgrad")
        for name, f in ATTACKS.items()
    ],
    ("max_min norm", lambda net, v: max_min(net, norm=v), "L2", "l2"),
    ("fool loss", lambda net, v: fool(net, loss=v), "top_k", "topk"),
    ("fool explainer", lambda net, v: fool(net, explainer=v), "gradcam", "grad_cam"),
    ("heatmap explainer", lambda net, v: heatmaps.heatmap(net, X, Y, explainer=v), "lpr", "lrp"),
    ("measured_loss", lambda _, v: fooling_losses.measured_loss(v, X, X), "centre_mass", "center_mass"),
    ("pgd norm", lambda net, v: PREDICTIONS["pgd"](net, norm=v), "L2", "l2"),
    ("min_max norm", lambda net, v: min_max(net, norm=v), "Linf", "linf"),
    ("normalize by", lambda _, v: shape.normalize(X, by=v), "maximum", "max"),
    ("audit explainer", lambda net, v: atexlib.audit(net, X, Y, explainers=[v]), "gradcam", "grad_cam"),
    ("audit attack", lambda net, v: atexlib.audit(net, X, Y, attacks=[v]), "centre_mass", "center_mass"),
    ("grad_cam layer", lambda net, v: gradients.grad_cam(net, X, layer=v), "cnov1", "conv1"),
    ("gradient_at layer", lambda net, v: explain.gradient(net, X, layer=v), "cnov1", "conv1"),
    ("train dataset", lambda net, v: train(net, dataset=v), "mnits", "mnist"),
    ("train preset", lambda net, v: train(net, preset=v), "smok", "smoke"),
    ("trained dataset", lambda net, v: trained(net, dataset=v), "fashion_mnist", "fashion-mnist"),
    ("trained defense", lambda net, v: trained(net, defense=v), "None", "none"),
    ("trained preset", lambda net, v: trained(net, preset=v), "smok", "smoke"),
    ("train_atex reading", lambda net, v: atex(net, norm=v), "lnf", "linf"),
    ("train_atex noise", lambda net, v: atex(net, noise=v), "print", "printed"),
    ("train_atex directions", lambda net, v: atex(net, directions=v), "rand", "random"),
    ("train_naive neighbours", lambda net, v: naive(net, neighbors=v), "ascend", "ascent"),
    ("train_naive target_map", lambda net, v: naive(net, target_map=v), "smooth_grad", "smoothgrad"),
    ("along reading", lambda _, v: SAMPLES["along"](X, norm=v), "L2", "l2"),
    ("orthogonal noise", lambda _, v: SAMPLES["orthogonal"](X, noise=v), "symetric", "symmetric"),
    ("experiment", lambda _, v: cell(_, kind=v), "tables", "table"),
    *[
        (f"a spec's {key}", lambda _, v, key=key: cell(_, **{key: v}), wrong, right)
        for key, wrong, right in (
            ("dataset", "digit", "digits"),
            ("attack", "untargetted", "untargeted"),
            ("defense", "atx", "atex"),
            ("preset", "smok", "smoke"),
        )
    ],
    ("a key of a spec", lambda _, v: cell(_, **{v: 1}), "epss", "eps"),
    ("begin preset", lambda net, v: begin(net, preset=v), "papers", "paper"),
    ("begin dataset", lambda net, v: begin(net, dataset=v), "digit", "digits"),
    ("begin device", lambda net, v: begin(net, device=v), "cdua", "cuda"),
    ("show kind", lambda _, v: show.show(None, X[0], v), "sgined", "signed"),
    ("frames start", lambda _, v: slides({"beta": [1, 2]}, start={v: 1}), "bta", "beta"),
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
    "negative": (Y - 1, "holds -1; labels are whole numbers from 0"),
}
LABELS = {
    "fit": ("labels", lambda net, y: fit(net, labels=y)),
    "fit validation": ("validation labels", lambda net, y: fit(net, validation=(X, y))),
    "accuracy": ("labels", lambda net, y: nets.accuracy(net, X, y)),
    "adversarial_training": ("labels", lambda net, y: harden(net, y=y)),
    "fool": ("labels", lambda net, y: fool(net, y=y)),
    "success": ("labels", lambda net, y: success(net, y=y)),
    "explain": ("labels", lambda net, y: models.shown_maps(net, X, y, explainer="gradient")),
    "fool validation": ("validation labels", lambda net, y: fool(net, validation=(X, y))),
    "fool set": ("the fool set's labels", lambda net, y: fool(net, fool_set=(X, y))),
    **{name: ("labels", lambda net, y, f=f: f(net, y=y)) for name, f in PREDICTIONS.items()},
    **{name: ("labels", lambda net, y, f=f: f(net, y=y)) for name, f in TRAINERS.items()},
    **{
        f"{name} validation": ("validation labels", lambda net, y, f=f: f(net, validation=(X, y)))
        for name, f in TRAINERS.items()
    },
}

GENERATORS = {  # what takes a generator (`begin` and `train` make their own)
    **ATTACKS,
    "smoothgrad": lambda net, **options: gradients.smoothgrad(net, X, **options),
    "random_region": lambda _, **options: objectives.Targeted.random_region(X, 3, **options),
    "bootstrap": lambda _, **options: intervals.bootstrap(X.flatten(), **options),
    "fit": fit,
    "pgd": PREDICTIONS["pgd"],
    "adversarial_training": harden,
    "fool": fool,
    **TRAINERS,
    **{name: lambda _, f=f, **options: f(X, **options) for name, f in SAMPLES.items()},
    "two_level": lambda _, **options: intervals.two_level(X[:, 0, 0], **options),
    "ascend": lambda net, **options: ascent.ascend(
        net, Y, lambda maps: maps.sum((1, 2, 3)), BALL, explainer=gradients.gradient, steps=1, **options
    ),
}

RUN = ["run", "nets", "--dataset", "digits", "--defense", "none", "--preset", "smoke", "--seed", "0"]
DEVICES = {
    "train": train,
    "trained": trained,
    "fit": fit,
    "adversarial_training": harden,
    "fool": fool,
    "command line": lambda _, device: command_line.main([*RUN, "--device", device]),
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
    *pairs(MAPS, BAD_MAPS),
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
    *[
        (
            f"{name} explainer's right name",
            lambda net, f=f: f(net, explainer="gradient"),
            r"explainer is 'gradient'; pass the function, explainers\.gradient",
        )
        for name, f in ATTACKS.items()
    ],
    *[
        (
            f"{name} generator {value}",
            lambda net, f=f, value=value: f(net, generator=value),
            rf"generator is {value}; pass torch\.Generator\(\)\.manual_seed",
        )
        for name, f in GENERATORS.items()
        for value in (0, 5)
    ],
    *[
        (
            f"{name} device {value}",
            lambda net, f=f, value=value: f(net, device=value),
            f"device is {value!r}, which cannot be used here \\(.+\\); pass 'cpu'",
        )
        for name, f in DEVICES.items()
        for value in ("cdua", "cuda:99", *([] if name == "command line" else [None]))
    ],
    *[
        (
            f"objective {case}",
            lambda net, objective=objective: attack(net, objective=objective),
            rf"objective is {regex}; pass an instance, for example Untargeted\(k=50\)",
        )
        for case, objective, regex in [
            ("by name", "untargeted", "'untargeted'"),
            ("as a class", objectives.Untargeted, "<class '.*Untargeted'>"),
        ]
    ],
    *[
        (
            f"{name} validation {case}",
            lambda net, f=f, value=value: f(net, validation=value),
            rf"^validation is a {case}; pass a pair \(images, labels\), or None",
        )
        for name, f in {"fit": fit, "fool": fool, **TRAINERS}.items()
        for case, value in {"Tensor": X[:2], "tuple": (X, Y, Y), "ImageSet": IMAGES}.items()
    ],
    ("surrogate no net", lambda net: attack(net, surrogate=10), r"surrogate is 10; pass a torch\.nn\.Module"),
    ("model no net", lambda _: attack("resnet18"), r"model is 'resnet18'; pass a torch\.nn\.Module"),
    (
        "with_softplus of a name",
        lambda _: nets.with_softplus("resnet18", 10),
        r"model is 'resnet18'; pass a torch\.nn\.Module",
    ),
    *[
        (
            f"integrated_gradients baseline {case}",
            lambda net, value=value: gradients.integrated_gradients(net, X, baseline=value),
            rf"(?s)^baseline is {regex}; pass a finite number, or images that (broadcast to|fit) \(3, 1, 8, 8\)",
        )
        for case, value, regex in [
            ("nan", math.nan, "nan"),
            ("a string", "black", "'black'"),
            ("with nan", torch.full((8, 8), math.nan), r"tensor\(.*nan.*\)"),
            ("narrow", torch.zeros(3, 1, 8, 7), r"tensor\(.*\)"),
            ("of two images", torch.zeros(2, 1, 8, 8), r"tensor\(.*\)"),
            ("of five axes", torch.zeros(2, 3, 1, 8, 8), r"tensor\(.*\)"),
        ]
    ],
    ("grad_cam without convolution", lambda _: gradients.grad_cam(nn.Flatten(), X), "Flatten has no nn.Conv2d; name"),
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
        lambda _: alike.ssim(X[..., :6], X[..., :6]),
        r"\(8, 6\) pixels; SSIM needs at least 7 x 7",
    ),
    *[
        (
            f"bootstrap of {case}",
            lambda _, values=values: intervals.bootstrap(values),
            rf"(?s)^values is {regex}; pass a tensor of at least two numbers, shape \(N,\)",
        )
        for case, values, regex in [
            ("one value", X[0, 0, 0, :1], r"tensor\(\[0\.[0-9]+\].*\)"),
            ("a matrix", X[0, 0], r"tensor\(\[\[0\..*\)"),
            ("a list", [0.25, 0.5], r"\[0\.25, 0\.5\]"),
        ]
    ],
    (
        "bootstrap of all resamples",
        lambda _: intervals.bootstrap(X.flatten(), level=1),
        r"level is 1; it must be above 0.* and at most 0\.9999",
    ),
    (
        "bootstrap of nan",
        lambda _: intervals.bootstrap(torch.tensor([0.0, math.nan])),
        "values holds nan or infinite numbers; drop those images",
    ),
    ("audit of one image", lambda net: atexlib.audit(net, X[:1], Y[:1]), "number of images is 1"),
    ("audit of large pixels", lambda net: atexlib.audit(net, 255 * X, Y), r"ranges over .* outside \(0, 1\)"),
    ("audit of nothing", lambda net: atexlib.audit(net, X, Y, attacks=[]), "number of attacks is 0"),
    ("audit eps", lambda net: atexlib.audit(net, X, Y, eps=-1), "eps is -1"),
    ("audit labels", lambda net: atexlib.audit(net, X, Y[:2]), "labels"),
    (
        "with_softplus untraceable",
        lambda _: nets.with_softplus(Branching(), 9),
        "Branching cannot be.*as nn.ReLU modules",
    ),
    *[
        (f"{f.__name__} of no net", lambda _, f=f: f(5, X, layer="conv1"), r"model is 5; pass a torch\.nn\.Module")
        for f in (gradients.grad_cam, explain.gradient)
    ],
    (
        "scaled by an unknown explainer",
        lambda _: heatmaps.scaled(X, explainer="gradcam"),
        "'gradcam'.*Did you mean 'grad_cam'",
    ),
    (
        "judge of two sizes",
        lambda _: models.judged(X, X[:, :, 1:], loss="topk"),
        r"after has shape \(3, 1, 7, 8\) but before has",
    ),
    ("load_folder of a number", lambda _: data.load_folder(5, size=4), "^path is 5; pass the name of a folder"),
    *[
        (f"{m.__name__} of bfloat16", lambda _, m=m: m(X.bfloat16(), X.bfloat16()), r"bfloat16; pass a\.float\(\)")
        for m in METRICS
    ],
    (
        "load_folder of no folder",
        lambda _: data.load_folder("nowhere", size=4),
        "nowhere is not a folder; pass one that",
    ),
    (
        "trained without a committed net",
        lambda net: trained(net, preset=None, seed=10**6),
        "no net of digits, none, seed 1000000 is there; pass preset='smoke'",
    ),
    (
        "command line seed",
        lambda _: command_line.main([*RUN, "--seed", "-1"]),
        "--seed is -1; it must be at least 0",
    ),
    (
        "no experiment",
        lambda _: experiments.run_or_load({"dataset": "digits"}),
        "pass a dict with the key 'experiment'",
    ),
    ("a spec that is no dict", lambda _: experiments.run_or_load("table"), "the spec is 'table'; pass a dict"),
    (
        "a spec without eps and seed",
        lambda _: experiments.run_or_load({k: v for k, v in CELL.items() if k not in ("eps", "seed")}),
        "lacks eps, seed; add it",
    ),
    (
        "a spec's device",
        lambda _: experiments.run_or_load(CELL, device="cdua"),
        "device is 'cdua', which cannot be used",
    ),
    (
        "train_atex without a loss",
        lambda net: atex(net, alpha=0.0, fidelity=0.0),
        "alpha, fidelity and label_weight are all 0; at least one must be above it",
    ),
    (
        "train_atex maps of other images",
        lambda net: atex(net, maps=X[:2]),
        r"maps has shape \(2, 1, 8, 8\) but images has",
    ),
    ("train_naive outside the range", lambda net: naive(net, 2 * X).model, r"images ranges over .*outside \(0, 1\)"),
    ("train_naive distance", lambda net: naive(net, distance=objectives.Distance), "distance is .*; pass an objective"),
    ("phi of other images", lambda _: SAMPLES["along"](X, X[:2]), r"phi has shape \(2, 1, 8, 8\) but x has"),
    ("two_level of one axis", lambda _: intervals.two_level(X.flatten()), r"values has shape \(192,\); pass \(S, N\)"),
    (
        "two_level without a statistic",
        lambda _: intervals.two_level(X[:, 0]),
        r"values has shape \(3, 8, 8\); pass \(S, N\), or \(S, N, K\) and a statistic",
    ),
    (
        "two_level of nan",
        lambda _: intervals.two_level(X[:, 0, 0] * math.nan),
        "values holds infinite numbers, or nothing but nan",
    ),
    ("begin recompute", lambda net: begin(net, recompute="no"), "recompute is 'no'; pass True or False"),
    *[
        (f"{name} a frozen net", lambda net, f=f: f(net.requires_grad_(False)), "every weight of the model is frozen")
        for name, f in {"fit": fit, "fool": fool, "train_atex": atex, "train_naive": naive, "harden": harden}.items()
    ],
    ("frames without a control", lambda _: slides({}), "there are 0 controls; pass one or two"),
    ("frames with three", lambda _: slides({name: [1, 2] for name in "abc"}), "there are 3 controls; pass one or two"),
    ("frames of one value", lambda _: slides({"beta": [1]}), "the control 'beta' has 1 values; pass two or more"),
    (
        "frames start value",
        lambda _: slides({"beta": [1, 2]}, start={"beta": 3}),
        r"start is 3 for 'beta'; pass one of \[1, 2\]",
    ),
    *[
        (
            f"gallery of {lengths}",
            lambda _, lengths=lengths: show.gallery([show.Column("maps", X[:length]) for length in lengths]),
            f"the columns hold {re.escape(str(lengths))} pictures; pass columns of one length, at least one",
        )
        for lengths in ([], [0], [3, 2])
    ],
]


class Returns(nn.Module):
    """A net with a convolution whose answer is what `of` makes of the logits."""

    def __init__(self, net, of):
        super().__init__()
        self.net, self.of = net, of

    def forward(self, x):
        return self.of(self.net(x))


class Deaf(Returns):
    """A net with a convolution that is called for nothing."""

    def __init__(self, net):
        super().__init__(net, lambda logits: logits)
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

    def __init__(self, net):
        super().__init__()
        self.net = net

    def after(self, x):
        self.features = self.net(x)
        return self


@dataclasses.dataclass
class Scores:
    """An objective that scores with a given function."""

    score: Callable

    def __call__(self, _):
        return self.score


def explain(name, target):
    return lambda net: registry.EXPLAINERS[name](net, X, target)


LATE = [
    *[
        (f"{name} {case}", explain(name, target), f"target {regex}")
        for name in registry.EXPLAINERS
        for case, target, regex in [
            ("target too large", 4, "is 4; it must be at least 0 and at most 3"),
            ("target negative", -1, "is -1; it must be at least 0 and at most 3"),
            ("target bool", True, "is True; pass a whole number"),
            ("target 1.0", 1.0, r"is 1\.0; pass a whole number"),
            ("target list", [0, 1, 2], r"is \[0, 1, 2\]; pass torch\.tensor"),
            ("target array", Y.numpy(), r"is array\(.*\); pass torch\.tensor"),
            ("targets too large", Y + 2, "holds 4; the net has 4 classes, so labels run from 0 to 3"),
            ("targets negative", Y - 1, "holds -1; labels are whole numbers from 0"),
            ("targets float", Y.float(), r"is torch\.float32; pass a tensor of whole numbers"),
            ("too few targets", Y[:2], r"has shape \(2,\); pass one label an image, shape \(3,\)"),
            ("too many targets", Y.repeat(2), r"has shape \(6,\); pass one label an image, shape \(3,\)"),
            ("a column of targets", Y[:, None], r"has shape \(3, 1\); pass one label an image, shape \(3,\)"),
        ]
    ],
    *[
        (
            f"{case} too large",
            lambda net, call=call: call(net, Y + 2),
            f"^({name}|target) holds 4; the net has 4 classes, so labels run from 0 to 3",
        )
        for case, (name, call) in LABELS.items()
    ],
    *[
        (
            f"{name} of a model that returns {case}",
            lambda net, f=f, of=of: f(Returns(net, of), X),
            f"the model returned {regex} images; it must return logits",
        )
        for name, f in FUNCTIONS.items()
        for case, of, regex in [
            ("(B,)", lambda logits: logits[:, 0], r"\((3,\) for 3|1,\) for 1)"),  # fit asks one image
            ("(1, C)", lambda logits: logits.mean(0, keepdim=True), r"\(1, 4\) for 3"),
            ("a tuple", lambda logits: (logits,), "tuple for [13]"),
            ("a list", lambda logits: [logits], "list for [13]"),
        ]
        if (name, case) != ("fit", "(1, C)")  # of one image these are logits
    ],
    (
        "grad_cam of a flat layer",
        lambda net: gradients.grad_cam(net, X, layer="fc1"),
        "layer 'fc1' gives no map.*name a",
    ),
    (
        "gradient at a foreign layer",
        lambda net: explain.gradient(net, X, layer=nn.Identity()),
        "Identity.*no tensor.*name one",
    ),
    (
        "grad_cam of a foreign layer",
        lambda net: gradients.grad_cam(net, X, layer=nn.Identity()),
        "Identity.*no tensor.*name one",
    ),
    *[
        (
            f"{name} of a layer that the logits do not hear of",
            lambda net, f=f: f(Deaf(net), X, layer="unheard"),
            "the logits do not depend on what the map shows; name a layer",
        )
        for name, f in {"grad_cam": gradients.grad_cam, "gradient": explain.gradient}.items()
    ],
    (
        "gradient of a net of constants",
        lambda _: gradients.gradient(Constant(), X),
        "the logits do not depend on what the map shows",
    ),
    *[
        (
            f"heatmap of {name} at a flat layer",
            lambda net, name=name: heatmaps.heatmap(net, X, Y, explainer=name, layer="fc1"),
            r"layer 'fc1' gives .*no map.*name a convolution",
        )
        for name in ("lrp", "gradient", "grad_cam")
    ],
    (
        "lrp through attention",
        lambda _: lrp.lrp(Attentive().double(), X),
        "no rule for attention .*takes more than x",
    ),
    (
        "fool with a fool set of one tensor",
        lambda net: fool(net, fool_set=(X,)),
        "fool_set is a tuple; pass a pair",
    ),
    (
        "fool with classes that are lists",
        lambda net: fool(net, loss="active", classes=([1], [1])),
        "pass two different classes",
    ),
    *[
        (
            f"{name} with validation images of another size",
            lambda net, f=f: f(net, validation=(X[..., :6], Y)),
            r"a validation image has shape \(1, 8, 6\) but one of the images",
        )
        for name, f in {"fit": fit, "train_atex": atex, "train_naive": naive, "fool": fool}.items()
    ],
    *[
        (f"audit with {case}", lambda net, call=call: call(net), regex)
        for case, call, regex in [
            (
                "a word for a list",
                lambda net: atexlib.audit(net, X, Y, explainers="lrp"),
                r"explainers is 'lrp'; pass a list of names, \['lrp'\]",
            ),
            ("labels too large", lambda net: atexlib.audit(net, X, Y + 4), "labels holds .*the net has 4 classes"),
            (
                "one number an image",
                lambda net: atexlib.audit(Returns(net, lambda logits: logits[:, :1]), X, Y),
                "the net returns one number an image",
            ),
            (
                "images around zero",
                lambda net: atexlib.audit(net, 2 * X - 1, Y),
                "put the preprocessing inside the net",
            ),
        ]
    ],
    (
        "with_softplus of a net that keeps a graph",
        lambda net: nets.with_softplus(Keeping(net).after(X), 10),
        "cannot be copied .*keep no tensors on the module",
    ),
    *[
        (
            f"an objective that scores with {case}",
            lambda net, score=score: attack(net, objective=Scores(score)),
            r"objective Scores\(.*\) must score one number an image, shape \(3,\)",
        )
        for case, score in [
            ("a scalar", torch.sum),
            ("a float", lambda maps: maps.sum().item()),
            ("a map", torch.abs),
        ]
    ],
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
    *[
        (
            f"{name} of {case}",
            lambda net, f=f, x=x: f(net, x),
            rf"shape \(\d, {re.escape(str(tuple(x.shape[1:]))[1:])}, {x.dtype}, on cpu \(.+\); pass images as it was",
        )
        for name, f in FUNCTIONS.items()
        if name not in ("deletion", "insertion")  # whose maps would not fit
        for case, x in {
            "three channels": X.expand(3, 3, 8, 8),
            "another side": F.pad(X, (2, 2, 2, 2)),
            "floats": X.float(),
        }.items()
    ],
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

    monkeypatch.setattr(nets.ConvNet, "forward", fail)
    for module, name in [(data, "_idx"), (data, "_digits"), (nets, "load_net")]:
        monkeypatch.setattr(module, name, fail)
    refused(lambda: call(net), regex)


@pytest.mark.parametrize("cut", [None, 0, 5, 100, -10])
def test_a_net_that_is_missing_or_truncated_raises(tmp_path, cut):
    path = tmp_path / "net.safetensors"
    if cut is not None:
        experiments.save_net(nets.ConvNet(), path, {})
        experiments.load_net(path)
        path.write_bytes(path.read_bytes()[:cut])
    reason = "No such file" if cut is None else "deserializing header"
    refused(
        lambda: experiments.load_net(path), rf"{path} holds no ConvNet that can be read \(.*{reason}.*\); restore it"
    )


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
    experiments.save_net(model, path, {})
    regex = rf"(?s){path} holds no ConvNet that can be read \(.*{reason}.*\); restore it"
    refused(lambda: experiments.load_net(path), regex)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        pytest.param(lambda _: None, "No such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), "deserializing header", id="empty"),
        pytest.param(lambda path: path.write_bytes(b"no net at all"), "deserializing header", id="corrupt"),
        pytest.param(lambda path: save_file(WEIGHTS, path), "TypeError", id="no header"),
        pytest.param(lambda path: save_file(WEIGHTS, path, {"seed": "0"}), "KeyError.*facts", id="no facts"),
        pytest.param(lambda path: save_file(WEIGHTS, path, {"facts": "{"}), "JSONDecodeError", id="broken facts"),
    ],
)
def test_a_file_without_facts_raises(tmp_path, write, reason):
    path = tmp_path / "net.safetensors"
    write(path)
    refused(lambda: experiments.net_facts(path), rf"{path} has no facts that can be read \(.*{reason}.*\); restore it")


@pytest.mark.parametrize("of", [(np.float32, np.int64), (np.float64, np.int32)], ids=str)
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            lambda net, a, n: manipulate(net, X, objectives.Distance(), eps=a, steps=n, starts=n).x, id="linf"
        ),
        pytest.param(lambda net, a, n: manipulate(net, X, objectives.Distance(), eps=a, steps=n, norm="l2").x, id="l2"),
        pytest.param(lambda net, a, n: judge.average_case(net, X, radius=a, samples=n).value, id="average_case"),
        pytest.param(lambda net, a, n: judge.max_min(net, X, eps=a, steps=n).value, id="max_min"),
        pytest.param(lambda net, a, n: judge.min_max(net, X, eps=a, steps=n, rounds=n).value, id="min_max"),
        pytest.param(lambda net, a, n: gradients.smoothgrad(net, X, n, sigma=a, samples=n), id="smoothgrad"),
        pytest.param(lambda net, a, n: gradients.integrated_gradients(net, X, n, steps=n), id="integrated_gradients"),
    ],
)
def test_numbers_of_numpy_are_numbers(net, call, of):
    real, whole = of
    expected = call(net, float(real(0.1)), 2)
    assert expected.any()
    torch.testing.assert_close(call(net, real(0.1), whole(2)), expected)
