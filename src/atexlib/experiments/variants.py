"""Variants of the defences, and rivals: trained alike, measured on validation images, to choose and to compare."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, training
from . import attacks, measure, nets
from .cards import Experiment, Spec
from .presets import PRESETS
from .provenance import declared
from .tables import summary

EPS = (0.05, 0.1)
EPOCHS = 1
TRAINED = 2  # one in so many of a preset's images for defences is trained on
SHARE = 2  # one in so many of a preset's images is attacked

NAIVE = {"eps": 0.1, "weight": 4.0}
ATEX = {"eps": 0.6, "orthogonal_samples": 2}
ASCENT = {"eps": 0.1, "orthogonal_samples": 1, "directions": "ascent", "fidelity": 0.0, "label_weight": 1.0}
# The trials of the search, as many for each defence: what is named is changed.
TRIALS: dict[str, dict[str, dict[str, object]]] = {
    "naive": {
        "naive: weight 4": NAIVE,
        "naive: weight 1": NAIVE | {"weight": 1.0},
        "naive: weight 10": NAIVE | {"weight": 10.0},
        "naive: eps 0.05": NAIVE | {"eps": 0.05},
        "naive: one step of ascent": NAIVE | {"neighbours": "ascent"},
        "naive: SmoothGrad target": NAIVE | {"target_map": "smoothgrad"},
    },
    "atex": {
        "atex: eps 0.6": ATEX,
        "atex: eps 0.1": ATEX | {"eps": 0.1},
        "atex: eps 0.3": ATEX | {"eps": 0.3},
        "atex: alpha 4": ATEX | {"alpha": 4.0},
        "atex: L2 reading, eps 0.1": ATEX | {"eps": 0.1, "reading": "l2"},
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
ABLATIONS: dict[str, dict[str, object]] = {
    "atex: printed noise": ATEX | {"noise": "printed"},
    "atex: 8 samples": ATEX | {"orthogonal_samples": 8},
    "atex: temperature 1": ATEX | {"temperature": 1.0},
    "ascent: mixed with random": ASCENT | {"directions": "mixed"},
}
# Rivals that know nothing of explanations: weight decay, Gaussian noise on the images, blunter units.
RIVALS: dict[str, dict[str, object]] = {
    "plain training": {},
    "weight decay 0.001": {"weight_decay": 1e-3},
    "Gaussian noise 0.3": {"noise": 0.3},
    "beta 3": {"beta": 3.0},
    "beta 1": {"beta": 1.0},
}
SETTINGS = {name: options for trials in TRIALS.values() for name, options in trials.items()} | ABLATIONS
VARIANTS = ("no training", *SETTINGS, *RIVALS)


def variant(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Train a variant for one epoch, then measure accuracy and stability on validation images, untargeted."""
    place = {key: spec[key] for key in ("dataset", "seed", "preset")}
    size = PRESETS[spec["preset"]]
    name = spec["variant"]
    base = nets.base_net(device=device, **place)
    if name == "no training":
        model = base
    elif name in RIVALS:
        model = rival(base, RIVALS[name], device=device, progress=progress, **place)
    else:
        options = {**SETTINGS[name], "epochs": EPOCHS}
        count = size.defense_images // TRAINED
        model = nets.defend(base, options, count=count, device=device, progress=progress, **place)
    validation = data.load(spec["dataset"], "validation")
    images = attacks.first_images(spec["dataset"], "validation", size.images // SHARE).images.to(device)
    metrics: dict[str, object] = {"accuracy": training.accuracy(model, validation.images, validation.labels)}
    for eps in EPS:
        attack = attacks.make("untargeted", images=images, eps=eps, steps=size.steps, starts=1, **place)
        found = measure.stability(model, images, attack, eps=eps, progress=progress)
        metrics |= {f"{key} {eps}": summary(found[key]) for key in ("spearman", "topk", "label_kept")}
    return metrics


def rival(
    base: nn.Module,
    options: dict[str, object],
    *,
    dataset: str,
    seed: int,
    preset: str,
    device: str = "cpu",
    progress: bool = False,
) -> nn.Module:
    """Train the undefended net on as a rival: cross entropy with weight decay, noisy images or blunter units."""
    size = PRESETS[preset]
    train = attacks.first_images(dataset, "train", size.defense_images // TRAINED)
    validation = data.load(dataset, "validation")
    if "beta" in options:
        base = attacks._with_beta(base, options["beta"])
    generator = torch.Generator().manual_seed(seed)
    x, y = train.images.to(device), train.labels.to(device)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        noise = torch.randn((len(rows), *x.shape[1:]), generator=generator).to(device)
        return F.cross_entropy(model(x[rows] + options.get("noise", 0.0) * noise), y[rows])

    return training.optimise(
        base,
        loss,
        count=len(x),
        validate=lambda model: {"accuracy": training.accuracy(model, validation.images, validation.labels)},
        epochs=EPOCHS,
        batch_size=size.batch_size,
        weight_decay=options.get("weight_decay", 0.0),
        device=device,
        generator=generator,
        progress=progress,
    ).model


VARIANT = Experiment(
    "variants",
    {"dataset": data.DATASETS, "variant": VARIANTS, "seed": int, "preset": tuple(PRESETS)},
    variant,
    declared("training", "defenses", "attacks", "variants"),
    lambda spec: ["none"],
)
