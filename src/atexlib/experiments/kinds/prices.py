"""How much stability for one point of accuracy: the defences, and blunter units joined with the naive defence."""

from collections import ChainMap
from typing import Any

from ...data import DATASETS
from ...nets import accuracy, with_beta
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets

EPS = (0.05, 0.1)
STEPS = 40
IMAGES = 128
TRAINED = 2  # one in so many of a preset's images for defences is trained on, as in `variants`

# Options of `train_naive`; `beta` is put into the undefended net first.
RECIPES: dict[str, dict[str, Any]] = {
    "naive with ascent": {"eps": 0.05, "weight": 1.5, "neighbors": "ascent"},
    "beta 5, naive with ascent": {"beta": 5.0, "eps": 0.05, "weight": 1.0, "neighbors": "ascent"},
    "beta 3, naive, weight 1": {"beta": 3.0, "eps": 0.1, "weight": 1.0},
    "beta 3, naive, weight 2": {"beta": 3.0, "eps": 0.1, "weight": 2.0},
}

NETS: ChainMap[str, Any] = ChainMap(RECIPES, nets.TREATED)
SETTINGS = {"eps": list(EPS), "steps": STEPS, "images": IMAGES, "trained on": TRAINED}


@kind(
    "price",
    keys={"dataset": DATASETS, "net": NETS},
    history=("first",),
    needs=lambda spec: nets.needs_net({**spec, "defense": "none" if spec["net"] in RECIPES else spec["net"]}),
    settings=lambda spec: {**SETTINGS, "recipe": RECIPES.get(spec["net"], {})},
    sizes="defense_images batch_size images",
    canary=[{"dataset": "digits", "net": name, "seed": 0} for name in ("none", *RECIPES)],
)
def price(spec: Spec, place: Place) -> Metrics:
    """Accuracy, and stability under an untargeted attack of 40 steps from the image: on validation and test images.

    Recipes are trained for one pass here. They are chosen by the validation images, whose numbers are named so.
    """
    name = spec["net"]
    if name in RECIPES:
        options = {**RECIPES[name], "epochs": 1}
        base = nets.base_net(place)
        beta = options.pop("beta", None)
        base = base if beta is None else with_beta(base, beta)
        model = nets.defend(base, "naive", options, place, count=place.size.defense_images // TRAINED)
    else:
        model = nets.net_at(place, name)
    found: Metrics = {}
    for prefix, split in {"validation ": "validation", "": "test"}.items():
        images = place.images(split)
        found[f"{prefix}accuracy"] = accuracy(model, images.images, images.labels)
        x = place.images(split, min(IMAGES, place.size.images)).images.to(place.device)
        for eps in EPS:
            attack = attacks.make("untargeted", place, x, eps=eps, steps=STEPS, starts=1)
            stable = measure.stability(model, x, attack, eps=eps, progress=place.progress)
            found |= {f"{prefix}{key} {eps}": summary(stable[key]) for key in ("spearman", "topk", "label_kept")}
    return found
