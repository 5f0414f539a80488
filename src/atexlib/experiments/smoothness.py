"""The experiment on smoother maps (Figures 3 and 4): near to SmoothGrad, smooth, on the object, faithful, stable?"""

import functools

import torch
from torch import Tensor

from .. import data, explainers, faithfulness, metrics, training
from ..explainers import normalize
from . import attacks, iterations, measure, nets
from .cards import Experiment, Spec
from .measure import _plain as plain
from .presets import PRESETS
from .provenance import declared
from .tables import EXPLAINER_SAMPLES, summary, test_accuracy

COPIES = 100  # noisy copies of the reference, as in the paper
ATTACKED = 4  # the attack on the maps takes this fraction of a preset's images
ATTACK_EPS = 0.06
MAPS = {
    "gradient": explainers.gradient,
    "blur 1": functools.partial(faithfulness.blurred_gradient, sigma=1.0),
    "blur 2": functools.partial(faithfulness.blurred_gradient, sigma=2.0),
    "smoothgrad": functools.partial(explainers.smoothgrad, samples=EXPLAINER_SAMPLES, sigma=nets.SIGMA),
}


def smoothness(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """What a map of a net after some iterations is like, image by image; all maps are of the undefended net's class.

    `ssim max`, `ssim l1`, `ssim raw`: to the SmoothGrad map of the undefended net, both maps divided by their largest
    value, by their sum, or as they are. `variation`, `mass`, `deletion`, `insertion`: see `faithfulness`. `spearman`,
    `topk`: of the map before and after an untargeted attack on it.
    """
    place = {key: spec[key] for key in ("dataset", "seed", "preset")}
    size = PRESETS[spec["preset"]]
    images = attacks.first_images(spec["dataset"], "test", size.images).images.to(device)
    model = iterations.after(spec["iterations"], defense=spec["defense"], device=device, progress=progress, **place)
    reference, target = _reference(device=device, **place)
    explainer = MAPS[spec["map"]]
    maps = explainer(model, images, target)
    attacked = images[: max(1, len(images) // ATTACKED)]
    attack = attacks.make(
        "untargeted",
        images=attacked,
        eps=ATTACK_EPS,
        steps=size.steps,
        starts=size.starts,
        explainer=explainer,
        **place,
    )
    stable = measure.stability(model, attacked, attack, eps=ATTACK_EPS, explainer=explainer, progress=progress)
    curves = {name: getattr(faithfulness, name)(model, images, maps, target) for name in ("deletion", "insertion")}
    found = {
        "ssim max": metrics.ssim(normalize(maps), normalize(reference)),
        "ssim l1": metrics.ssim(normalize(maps, by="l1"), normalize(reference, by="l1")),
        "ssim raw": metrics.ssim(maps.abs(), reference.abs()),
        "rank": metrics.spearman(maps.abs(), reference.abs()),
        "variation": faithfulness.total_variation(maps),
        "mass": faithfulness.mass_on(maps, images > 0),
        **{name: faithfulness.area(curve) for name, curve in curves.items()},
        "same class": training.predict(model, images).argmax(1) == target,
    }
    return {
        "accuracy": test_accuracy(model, spec["dataset"]),
        "curves": {name: curve.mean(0).tolist() for name, curve in curves.items()},
        **{name: summary(plain(values)) for name, values in found.items()},
        **{name: summary(stable[name]) for name in ("spearman", "topk", "label_kept")},
    }


@functools.lru_cache(maxsize=1)
def _reference(*, dataset: str, seed: int, preset: str, device: str) -> tuple[Tensor, Tensor]:
    """SmoothGrad maps of the undefended net with many copies, and the classes it predicts."""
    base = nets.base_net(dataset=dataset, seed=seed, preset=preset, device=device)
    images = attacks.first_images(dataset, "test", PRESETS[preset].images).images.to(device)
    target = training.predict(base, images).argmax(1)
    generator = torch.Generator().manual_seed(seed + 1)  # not the noise of the rival map
    return explainers.smoothgrad(base, images, target, samples=COPIES, sigma=nets.SIGMA, generator=generator), target


def _rests_on(_spec: Spec) -> list[str]:
    return ["none"]


SMOOTHNESS = Experiment(
    "smoothness",
    {
        "dataset": data.DATASETS,
        "defense": iterations.ITERATED,
        "iterations": int,
        "map": tuple(MAPS),
        "seed": int,
        "preset": tuple(PRESETS),
    },
    smoothness,
    declared("training", "defenses", "attacks", "explainers", "iterations", "smoothness"),
    _rests_on,
)
