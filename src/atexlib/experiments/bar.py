"""How much stability for one point of accuracy: the defences, and blunter units joined with the naive defence."""

from .. import data, training
from . import attacks, measure, nets
from .cards import Experiment, Spec
from .presets import PRESETS
from .provenance import declared
from .tables import summary

EPS = (0.05, 0.1)
STEPS = 40
IMAGES = 128
TRAINED = 2  # one in so many of a preset's images for defences is trained on, as in `variants`
# Options of `train_naive`; `beta` is put into the undefended net first.
RECIPES: dict[str, dict[str, object]] = {
    "naive with ascent": {"eps": 0.05, "weight": 1.5, "neighbours": "ascent"},
    "beta 5, naive with ascent": {"beta": 5.0, "eps": 0.05, "weight": 1.0, "neighbours": "ascent"},
    "beta 3, naive, weight 1": {"beta": 3.0, "eps": 0.1, "weight": 1.0},
    "beta 3, naive, weight 2": {"beta": 3.0, "eps": 0.1, "weight": 2.0},
}
NETS = (*nets.DEFENSES, *RECIPES)


def bar(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Accuracy, and stability under an untargeted attack of 40 steps from the image: on validation and test images.

    Recipes are trained for one pass here. They are chosen by the validation images, whose numbers are named so.
    """
    place = {key: spec[key] for key in ("dataset", "seed", "preset")}
    size, name = PRESETS[spec["preset"]], spec["net"]
    if name in RECIPES:
        options = {**RECIPES[name], "epochs": 1}
        base = nets.base_net(device=device, **place)
        beta = options.pop("beta", None)
        base = base if beta is None else attacks._with_beta(base, beta)
        count = size.defense_images // TRAINED
        model = nets.defend(base, options, count=count, device=device, progress=progress, **place)
    else:
        model = nets.trained(defense=name, device=device, **place)
    found: dict[str, object] = {}
    for prefix, split in {"validation ": "validation", "": "test"}.items():
        images = data.load(spec["dataset"], split)
        found[f"{prefix}accuracy"] = training.accuracy(model, images.images, images.labels)
        x = attacks.first_images(spec["dataset"], split, min(IMAGES, size.images)).images.to(device)
        for eps in EPS:
            attack = attacks.make("untargeted", images=x, eps=eps, steps=STEPS, starts=1, **place)
            stable = measure.stability(model, x, attack, eps=eps, progress=progress)
            found |= {f"{prefix}{key} {eps}": summary(stable[key]) for key in ("spearman", "topk", "label_kept")}
    return found


def _rests_on(spec: Spec) -> list[str]:
    return ["none" if spec["net"] in RECIPES else spec["net"]]


STABILITY_BAR = Experiment(
    "bar",
    {"dataset": data.DATASETS, "net": NETS, "seed": int, "preset": tuple(PRESETS)},
    bar,
    declared("training", "defenses", "attacks", "bar"),
    _rests_on,
)
