"""The experiments on predictions: does ATEX help adversarial training (Figure 5), and Theorem 1 in numbers."""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attack import Ball, fgsm, loss_gradient, margin, pgd
from ...data import DATASETS
from ...defend import adversarial_training, orthogonal_ascent
from ...nets import frozen, logits_of, of_class, predict
from ..engine import results
from ..engine.kinds import Metrics, Spec, kind, need
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import nets

FGSM_EPS = 0.1
L2_EPS = 1.5
PGD_STEPS = 20
PGD_STARTS = 2
TRAINED = 2  # this fraction of the images that a preset defends on
EPOCHS = 1
RECIPES = ("once", "refresh")
DIRECTIONS = ("random", "transfer", "orthogonal", "pgd l2", "pgd")
SETTINGS = {
    "fgsm eps": FGSM_EPS,
    "l2 eps": L2_EPS,
    "pgd steps": PGD_STEPS,
    "pgd starts": PGD_STARTS,
    "trained on": TRAINED,
    "epochs": EPOCHS,
}


def _needs(spec: Spec) -> list[tuple[str, Spec]]:
    """The undefended net, and that of another seed for the direction `transfer`."""
    return [need(nets.undefended_spec(spec)), need(nets.elsewhere(spec))]


def harden(model: nn.Module, spec: Spec, place: Place) -> nn.Module:
    """A copy of a net, trained adversarially by the spec's recipe."""
    train = place.images("train", place.size.defense_images // TRAINED)
    refresh = spec["recipe"] == "refresh"
    return adversarial_training(
        model,
        train,
        eps=FGSM_EPS,
        count=None if refresh else max(1, round(spec["share"] * len(train.labels))),
        refresh=refresh,
        epochs=EPOCHS,
        batch_size=place.size.batch_size,
        device=place.device,
        generator=place.generator(),
        progress=place.progress,
    ).model


def _margins(spec: Spec, place: Place) -> dict[str, Tensor]:
    """By how much each attacked image is classified rightly or wrongly: what `right or wrong` hides from a canary."""
    model = nets.after(place, spec["defense"], spec["iterations"])
    hardened = harden(model, spec, place)
    test = place.images("test", place.size.images)
    x, y = test.images, test.labels
    found = other_directions(hardened, results.net_of(nets.elsewhere(spec), place), x, y, seed=spec["seed"])
    attacked = {"before": fgsm(model, x, y, eps=FGSM_EPS), "fgsm": fgsm(hardened, x, y, eps=FGSM_EPS), **found}
    return {f"margin {name}": margin(predict(hardened, z), y) for name, z in attacked.items()}


@kind(
    "adversarial_efficacy",
    keys={"dataset": DATASETS, "defense": nets.ITERATED, "iterations": int, "share": float, "recipe": RECIPES},
    history=("first",),
    needs=_needs,
    settings=lambda spec: {**SETTINGS, **nets.iteration_settings(spec)},
    sizes="defense_images batch_size images",
    canary=[
        {"dataset": "digits", "defense": "plain", "iterations": 0, "share": share, "recipe": recipe, "seed": 0}
        for share, recipe in ((0.5, "once"), (1.0, "refresh"))
    ],
    varies=frozenset(["training seconds"]),
    probe=_margins,
)
def adversarial_efficacy(spec: Spec, place: Place) -> Metrics:
    """Train a net adversarially after some iterations of a defence; which test images does it then classify rightly?

    `before` and `fgsm`: images of a new round of FGSM, before and after that training. `clean`, and DIRECTIONS: see
    `other_directions`. The spec's `share` is that of the training images of which FGSM images are added.
    """
    if spec["share"] > 1 or (spec["recipe"] == "refresh" and spec["share"] != 1):
        raise ValueError(f"the share is {spec['share']}; pass at most 1, and 1 with the recipe refresh.")
    model = nets.after(place, spec["defense"], spec["iterations"])
    start = time.perf_counter()
    hardened = harden(model, spec, place)
    seconds = time.perf_counter() - start
    test = place.images("test", place.size.images)
    x, y = test.images.to(place.device), test.labels.to(place.device)
    other = results.net_of(nets.elsewhere(spec), place)
    elsewhere = other_directions(hardened, other, x, y, seed=spec["seed"])
    right = {
        "before": _right(model, fgsm(model, x, y, eps=FGSM_EPS), y),
        "clean": _right(hardened, x, y),
        "fgsm": _right(hardened, fgsm(hardened, x, y, eps=FGSM_EPS), y),
        **{name: _right(hardened, z, y) for name, z in elsewhere.items()},
    }
    return {"training seconds": round(seconds, 1), **{name: summary(values) for name, values in right.items()}}


def other_directions(model: nn.Module, other: nn.Module, x: Tensor, y: Tensor, *, seed: int) -> dict[str, Tensor]:
    """Images (N, C, H, W) attacked in other directions than that of FGSM on this net.

    `random`: a random corner of FGSM's ball. `transfer`: FGSM on another net. `orthogonal`: 20 steps up the loss
    orthogonally to its gradient at x, in FGSM's ball (clipping to [0, 1] comes last and bends the angle a little).
    `pgd`: 20 steps and two starts in FGSM's ball. `pgd l2`: the same in an L2 ball of radius 1.5.
    """
    generator = torch.Generator().manual_seed(seed)
    ball = Ball(x, FGSM_EPS, "linf", (0.0, 1.0))
    slope = loss_gradient(model, x, y)
    search: dict[str, Any] = {"steps": PGD_STEPS, "starts": PGD_STARTS, "generator": generator}
    with frozen(model):
        sideways = orthogonal_ascent(
            lambda z: F.cross_entropy(model(z), y, reduction="none"),
            x, slope, radius=FGSM_EPS, steps=PGD_STEPS, generator=generator,
        )  # fmt: skip
    return {
        "random": ball.corner(generator),
        "transfer": fgsm(other, x, y, eps=FGSM_EPS),
        "orthogonal": ball.project(sideways),
        "pgd l2": pgd(model, x, y, eps=L2_EPS, norm="l2", **search),
        "pgd": pgd(model, x, y, eps=FGSM_EPS, **search),
    }


def _right(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    return (predict(model, x).argmax(1) == y).int().tolist()


@kind(
    "theorem1",
    keys={"dataset": DATASETS, "defense": nets.TREATED},
    history=("first",),
    needs=nets.needs_net,
    sizes="images",
    canary=[{"dataset": "digits", "defense": "none", "seed": 0}],
)
def theorem1(spec: Spec, place: Place) -> Metrics:
    """1 + the cosine between the loss gradient and a gradient map, in float64: 0 where they are exactly antiparallel.

    The loss is cross entropy towards the predicted class; the maps explain its `probability`, its `log-probability` and
    its `logit`. `missing` counts images at which a gradient is zero in float64.
    """
    model = nets.net_at(place, spec["defense"]).double()
    x = place.images("test", place.size.images).images.to(place.device).double()
    target = predict(model, x).argmax(1)
    delta = loss_gradient(model, x, target)
    outputs = {
        "probability": lambda logits: logits.softmax(1),
        "log-probability": lambda logits: logits.log_softmax(1),
        "logit": lambda logits: logits,
    }
    found = {name: 1 + _cosine(delta, _gradient_of(model, x, target, output)) for name, output in outputs.items()}
    confidence = of_class(predict(model, x).softmax(1), target)
    return {name: summary(plain(values)) for name, values in {**found, "confidence": confidence}.items()}


def _gradient_of(model: nn.Module, x: Tensor, target: Tensor, output: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient of one class's entry of `output(logits)` by the image; no explainer, as those refuse probabilities."""
    with frozen(model):
        z = x.detach().requires_grad_()
        return torch.autograd.grad(of_class(output(logits_of(model, z)), target).sum(), z)[0]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine (B,) of two batches, nan where one of them is zero."""
    a, b = a.flatten(1), b.flatten(1)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
