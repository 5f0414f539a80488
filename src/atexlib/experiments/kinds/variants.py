"""Variants of the defences, and rivals: trained alike, measured on validation images, to choose and to compare."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import DATASETS
from ...nets import accuracy
from ...nets.training import optimize
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import attacks, nets
from .worst import DECIMALS

EPS = (0.05, 0.1)
EPOCHS = 1
TRAINED = 2  # one in so many of a preset's images for defences is trained on
SHARE = 2  # one in so many of a preset's images is attacked
NAIVE = {"eps": 0.1, "weight": 4.0}
ATEX = {"eps": 0.6, "orthogonal_samples": 2}
ASCENT = {"eps": 0.1, "orthogonal_samples": 1, "directions": "ascent", "fidelity": 0.0, "label_weight": 1.0}

POOLED = {"pooling": "average"}

# The trials of the search, eight for each family: a defence of the register by its trainer, and its settings.
TRIALS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "passes": ("early_2", {f"passes: {count}": {"epochs": count} for count in (1, 2, 3, 5, 8, 15, 30, 60)}),
    "beta": (
        "beta",
        {f"beta {beta:g}": {"beta": beta, "epochs": 2} for beta in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 20.0)},
    ),
    "pooling": (
        "pooling",
        {
            "pooling: average": POOLED,
            "pooling: strided": {"pooling": "strided"},
            "pooling: log-mean-exp 1": {"pooling": 1.0},
            "pooling: log-mean-exp 3": {"pooling": 3.0},
            "pooling: log-mean-exp 10": {"pooling": 10.0},
            "pooling: log-mean-exp 30": {"pooling": 30.0},
            "pooling: average, beta 5": POOLED | {"beta": 5.0},
            "pooling: average, beta 3": POOLED | {"beta": 3.0},
        },
    ),
    "naive": (
        "naive",
        {
            "naive: weight 4": NAIVE,
            "naive: weight 0.5": NAIVE | {"weight": 0.5},
            "naive: weight 1": NAIVE | {"weight": 1.0},
            "naive: weight 2": NAIVE | {"weight": 2.0},
            "naive: weight 10": NAIVE | {"weight": 10.0},
            "naive: eps 0.05": NAIVE | {"eps": 0.05},
            "naive: one step of ascent": NAIVE | {"neighbors": "ascent"},
            "naive: SmoothGrad target": NAIVE | {"target_map": "smoothgrad"},
        },
    ),
    "atex": (
        "atex",
        {
            "atex: eps 0.6": ATEX,
            "atex: eps 0.1": ATEX | {"eps": 0.1},
            "atex: eps 0.2": ATEX | {"eps": 0.2},
            "atex: eps 0.3": ATEX | {"eps": 0.3},
            "atex: eps 0.8": ATEX | {"eps": 0.8},
            "atex: alpha 4": ATEX | {"alpha": 4.0},
            "atex: L2 reading, eps 0.1": ATEX | {"eps": 0.1, "norm": "l2"},
            "atex: labels instead of f(x)": ATEX | {"fidelity": 0.0, "label_weight": 1.0},
        },
    ),
    "atex without the projection": (
        "atex",
        {
            f"free: eps {eps:g}": ATEX | {"eps": eps, "directions": "free"}
            for eps in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
        },
    ),
    "atex_ascent": (
        "atex",
        {
            "ascent: eps 0.1": ASCENT,
            "ascent: eps 0.03": ASCENT | {"eps": 0.03},
            "ascent: eps 0.05": ASCENT | {"eps": 0.05},
            "ascent: eps 0.08": ASCENT | {"eps": 0.08},
            "ascent: eps 0.15": ASCENT | {"eps": 0.15},
            "ascent: alpha 3": ASCENT | {"alpha": 3.0},
            "ascent: one step": ASCENT | {"ascent_steps": 1},
            "ascent: f(x) instead of labels": ASCENT | {"fidelity": 1.0, "label_weight": 0.0},
        },
    ),
}

# Ablations of ATEX beyond the search.
ABLATIONS: dict[str, dict[str, Any]] = {
    "atex: printed noise": ATEX | {"noise": "printed"},
    "atex: 8 samples": ATEX | {"orthogonal_samples": 8},
    "atex: temperature 1": ATEX | {"temperature": 1.0},
    "ascent: mixed with random": ASCENT | {"directions": "mixed"},
}

# Rivals that know nothing of explanations: weight decay, Gaussian noise on the images.
RIVALS: dict[str, dict[str, Any]] = {
    "plain training": {},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "Gaussian noise 0.3": {"noise": 0.3},
}

SETTINGS = {name: (defense, options) for defense, trials in TRIALS.values() for name, options in trials.items()} | {
    name: ("atex", options) for name, options in ABLATIONS.items()
}
# One trial of each of these families walks the code of all.
MORE_OF_THE_SAME = {
    name for family in ("passes", "beta", "atex without the projection") for name in list(TRIALS[family][1])[1:]
}
VARIANTS = ("no training", *SETTINGS, *RIVALS)


def _settings(spec: Spec) -> dict[str, Any]:
    name = spec["variant"]
    options = RIVALS.get(name) or SETTINGS.get(name, ("", {}))[1]
    sizes = {"eps": EPS, "epochs": EPOCHS, "trained on": TRAINED, "attacked": SHARE, "attacks": attacks.TWO}
    return {**{key: list(v) if isinstance(v, tuple) else v for key, v in sizes.items()}, "options": dict(options)}


@kind(
    "variants",
    keys={"dataset": DATASETS, "variant": VARIANTS},
    history=("first", "the worst of two attacks with the preset's starts; eight trials for each family"),
    needs=lambda spec: [("undefended", {key: spec[key] for key in ("dataset", "seed", "preset")})],
    settings=_settings,
    sizes="defense_images batch_size images steps starts",
    canary=[{"dataset": "digits", "variant": name, "seed": 0} for name in VARIANTS if name not in MORE_OF_THE_SAME],
)
def variant(spec: Spec, place: Place) -> Metrics:
    """Train a variant, for one pass unless it says how many, then measure it on validation images.

    Stability is each image's lowest value over two attacks, for each measure by itself.
    """
    name, base = spec["variant"], nets.base_net(place)
    if name == "no training":
        model = base
    elif name in RIVALS:
        model = rival(base, RIVALS[name], place)
    else:
        defense, options = SETTINGS[name]
        count = place.size.defense_images // TRAINED
        options = {"epochs": EPOCHS, **options}
        model = nets.defend(base, defense, options, place, count=count)
    validation = place.images("validation")
    images = place.images("validation", place.size.images // SHARE).images.to(place.device)
    metrics: Metrics = {"accuracy": accuracy(model, validation.images, validation.labels)}
    for eps in EPS:
        each = attacks.each(model, images, place, eps=eps, names=attacks.TWO)
        for measured in ("spearman", "topk"):
            values = plain(attacks.lowest(each, attacks.TWO, measured))
            metrics[f"{measured} {eps}"] = summary(values, decimals=DECIMALS)
    return metrics


def rival(base: nn.Module, options: dict[str, Any], place: Place) -> nn.Module:
    """Train the undefended net on as a rival: cross entropy with weight decay or noisy images."""
    train = place.images("train", place.size.defense_images // TRAINED)
    validation = place.images("validation")
    generator = place.generator()
    x, y = train.images.to(place.device), train.labels.to(place.device)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        noise = torch.randn((len(rows), *x.shape[1:]), generator=generator).to(x)
        return F.cross_entropy(model(x[rows] + options.get("noise", 0.0) * noise), y[rows])

    return optimize(
        base,
        loss,
        count=len(x),
        validate=lambda model: {"accuracy": accuracy(model, validation.images, validation.labels)},
        epochs=EPOCHS,
        batch_size=place.size.batch_size,
        weight_decay=options.get("weight_decay", 0.0),
        device=torch.device(place.device),
        generator=generator,
        progress=place.progress,
    ).model
