"""Was this model manipulated? Every sign of every kind of net, honest or not; and of liars who know the signs."""

from typing import Any

from ...attack import disguises
from ...data import DATASETS
from ...judge import SIGNS, suspicion
from ...maps import spearman
from ...nets import accuracy, predict
from ..engine.kinds import Metrics, Spec, kind, need
from ..engine.numbers import DIGITS
from ..engine.place import Place
from ..subjects import exam, recipes

SHOWN = 256  # test images that the auditor has
FEW = 6  # in a canary
TESTED = 500  # for the accuracy
AGAINST = ("deletion", "differences")
SETTINGS = {**recipes.SETTINGS, "shown": SHOWN, "tested": TESTED, "signs": list(SIGNS)}
_SMALL: dict[str, Any] = {"dataset": "digits", "seed": 0}


def _needs(spec: Spec) -> list[tuple[str, Spec]]:
    defense = "naive" if spec.get("net") == "honest_defended" else "none"
    return [] if spec.get("net") == "honest_anew" else [need(recipes.base_spec(spec, defense))]


@kind(
    "signs",
    keys={"dataset": DATASETS, "net": recipes.RECIPES},
    history=("first", "the error of a finite step is no sign"),
    needs=_needs,
    settings=SETTINGS,
    sizes="fool_steps",
    canary=[
        *({**_SMALL, "net": name} for name in recipes.RECIPES),
        *({**_SMALL, "net": name, "seed": 1} for name in ("fooled_grad_cam", "active", "fairwashed", "backdoor")),
        *({**_SMALL, "net": "decorated", "seed": seed} for seed in (1, 2, 3)),
    ],
)
def signs(spec: Spec, place: Place) -> Metrics:
    """Make one net by a recipe, and look for every sign, in the net and in the maps of three explainers.

    `shown`: the explainer whose maps its maker shows. `success`: the share of test images on which the lie works, none
    for an honest net. `moved`: 1 minus Spearman between its maps and those of the net that it was made from.
    `accuracy`: on test images, before and after. `signs`: for the net and each explainer a number for each sign.
    """
    return judged(recipes.RECIPES[spec["net"]].make(place), place)


@kind(
    "hiding",
    keys={"dataset": DATASETS, "against": AGAINST, "weight": float},
    history=("first", "the error of a finite step is no sign"),
    needs=_needs,
    settings={**SETTINGS, "portions": list(disguises.PORTIONS), "soft": disguises.SOFT},
    sizes="fool_steps",
    canary=[{**_SMALL, "against": against, "weight": 0.5, "seed": seed} for against in AGAINST for seed in (0, 1)],
)
def hiding(spec: Spec, place: Place) -> Metrics:
    """The same of a liar who knows a sign, and hides from it.

    Against `deletion`: a net fooled for the gradient (even seeds) or Grad-CAM (odd ones) with the sign's surrogate,
    `attack.disguises.faithful`, added to its loss at this weight. Against `differences`: a constant picture (even
    seeds) or a blur (odd ones) of this weight, the rest the true gradient.
    """
    odd, weight = place.seed % 2, spec["weight"]
    if spec["against"] == "differences":
        return judged(recipes.dressed(place, ("constant", "blur")[odd], mix=min(1.0, weight)), place)

    def disguise(*batch: Any) -> Any:
        return weight * disguises.faithful(*batch)

    return judged(recipes.fooled(place, recipes.shown_by_turns(place), disguise), place)


def judged(made: recipes.Made, place: Place) -> Metrics:
    """What a card holds of a net: what its maker knows, and what an auditor sees."""
    test = place.images("test")
    images = test.images[: FEW if place.is_canary else SHOWN].to(place.device)
    x = images[: recipes.JUDGED]
    target = predict(made.base, x).argmax(1)
    maps = [recipes.explained(net)[made.shown](net, x, target) for net in (made.base, made.model)]
    moved = 1 - spearman(*maps).nanmean().item()
    found = suspicion(made.model, images, explainers=recipes.explained(made.model))
    few = (test.images[:TESTED].to(place.device), test.labels[:TESTED].to(place.device))
    return {
        "shown": made.shown,
        "detail": made.detail,
        "success": None if made.works is None else _short(made.works.double().mean().item()),
        "moved": _short(moved),
        "accuracy": [_short(accuracy(net, *few)) for net in (made.base, made.model)],
        "signs": {each: {name: _short(score) for name, score in row.items()} for each, row in found.items()},
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


@kind(
    "exam",
    keys={"dataset": DATASETS},
    history=("first", "the error of a finite step is no sign"),
    needs=lambda spec: [need(recipes.base_spec({**spec, "seed": seed})) for seed in range(recipes.SEEDS)],
    settings={
        **SETTINGS,
        "nets": exam.NETS,
        "first": exam.FIRST,
        "liars": list(exam.LIARS),
        "honest": list(exam.HONEST),
    },
    sizes="fool_steps",
    canary=[{**_SMALL}],
)
def sat(spec: Spec, place: Place) -> Metrics:
    """The nets of an exam, which no threshold was chosen by, as the auditor of this library sees them.

    `nets`: for each number what it is, and what a card of kind `signs` holds. The grade follows from them and from the
    thresholds, which rest on the cards of that kind.
    """
    found = {}
    few = 2 if place.is_canary else None
    for number, (name, seed) in enumerate(exam.drawn(place.seed)[:few], 1):
        own = Place(place.dataset, seed, place.preset, place.device)
        found[str(number)] = {"net": name, **judged(recipes.RECIPES[name].make(own), own)}
    return {"nets": found}
