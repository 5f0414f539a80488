"""Can a manipulated input be told? Detectors against attacks, noise and adversarial examples, and who knows them."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...attack import OBJECTIVES, Ball, Distance, manipulate, of_rows, pgd
from ...attack.ball import gaussian_like
from ...detect import DETECTORS, Alarm, Scene, alarm, available, evade, ranks
from ...judge import likeness
from ...nets import predict
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import attacks, measure, scenes

IMAGES = 64
EVADING = 32  # images of the attacker who knows a detector
DECIMALS = 3  # of the values in a card
FRESH = 1000  # above the seed: draws of a detector that no search has seen
SEEN = ("spearman", "topk")
CONTROLS = ("noise", "Gaussian noise", "adversarial")
GROUPS = (*OBJECTIVES, *CONTROLS)
SETTINGS = {**scenes.SETTINGS, "k": measure.K, "decimals": DECIMALS}


@kind(
    "detection",
    keys={**scenes.KEYS, "eps": float},
    history=("first",),
    needs=scenes.needs_both,
    settings={**SETTINGS, "images": IMAGES, "groups": list(GROUPS), "detectors": list(DETECTORS)},
    sizes="images steps",
    canary=[{"dataset": "digits", "defense": "none", "eps": 0.1, "seed": 0}],
)
def detection(spec: Spec, place: Place) -> Metrics:
    """For each detector and each group of changed images the share of clean test images that look less suspicious.

    Its mean is the area under the ROC curve, and the curve can be drawn from the values. `flagged` says whether an
    image lies above the threshold, which validation images set. The groups are all objectives of an attacker who keeps
    the label; random corners of the ball; Gaussian noise of half the radius; and adversarial examples, by PGD.
    """
    scene = scenes.scene(spec, place)
    images = place.images("test", min(IMAGES, place.size.images)).images.to(place.device)
    groups = {"clean": images} | _changed(scene, images, place, spec["eps"])
    found: Metrics = {}
    for name in available(scene):
        detector = alarm(name, scene)
        scores = {group: _fresh(detector, z, place, Alarm.scores) for group, z in groups.items()}
        for group, values in scores.items():
            found[f"{name}, {group}"] = summary(plain(ranks(values, scores["clean"])), decimals=DECIMALS)
            found[f"{name}, {group}, flagged"] = summary(plain(values > detector.threshold))
    return found


def _changed(scene: Scene, x: Tensor, place: Place, eps: float) -> dict[str, Tensor]:
    """Images by the name of what changed them."""
    ball, generator = Ball(x, eps, "linf", (0, 1)), place.generator()
    search = {"eps": eps, "explainer": scene.explainer, "steps": place.size.steps, "generator": generator}
    found = {}
    for name in OBJECTIVES:
        aim = attacks.objective(name, x)
        parts = [manipulate(scene.model, x[rows], of_rows(aim, rows), **search).x for rows in _batches(x)]  # type: ignore[arg-type]
        found[name] = torch.cat(parts)
    found["noise"] = ball.corner(generator)
    found["Gaussian noise"] = (x + eps / 2 * gaussian_like(x, generator)).clamp(0, 1)
    found["adversarial"] = pgd(scene.model, x, predict(scene.model, x).argmax(1), eps=eps, generator=generator)
    return found


def _batches(x: Tensor) -> tuple[Tensor, ...]:
    return torch.arange(len(x)).split(measure.BATCH)


def _fresh(detector: Alarm, z: Tensor, place: Place, ask: Callable[..., Tensor]) -> Tensor:
    """A detector's answer with draws that nobody has seen."""
    return ask(detector, z, generator=place.generator(FRESH)).cpu()


@kind(
    "evasion",
    keys={**scenes.KEYS, "detector": DETECTORS, "eps": float},
    history=(
        "first",
        "the attacker keeps to grey levels that stay, frees what breaks no ties, and asks what draws several times",
    ),
    needs=scenes.needs_both,
    settings={**SETTINGS, "images": EVADING, "detectors": list(DETECTORS)},
    sizes="images steps",
    canary=[
        {"dataset": "digits", "defense": "none", "detector": name, "eps": 0.1, "seed": 0}
        for name in ("noise", "quantised", "ties", "loudest")
    ],
)
def evasion(spec: Spec, place: Place) -> Metrics:
    """What a detector leaves of a manipulation by an attacker who does not know it, and by one who does.

    An image that is flagged, or that lost its label, wins the attacker nothing: its map counts as the clean one, a
    likeness of 1. `unseen` counts every image, as if there were no detector. `flagged by` says which detectors alarm at
    the images of the attacker who knows this one.
    """
    scene, name = scenes.scene(spec, place), spec["detector"]
    x = place.images("test", min(EVADING, place.size.images)).images.to(place.device)
    search = {"eps": spec["eps"], "steps": place.size.steps}
    blind = place.keep(
        ("blind", spec["defense"], spec["eps"]),
        lambda: (
            manipulate(
                scene.model,
                x,
                Distance(),
                explainer=scene.explainer,
                generator=place.generator(),
                **search,
            ).x
        ),
    )
    knowing = evade(scene, x, Distance(), [name], generator=place.generator(), **search).x
    found: Metrics = {"furthest": (knowing - x).abs().max().item()}
    target = predict(scene.model, x).argmax(1)
    clean = scene.explainer(scene.model, x, target)
    for title, z in {"clean": x, "blind": blind, "knowing": knowing}.items():
        flags = _fresh(alarm(name, scene), z, place, Alarm.flags)
        kept = (predict(scene.model, z).argmax(1) == target).cpu()
        found[f"{title} flagged"] = summary(plain(flags))
        found[f"{title} label kept"] = summary(plain(kept))
        alike = likeness(clean, scene.explainer(scene.model, z, target), measure.K, names=SEEN)
        for measured, values in alike.items():
            counted = values.double().nan_to_num(1.0).where(kept, 1.0)
            found[f"{title} unseen {measured}"] = summary(plain(counted), decimals=DECIMALS)
            found[f"{title} {measured}"] = summary(plain(counted.where(~flags, 1.0)), decimals=DECIMALS)
    for other in available(scene):
        found[f"flagged by {other}"] = summary(plain(_fresh(alarm(other, scene), knowing, place, Alarm.flags)))
    return found
