"""A net before the judge: the whole suite, its controls and flags, and what predictions are worth under attack.

And once more with six times the budget, to see whether the suite is strong enough.
"""

from typing import Any

from torch import Tensor, nn

from ...attack import pgd
from ...data import DATASETS
from ...judge import Judgement, judge
from ...judge.judging import NOISE
from ...nets import accuracy
from ..engine import results
from ..engine.kinds import Metrics, Spec, kind, need
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import nets

SUITE, LONG, SMOKE = "v1", "v1-long", "smoke"
IMAGES = 48  # test images whose maps are attacked
PREDICTED = 1000  # test images whose predictions are
PGD_STEPS = 20
EXPLAINER = "gradient"
DECIMALS = 3  # of the values in a card
READ = ("spearman", "topk")
SETTINGS = {
    "suite": SUITE,
    "images": IMAGES,
    "predicted": PREDICTED,
    "pgd steps": PGD_STEPS,
    "explainer": EXPLAINER,
    "decimals": DECIMALS,
}


RESTS: dict[str, Any] = {
    "keys": {"dataset": DATASETS, "defense": nets.TREATED, "eps": float},
    "history": ("first",),
    "needs": lambda spec: [need(nets.net_spec(spec)), need(nets.elsewhere(spec))],
    "canary": [{"dataset": "digits", "defense": "none", "eps": 0.1, "seed": 0}],
    "varies": frozenset({"seconds"}),
}


@kind("judged", settings=SETTINGS, **RESTS)
def judged(spec: Spec, place: Place) -> Metrics:
    """What stands of each map under the whole suite, what noise leaves, the flags; accuracy, clean and under PGD.

    The sibling of `transfer` is the undefended net of another seed.
    """
    model, test = nets.net_at(place, spec["defense"]), place.images("test")
    found = _before(model, spec, place, SUITE)
    attackers = found.values[EXPLAINER]
    many = test.first(min(PREDICTED, len(test.labels)))
    attacked = pgd(
        model,
        many.images.to(place.device),
        many.labels.to(place.device),
        eps=spec["eps"],
        steps=2 if place.is_canary else PGD_STEPS,
        generator=place.generator(),
    )
    return {
        "accuracy": accuracy(model, test.images, test.labels),
        "pgd accuracy": accuracy(model, attacked, many.labels),
        **_stands(found),
        **{f"noise {measure}": _numbers(attackers[NOISE][measure]) for measure in READ},
        "attackers": {
            name: {measure: round(values[measure].nanmean().item(), DECIMALS) for measure in READ}
            for name, values in attackers.items()
            if not values["spearman"].isnan().all()
        },
        "flags": found.flags[EXPLAINER],
        "seconds": found.seconds,
    }


@kind("judged_long", settings={**SETTINGS, "suite": LONG}, **RESTS)
def judged_long(spec: Spec, place: Place) -> Metrics:
    """What stands of each map under the suite with six times the budget."""
    found = _before(nets.net_at(place, spec["defense"]), spec, place, LONG)
    return {**_stands(found), "seconds": found.seconds}


def _before(model: nn.Module, spec: Spec, place: Place, suite: str) -> Judgement:
    test = place.images("test")
    few = test.first(place.size.images if place.is_canary else min(IMAGES, len(test.labels)))
    return judge(
        model,
        few.images.to(place.device),
        few.labels,
        eps=spec["eps"],
        explainers=(EXPLAINER,),
        sibling=results.net_of(nets.elsewhere(spec), place),
        suite=SMOKE if place.is_canary else suite,
        progress=place.progress,
    )


def _stands(found: Judgement) -> Metrics:
    worst = {measure: _numbers(found.worst(EXPLAINER, measure)) for measure in READ}
    return {"kept": _numbers(found.kept(EXPLAINER)), **worst}


def _numbers(values: Tensor) -> dict[str, Any]:
    return summary(plain(values), decimals=DECIMALS)
