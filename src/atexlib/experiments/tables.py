"""The experiments on the stability of maps: Tables 1-4, other attacks, larger budgets, other explainers."""

import functools

import torch
from torch import nn

from .. import data, explainers, training
from ..intervals import bootstrap
from . import attacks, measure, nets
from .cards import Experiment, Spec
from .presets import PRESETS
from .provenance import declared

EXPLAINED_IMAGES = 48  # attacks on explainers that average many gradients are slow
BUDGET_IMAGES = 64
EXPLAINER_SAMPLES = 8
EXPLAINERS = {
    "gradient_x_input": explainers.gradient_x_input,
    "smoothgrad": functools.partial(explainers.smoothgrad, samples=EXPLAINER_SAMPLES),
    "integrated_gradients": functools.partial(explainers.integrated_gradients, steps=EXPLAINER_SAMPLES),
    "grad_cam": explainers.grad_cam,
}


def table(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """One cell of Tables 1-4, and of the tables of other attacks: stability of the gradient map, and accuracy."""
    size = PRESETS[spec["preset"]]
    return _cell(spec, count=size.images, steps=size.steps, starts=size.starts, device=device, progress=progress)


def budget(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Stability under an untargeted attack of a given number of steps and starts."""
    count = min(BUDGET_IMAGES, PRESETS[spec["preset"]].images)
    spec = {**spec, "attack": "untargeted"}
    return _cell(spec, count=count, steps=spec["steps"], starts=spec["starts"], device=device, progress=progress)


def other_explainer(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Stability of another explainer's map under an untargeted attack on that explainer."""
    size = PRESETS[spec["preset"]]
    return _cell(
        {**spec, "attack": "untargeted"},
        count=min(EXPLAINED_IMAGES, size.images),
        steps=size.steps,
        starts=size.starts,
        explainer=EXPLAINERS[spec["explainer"]],
        device=device,
        progress=progress,
    )


def summary(values: list[float | None]) -> dict[str, object]:
    """Per-image values, their mean and 95 % interval over images, and how many have no value."""
    known = torch.tensor([value for value in values if value is not None], dtype=torch.float64)
    interval = bootstrap(known)._asdict() if len(known) > 1 else {}
    return {**interval, "missing": len(values) - len(known), "values": values}


def _cell(
    spec: Spec,
    *,
    count: int,
    steps: int,
    starts: int,
    device: str,
    progress: bool,
    explainer: explainers.Explainer = explainers.gradient,
) -> dict[str, object]:
    place = {key: spec[key] for key in ("dataset", "seed", "preset")}
    model = nets.trained(defense=spec["defense"], device=device, **place)
    images = attacks.first_images(spec["dataset"], "test", count).images.to(device)
    attack = attacks.make(
        spec["attack"], images=images, eps=spec["eps"], steps=steps, starts=starts, explainer=explainer, **place
    )
    found = measure.stability(model, images, attack, eps=spec["eps"], explainer=explainer, progress=progress)
    return {
        "accuracy": test_accuracy(model, spec["dataset"]),
        **{name: summary(values) for name, values in found.items()},
    }


def test_accuracy(model: nn.Module, dataset: str) -> float:
    """Accuracy on the whole test split."""
    test = data.load(dataset, "test")
    return training.accuracy(model, test.images, test.labels)


WHERE = {"dataset": data.DATASETS, "defense": nets.DEFENSES}
WHICH = {"eps": float, "seed": int, "preset": tuple(PRESETS)}


def _rests_on(spec: Spec) -> list[str]:
    return [spec["defense"]]


TABLE = Experiment(
    "table",
    {"dataset": data.DATASETS, "attack": ("untargeted", "targeted"), "defense": nets.DEFENSES, **WHICH},
    table,
    declared("attacks", "table"),
    _rests_on,
)
ATTACKS = Experiment(
    "attacks",
    {"dataset": data.DATASETS, "attack": attacks.ATTACKS[2:], "defense": nets.DEFENSES, **WHICH},
    table,
    declared("attacks", "other_attacks", "table"),
    _rests_on,
    lambda spec: [nets.elsewhere(spec)] if spec["attack"] == "transfer" else [],
)
BUDGET = Experiment(
    "budget",
    {**WHERE, "steps": int, "starts": int, **WHICH},
    budget,
    declared("attacks", "budget"),
    _rests_on,
)
OTHER = Experiment(
    "explainers",
    {**WHERE, "explainer": tuple(EXPLAINERS), **WHICH},
    other_explainer,
    declared("attacks", "explainers"),
    _rests_on,
)
