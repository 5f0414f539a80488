"""The experiment on smoother maps (Figures 3 and 4): near to SmoothGrad, smooth, on the object, faithful, stable?"""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from ...data import DATASETS
from ...explain import Explainer, gradient, smoothgrad
from ...judge import area, blurred_gradient, deletion, insertion
from ...maps import alike, shape
from ...nets import accuracy, predict
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets
from .tables import EXPLAINER_SAMPLES

COPIES = 100  # noisy copies of the reference, as in the paper
ATTACKED = 4  # the attack on the maps takes this fraction of a preset's images
ATTACK_EPS = 0.06
CHANCE = "random"


def _by_chance(_model: nn.Module, x: Tensor, _target: Tensor) -> Tensor:
    """A map of random numbers, which knows neither net nor image: the level of every measure."""
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype).to(x.device)


MAPS: dict[str, Explainer] = {
    "gradient": gradient,
    "blur 1": functools.partial(blurred_gradient, sigma=1.0),
    "blur 2": functools.partial(blurred_gradient, sigma=2.0),
    "smoothgrad": functools.partial(smoothgrad, samples=EXPLAINER_SAMPLES, sigma=nets.SIGMA),
    CHANCE: _by_chance,
}
SETTINGS = {
    "copies": COPIES,
    "attacked": ATTACKED,
    "eps": ATTACK_EPS,
    "samples": EXPLAINER_SAMPLES,
    "sigma": nets.SIGMA,
}


@kind(
    "smoothness",
    keys={"dataset": DATASETS, "defense": nets.ITERATED, "iterations": int, "map": MAPS},
    history=("first",),
    needs=lambda spec: [("undefended", {key: spec[key] for key in ("dataset", "seed", "preset")})],
    settings=lambda spec: {**SETTINGS, **nets.iteration_settings(spec)},
    sizes="images steps starts defense_images batch_size",
    canary=[
        *({"dataset": "digits", "defense": "plain", "iterations": 0, "map": name, "seed": 0} for name in MAPS),
        {"dataset": "digits", "defense": "atex", "iterations": 2, "map": "gradient", "seed": 0},
    ],
)
def smoothness(spec: Spec, place: Place) -> Metrics:
    """What a map of a net after some iterations is like, image by image; all maps are of the undefended net's class.

    `ssim max`, `ssim l1`, `ssim raw`: to the SmoothGrad map of the undefended net, both maps divided by their largest
    value, by their sum, or as they are. `variation`, `mass`, `deletion`, `insertion`: see `judge.faithfulness`.
    `spearman`, `topk`: of the map before and after an untargeted attack on it, which a random map has not.
    """
    size, test = place.size, place.images("test")
    images = place.images("test", size.images).images.to(place.device)
    model = nets.after(place, spec["defense"], spec["iterations"])
    reference, target = _reference(place)
    explainer = MAPS[spec["map"]]
    maps = explainer(model, images, target)
    curves = {curve.__name__: curve(model, images, maps, target) for curve in (deletion, insertion)}
    found = {
        "ssim max": alike.ssim(shape.normalize(maps), shape.normalize(reference)),
        "ssim l1": alike.ssim(shape.normalize(maps, by="l1"), shape.normalize(reference, by="l1"), data_range=1.0),
        "ssim raw": alike.ssim(maps.abs(), reference.abs(), data_range=1.0),
        "rank": alike.spearman(maps.abs(), reference.abs()),
        "variation": shape.total_variation(maps),
        "mass": shape.mass_on(maps, images > 0),
        **{name: area(curve) for name, curve in curves.items()},
        "same class": predict(model, images).argmax(1) == target,
    }
    return {
        "accuracy": accuracy(model, test.images, test.labels),
        "curves": {name: curve.mean(0).tolist() for name, curve in curves.items()},
        **{name: summary(plain(values)) for name, values in found.items()},
        **({} if spec["map"] == CHANCE else _attacked(place, model, images, explainer)),
    }


def _attacked(place: Place, model: nn.Module, images: Tensor, explainer: Explainer) -> Metrics:
    """What an untargeted attack leaves of the maps of the first images."""
    size, attacked = place.size, images[: max(1, len(images) // ATTACKED)]
    effort: dict[str, Any] = {"steps": size.steps, "starts": size.starts, "explainer": explainer}
    attack = attacks.make("untargeted", place, attacked, eps=ATTACK_EPS, **effort)
    found = measure.stability(model, attacked, attack, eps=ATTACK_EPS, explainer=explainer, progress=place.progress)
    return {name: summary(found[name]) for name in ("spearman", "topk", "label_kept")}


def _reference(place: Place) -> tuple[Tensor, Tensor]:
    """SmoothGrad maps of the undefended net with many copies, and the classes it predicts."""

    def make() -> tuple[Tensor, Tensor]:
        base = nets.base_net(place)
        images = place.images("test", place.size.images).images.to(place.device)
        target = predict(base, images).argmax(1)
        generator = place.generator(shift=1)  # not the noise of the rival map
        return smoothgrad(base, images, target, samples=COPIES, sigma=nets.SIGMA, generator=generator), target

    return place.keep("reference maps", make)
