"""Stability of maps: Tables 1-4, other attacks, larger budgets, other explainers."""

import functools

from ...data import DATASETS
from ...explain import Explainer, grad_cam, gradient_x_input, integrated_gradients, smoothgrad
from ...nets import accuracy
from ..engine.kinds import Metrics, Spec, kind, need
from ..engine.numbers import DIGITS, summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets

EXPLAINED_IMAGES = 48  # attacks on explainers that average many gradients are slow
BUDGET_IMAGES = 64
EXPLAINER_SAMPLES = 8
EXPLAINERS: dict[str, Explainer] = {
    "gradient_x_input": gradient_x_input,
    "smoothgrad": functools.partial(smoothgrad, samples=EXPLAINER_SAMPLES),
    "integrated_gradients": functools.partial(integrated_gradients, steps=EXPLAINER_SAMPLES),
    "grad_cam": grad_cam,
}
SETTINGS = {**attacks.SETTINGS, "digits": DIGITS}
LOSE_LABELS = ("noise", "transfer")  # the other attacks give back no image that lost its label


@kind(
    "table",
    keys={"dataset": DATASETS, "attack": ("untargeted", "targeted"), "defense": nets.TREATED, "eps": float},
    history=("first",),
    needs=nets.needs_net,
    settings=SETTINGS,
    sizes="images steps starts",
    canary=[
        {"dataset": "digits", "attack": name, "defense": "none", "eps": 0.1, "seed": 0}
        for name in ("untargeted", "targeted")
    ],
)
def table(spec: Spec, place: Place) -> Metrics:
    """One cell of Tables 1-4: stability of the gradient map, and accuracy."""
    return cell(spec, place, count=place.size.images)


def _attacks_needs(spec: Spec) -> list[tuple[str, Spec]]:
    if spec["attack"] != "transfer":
        return nets.needs_net(spec)
    return [*nets.needs_net(spec), need(nets.elsewhere(spec))]


@kind(
    "attacks",
    keys={"dataset": DATASETS, "attack": attacks.ATTACKS, "defense": nets.TREATED, "eps": float},
    history=(
        "first",
        "a slope that is rounding becomes a random push, which moves `distance` alone",
        "a step looks at the score and at a tolerance together, which moves `tolerance` alone",
    ),
    needs=_attacks_needs,
    settings=lambda spec: SETTINGS | ({"lost labels": "no value"} if spec["attack"] in LOSE_LABELS else {}),
    sizes="images steps starts",
    canary=[
        {"dataset": "digits", "attack": name, "defense": "none", "eps": 0.1, "seed": 0}
        for name in ("center_mass", "target_map", "distance", *attacks.OTHERS)
    ],
)
def other_attacks(spec: Spec, place: Place) -> Metrics:
    """A cell like those of Tables 1-4, of another attack."""
    return cell(spec, place, count=place.size.images)


@kind(
    "budget",
    keys={"dataset": DATASETS, "defense": nets.TREATED, "steps": int, "starts": int, "eps": float},
    history=("first",),
    needs=nets.needs_net,
    settings={**SETTINGS, "images": BUDGET_IMAGES},
    sizes="images",
    canary=[{"dataset": "digits", "defense": "none", "steps": 2, "starts": 2, "eps": 0.1, "seed": 0}],
)
def budget(spec: Spec, place: Place) -> Metrics:
    """Stability under an untargeted attack of a given number of steps and starts."""
    effort = {"steps": spec["steps"], "starts": spec["starts"]}
    return cell({**spec, "attack": "untargeted"}, place, count=min(BUDGET_IMAGES, place.size.images), **effort)


@kind(
    "explainers",
    keys={"dataset": DATASETS, "defense": nets.TREATED, "explainer": EXPLAINERS, "eps": float},
    history=("first",),
    needs=nets.needs_net,
    settings={**SETTINGS, "images": EXPLAINED_IMAGES, "samples": EXPLAINER_SAMPLES},
    sizes="images steps starts",
    canary=[{"dataset": "digits", "defense": "none", "explainer": name, "eps": 0.1, "seed": 0} for name in EXPLAINERS],
)
def other_explainer(spec: Spec, place: Place) -> Metrics:
    """Stability of another explainer's map under an untargeted attack on that explainer."""
    count = min(EXPLAINED_IMAGES, place.size.images)
    return cell({**spec, "attack": "untargeted"}, place, count=count, explainer=EXPLAINERS[spec["explainer"]])


def cell(
    spec: Spec,
    place: Place,
    *,
    count: int,
    steps: int | None = None,
    starts: int | None = None,
    explainer: str | Explainer = "gradient",
) -> Metrics:
    """Attack the first `count` test images of a spec's net, with the preset's effort unless another is given."""
    model = nets.net_at(place, spec["defense"])
    images = place.images("test", count).images.to(place.device)
    effort = {"steps": steps or place.size.steps, "starts": starts or place.size.starts}
    attack = attacks.make(spec["attack"], place, images, eps=spec["eps"], explainer=explainer, **effort)
    found = measure.stability(model, images, attack, eps=spec["eps"], explainer=explainer, progress=place.progress)
    found.pop("dithered")  # which only the worst case keeps
    test = place.images("test")
    return {
        "accuracy": accuracy(model, test.images, test.labels),
        **{name: summary(values) for name, values in found.items()},
    }
