"""Can a manipulated input be told? Detectors against attacks, noise and adversarial examples, and who knows them."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...attack import OBJECTIVES, Ball, Distance, RankDistance, manipulate, of_rows, pgd
from ...attack.ball import gaussian_like
from ...detect import DETECTORS, Alarm, Scene, alarm, available, evade, press_on, ranks
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
        "a second search, for ranks; the attacker who knows presses on by a growing penalty",
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

    Either makes two attempts, for the distance of the maps and for that of their ranks, and hands in the one that
    moved the map more by the measure in question. An image that is flagged, or that lost its label, wins the attacker
    nothing: its map counts as the clean one, a likeness of 1. `unseen` counts every image, as if there were no
    detector. `flagged` is of what was handed in for Spearman, and `flagged by` says which detectors alarm at that of
    the attacker who knows this one.
    """
    scene, name = scenes.scene(spec, place), spec["detector"]
    x = place.images("test", min(EVADING, place.size.images)).images.to(place.device)
    attempts = {"clean": [x], "blind": _blind(scene, x, spec, place), "knowing": _knowing(scene, x, spec, place)}
    found: Metrics = {"furthest": max((z - x).abs().max().item() for z in attempts["knowing"])}
    target = predict(scene.model, x).argmax(1)
    clean = scene.explainer(scene.model, x, target)
    handed = {}
    for title, tried in attempts.items():
        flags = torch.stack([_fresh(alarm(name, scene), z, place, Alarm.flags) for z in tried])
        kept = torch.stack([(predict(scene.model, z).argmax(1) == target).cpu() for z in tried])
        alike = [likeness(clean, scene.explainer(scene.model, z, target), measure.K, names=SEEN) for z in tried]
        for measured in SEEN:
            unseen = torch.stack([values[measured].double().nan_to_num(1.0) for values in alike]).where(kept, 1.0)
            counted, chosen = unseen.min(0)
            caught = flags.gather(0, chosen[None])[0]
            found[f"{title} unseen {measured}"] = summary(plain(counted), decimals=DECIMALS)
            found[f"{title} {measured}"] = summary(plain(counted.where(~caught, 1.0)), decimals=DECIMALS)
            if measured == SEEN[0]:
                found[f"{title} flagged"] = summary(plain(caught))
                found[f"{title} label kept"] = summary(plain(kept.gather(0, chosen[None])[0]))
                handed[title] = torch.stack(tried)[chosen.to(x.device), torch.arange(len(x), device=x.device)]
    for other in available(scene):
        flags = _fresh(alarm(other, scene), handed["knowing"], place, Alarm.flags)
        found[f"flagged by {other}"] = summary(plain(flags))
    return found


def _blind(scene: Scene, x: Tensor, spec: Spec, place: Place) -> list[Tensor]:
    """Images of the attacker who knows no detector, the same whichever there is."""

    def make() -> list[Tensor]:
        search = {"eps": spec["eps"], "steps": place.size.steps, "explainer": scene.explainer}
        aims = (Distance(), RankDistance())
        return [manipulate(scene.model, x, aim, generator=place.generator(), **search).x for aim in aims]

    return place.keep(("blind", spec["defense"], spec["eps"]), make)


def _knowing(scene: Scene, x: Tensor, spec: Spec, place: Place) -> list[Tensor]:
    """Images of the attacker who knows the spec's detector: a search along its threshold, and one that presses on."""
    eps, steps, names = spec["eps"], place.size.steps, [spec["detector"]]
    first = evade(scene, x, Distance(), names, eps=eps, steps=steps, generator=place.generator()).x
    search = {"start": first, "eps": eps, "steps": steps, "generator": place.generator()}
    return [first, press_on(scene, x, RankDistance(), names, **search)]
