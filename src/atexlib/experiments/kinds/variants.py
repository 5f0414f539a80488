"""Variants of the defences, and rivals: trained alike, measured on validation images, to choose and to compare."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data import DATASETS
from ...nets import accuracy, with_beta
from ...nets.training import optimize
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets

EPS = (0.05, 0.1)
EPOCHS = 1
TRAINED = 2  # one in so many of a preset's images for defences is trained on
SHARE = 2  # one in so many of a preset's images is attacked
NAIVE = {"eps": 0.1, "weight": 4.0}
ATEX = {"eps": 0.6, "orthogonal_samples": 2}
ASCENT = {"eps": 0.1, "orthogonal_samples": 1, "directions": "ascent", "fidelity": 0.0, "label_weight": 1.0}

# The trials of the search, as many for each defence: what is named is changed.
TRIALS: dict[str, dict[str, dict[str, Any]]] = {
    "naive": {
        "naive: weight 4": NAIVE,
        "naive: weight 1": NAIVE | {"weight": 1.0},
        "naive: weight 10": NAIVE | {"weight": 10.0},
        "naive: eps 0.05": NAIVE | {"eps": 0.05},
        "naive: one step of ascent": NAIVE | {"neighbors": "ascent"},
        "naive: SmoothGrad target": NAIVE | {"target_map": "smoothgrad"},
    },
    "atex": {
        "atex: eps 0.6": ATEX,
        "atex: eps 0.1": ATEX | {"eps": 0.1},
        "atex: eps 0.3": ATEX | {"eps": 0.3},
        "atex: alpha 4": ATEX | {"alpha": 4.0},
        "atex: L2 reading, eps 0.1": ATEX | {"eps": 0.1, "norm": "l2"},
        "atex: labels instead of f(x)": ATEX | {"fidelity": 0.0, "label_weight": 1.0},
    },
    "atex_ascent": {
        "ascent: eps 0.1": ASCENT,
        "ascent: eps 0.05": ASCENT | {"eps": 0.05},
        "ascent: eps 0.15": ASCENT | {"eps": 0.15},
        "ascent: alpha 3": ASCENT | {"alpha": 3.0},
        "ascent: one step": ASCENT | {"ascent_steps": 1},
        "ascent: f(x) instead of labels": ASCENT | {"fidelity": 1.0, "label_weight": 0.0},
    },
}

# Ablations of ATEX beyond the search.
ABLATIONS: dict[str, dict[str, Any]] = {
    "atex: printed noise": ATEX | {"noise": "printed"},
    "atex: 8 samples": ATEX | {"orthogonal_samples": 8},
    "atex: temperature 1": ATEX | {"temperature": 1.0},
    "ascent: mixed with random": ASCENT | {"directions": "mixed"},
}

# Rivals that know nothing of explanations: weight decay, Gaussian noise on the images, blunter units.
RIVALS: dict[str, dict[str, Any]] = {
    "plain training": {},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "Gaussian noise 0.3": {"noise": 0.3},
    "beta 3": {"beta": 3.0},
    "beta 1": {"beta": 1.0},
}

SETTINGS = {name: (defense, options) for defense, trials in TRIALS.items() for name, options in trials.items()} | {
    name: ("atex", options) for name, options in ABLATIONS.items()
}
VARIANTS = ("no training", *SETTINGS, *RIVALS)


def _settings(spec: Spec) -> dict[str, Any]:
    name = spec["variant"]
    options = RIVALS.get(name) or SETTINGS.get(name, ("", {}))[1]
    sizes = {"eps": EPS, "epochs": EPOCHS, "trained on": TRAINED, "attacked": SHARE}
    return {**{key: list(v) if isinstance(v, tuple) else v for key, v in sizes.items()}, "options": dict(options)}


@kind(
    "variants",
    keys={"dataset": DATASETS, "variant": VARIANTS},
    history=("first",),
    needs=lambda spec: [("undefended", {key: spec[key] for key in ("dataset", "seed", "preset")})],
    settings=_settings,
    sizes="defense_images batch_size images steps",
    canary=[{"dataset": "digits", "variant": name, "seed": 0} for name in VARIANTS],
)
def variant(spec: Spec, place: Place) -> Metrics:
    """Train a variant for one epoch, then measure accuracy and stability on validation images, untargeted."""
    name, base = spec["variant"], nets.base_net(place)
    if name == "no training":
        model = base
    elif name in RIVALS:
        model = rival(base, RIVALS[name], place)
    else:
        defense, options = SETTINGS[name]
        count = place.size.defense_images // TRAINED
        model = nets.defend(base, defense, {**options, "epochs": EPOCHS}, place, count=count)
    validation = place.images("validation")
    images = place.images("validation", place.size.images // SHARE).images.to(place.device)
    metrics: Metrics = {"accuracy": accuracy(model, validation.images, validation.labels)}
    for eps in EPS:
        attack = attacks.make("untargeted", place, images, eps=eps, steps=place.size.steps, starts=1)
        found = measure.stability(model, images, attack, eps=eps, progress=place.progress)
        metrics |= {f"{key} {eps}": summary(found[key]) for key in ("spearman", "topk", "label_kept")}
    return metrics


def rival(base: nn.Module, options: dict[str, Any], place: Place) -> nn.Module:
    """Train the undefended net on as a rival: cross entropy with weight decay, noisy images or blunter units."""
    train = place.images("train", place.size.defense_images // TRAINED)
    validation = place.images("validation")
    if "beta" in options:
        base = with_beta(base, options["beta"])
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
