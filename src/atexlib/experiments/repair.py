"""The two attacks and the defences together: does a defended net resist fooling, and what repairs a fooled net?"""

import torch
from torch import nn

from .. import data, model_manipulation, training
from . import attacks, measure, nets
from .cards import Experiment, Spec
from .measure import _plain as plain
from .presets import PRESETS
from .provenance import declared
from .tables import summary

LAYER = {"lrp": "act1", "grad_cam": None, "gradient": None}
BATCH = 128
FOOL_BATCH = 32
LR = 1e-3
WEIGHT = 0.2  # of fooling by centre-mass, which works best on this net
FOOLED_ON = 512
WATCHED = 1000
SEEN = 4  # a treatment sees one in so many of a preset's images: others than the fooling saw, but for digits
TREATMENTS = ("none", "fine-tuning", "naive", "atex")
ATTACK_EPS = 0.06


def repair(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Fool a net (defended, or not) by centre-mass, treat it, and compare its maps with those of the net before.

    The treatment knows nothing of the fooling, and has clean images alone: cross entropy, the naive defence or ATEX,
    one pass. `success`, `spearman`, `dead`, ...: of the explainer that was fooled, image by image. `control success`
    and so on: of the net before, treated alike without having been fooled, which shows what the treatment does to the
    maps. `accuracy`: before, fooled, treated. `attacked spearman`: of the treated net's gradient under an untargeted
    manipulation.
    """
    place = {key: spec[key] for key in ("dataset", "seed", "preset")}
    size = PRESETS[spec["preset"]]
    honest = nets.trained(defense=spec["defense"], device=device, **place)
    images, test = data.load(spec["dataset"], "train"), data.load(spec["dataset"], "test")
    validation = data.load(spec["dataset"], "validation")
    validation = validation.first(min(WATCHED, len(validation.labels)))
    count = min(size.defense_images // SEEN, len(images.labels) // 2)
    where = {"explainer": spec["explainer"], "layer": LAYER[spec["explainer"]]}
    fooled = model_manipulation.fool(
        honest,
        images.images[-count:],
        images.labels[-count:],
        loss="center_mass",
        weight=WEIGHT,
        lr=LR,
        fool_set=(images.images[-FOOLED_ON:], images.labels[-FOOLED_ON:]),
        validation=(validation.images, validation.labels),
        steps=size.fool_steps,
        look_every=size.fool_steps,
        batch_size=BATCH,
        fool_batch_size=FOOL_BATCH,
        device=device,
        generator=torch.Generator().manual_seed(spec["seed"]),
        progress=progress,
        **where,
    ).model
    options = {"count": count, "device": device, "progress": progress, **place}
    treated, control = (_treated(net, spec["treatment"], **options) for net in (fooled, honest))
    judged = test.first(min(size.images, len(test.labels)))
    x, y = judged.images.to(device), judged.labels.to(device)
    rules = {"loss": "center_mass", **where}
    found = model_manipulation.success(honest, treated, x, y, **rules)
    found |= {f"control {k}": v for k, v in model_manipulation.success(honest, control, x, y, **rules).items()}
    x = x[: max(1, len(x) // 4)]
    effort = {"eps": ATTACK_EPS, "steps": size.steps, "starts": size.starts}
    stable = measure.stability(treated, x, attacks.make("untargeted", images=x, **effort, **place), eps=ATTACK_EPS)
    return {
        "accuracy": [training.accuracy(net, test.images, test.labels) for net in (honest, fooled, treated)],
        **{name.replace("_", " "): summary(plain(values)) for name, values in found.items()},
        "attacked spearman": summary(stable["spearman"]),
    }


def _treated(
    model: nn.Module, treatment: str, *, dataset: str, seed: int, preset: str, count: int, device: str, progress: bool
) -> nn.Module:
    place = {"dataset": dataset, "seed": seed, "preset": preset}
    if treatment == "none":
        return model
    if treatment in nets.SETTINGS:
        settings = {**nets.SETTINGS[treatment], "epochs": 1}
        return nets.defend(model, settings, count=count, device=device, progress=progress, **place)
    images, validation = attacks.first_images(dataset, "train", count), data.load(dataset, "validation")
    return training.fit(
        model,
        images.images,
        images.labels,
        validation=(validation.images, validation.labels),
        epochs=1,
        batch_size=PRESETS[preset].batch_size,
        device=device,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    ).model


REPAIR = Experiment(
    "repair",
    {
        "dataset": data.DATASETS,
        "defense": ("none", "naive", "atex"),
        "explainer": tuple(LAYER),
        "treatment": TREATMENTS,
        "seed": int,
        "preset": tuple(PRESETS),
    },
    repair,
    declared("training", "defenses", "attacks", "lies", "repair"),
    lambda spec: [spec["defense"]],
)
