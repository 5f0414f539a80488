"""The two attacks and the defences together: does a defended net resist fooling, and what repairs a fooled net?"""

from typing import Any

from torch import nn

from ...attack import fool, success
from ...data import DATASETS
from ...defend import DEFENSES
from ...nets import accuracy
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets

LAYER = {"lrp": "conv1", "grad_cam": None, "gradient": None}
BATCH = 128
FOOL_BATCH = 32
LR = 1e-3
WEIGHT = 0.2  # of fooling by centre-mass, which works best on this net
FOOLED_ON = 512
WATCHED = 1000
SEEN = 4  # a treatment sees one in so many of a preset's images: others than the fooling saw, but for digits
TREATMENTS = ("none", "fine-tuning", "naive", "atex")
ATTACK_EPS = 0.06
SETTINGS = {
    "batch": BATCH,
    "fool batch": FOOL_BATCH,
    "lr": LR,
    "weight": WEIGHT,
    "fooled on": FOOLED_ON,
    "watched": WATCHED,
    "seen": SEEN,
    "eps": ATTACK_EPS,
}


def _settings(spec: Spec) -> dict[str, Any]:
    treatment = spec["treatment"]
    return {**SETTINGS, "treated": dict(DEFENSES[treatment].settings) if treatment in DEFENSES else {}}


@kind(
    "repair",
    keys={
        "dataset": DATASETS,
        "defense": ("none", "naive", "atex"),
        "explainer": LAYER,
        "treatment": TREATMENTS,
    },
    history=("first",),
    needs=nets.needs_net,
    settings=_settings,
    sizes="defense_images batch_size images steps starts fool_steps",
    canary=[
        {"dataset": "digits", "defense": "none", "explainer": name, "treatment": treatment, "seed": 0}
        for name, treatment in zip(("lrp", "grad_cam", "gradient", "gradient"), TREATMENTS, strict=True)
    ],
)
def repair(spec: Spec, place: Place) -> Metrics:
    """Fool a net (defended, or not) by centre-mass, treat it, and compare its maps with those of the net before.

    The treatment knows nothing of the fooling, and has clean images alone: cross entropy, the naive defence or ATEX,
    one pass. `success`, `spearman`, `dead`, ...: of the explainer that was fooled, image by image. `control success`
    and so on: of the net before, treated alike without having been fooled, which shows what the treatment does to the
    maps. `accuracy`: before, fooled, treated. `attacked spearman`: of the treated net's gradient under an untargeted
    manipulation.
    """
    size, images, test = place.size, place.images("train"), place.images("test")
    honest = nets.net_at(place, spec["defense"])
    count = min(size.defense_images // SEEN, len(images.labels) // 2)
    where = {"explainer": spec["explainer"], "layer": LAYER[spec["explainer"]]}
    fooled = fool(
        honest,
        (images.images[-count:], images.labels[-count:]),
        loss="center_mass",
        weight=WEIGHT,
        lr=LR,
        fool_set=(images.images[-FOOLED_ON:], images.labels[-FOOLED_ON:]),
        validation=place.images("validation", WATCHED),
        steps=size.fool_steps,
        look_every=size.fool_steps,
        batch_size=BATCH,
        fool_batch_size=FOOL_BATCH,
        device=place.device,
        generator=place.generator(),
        progress=place.progress,
        **where,
    ).model
    treated, control = (_treated(net, spec["treatment"], place, count=count) for net in (fooled, honest))
    seen = place.images("test", size.images)
    x, y = seen.images.to(place.device), seen.labels.to(place.device)
    rules = {"loss": "center_mass", **where}
    found = dict(success(honest, treated, x, y, **rules))
    found |= {f"control {k}": v for k, v in success(honest, control, x, y, **rules).items()}
    x = x[: max(1, len(x) // 4)]
    attack = attacks.make("untargeted", place, x, eps=ATTACK_EPS, steps=size.steps, starts=size.starts)
    stable = measure.stability(treated, x, attack, eps=ATTACK_EPS)
    return {
        "accuracy": [accuracy(net, test.images, test.labels) for net in (honest, fooled, treated)],
        **{name.replace("_", " "): summary(plain(values)) for name, values in found.items()},
        "attacked spearman": summary(stable["spearman"]),
    }


def _treated(net: nn.Module, treatment: str, place: Place, *, count: int) -> nn.Module:
    if treatment == "none":
        return net
    if treatment in DEFENSES:
        settings = {**DEFENSES[treatment].settings, "epochs": 1}
        return nets.defend(net, treatment, settings, place, count=count)
    return nets.train_on(net, place, count=count, epochs=1)
