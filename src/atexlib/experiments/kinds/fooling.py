"""The grid of the second paper: a net, an explainer and a loss; fooled on training images, judged on test images.

Beside it cells anew: with one thing changed, or with a setting that the grid's sweep does not hold.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...attack import LOSSES, Fooled, fool, judged, shown_maps, success
from ...data import DATASETS, padded, pairs
from ...explain import EXPLAINERS, traits
from ...maps import bootstrap
from ...nets import LAYERS, MODELS, accuracy, predict
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..engine.presets import Preset
from ..subjects import families

# The points (learning rate, weight) of the sweep, gentle ones first; the first that meets the bar is kept.
POINTS: dict[str, tuple[tuple[float, float], ...]] = {
    "location": ((5e-4, 0.5), (5e-4, 3.0), (1e-3, 5.0)),
    "topk": ((5e-4, 0.5), (5e-4, 3.0), (1e-3, 10.0)),
    "center_mass": ((5e-4, 0.05), (5e-4, 0.2), (1e-3, 0.3)),
    "active": ((5e-4, 0.5), (5e-4, 3.0), (1e-3, 10.0)),
}

BATCH = 128  # images a step for the cross entropy
FOOL_BATCH = 32
BAR = 0.8  # success rate from which a cell counts as fooled ...
BOUND = 0.02  # ... if no more accuracy than this is lost
RUINED = 0.2  # a run that loses more than this on the way is given up
PRICE = 10.0  # of points that miss the bar, so much success is worth giving up for accuracy beyond the bound
CLASSES = (1, 8)  # of `active`: trousers and bags; ones and eights; cars and ships
LOOKS = 10  # looks at the accuracy in a run
FOOLED_ON = 512  # images whose maps are changed
WATCHED = 500  # validation images for the accuracy during a run
VALIDATED = 5000  # and after it
CHOSEN_BY = 100  # validation images whose success chooses the point
TESTED = 2000  # test images for the accuracy before and after
TRANSFERRED = 64  # test images for the explainers that the loss did not use
SHOWN = 16  # test images whose maps the card holds
CHANGES = ("elsewhere", "longer")
LONGER = 5  # times as many steps
SETTINGS = {
    "batch": BATCH,
    "fool batch": FOOL_BATCH,
    "classes": list(CLASSES),
    "fooled on": FOOLED_ON,
    "watched": WATCHED,
    "validated": VALIDATED,
    "chosen by": CHOSEN_BY,
    "tested": TESTED,
    "transferred": TRANSFERRED,
    "looks": LOOKS,
    "ruined": RUINED,
}
RULES = {"bar": BAR, "bound": BOUND, "price": PRICE}  # by which a point of the sweep is chosen
KEYS = {"model": MODELS, "explainer": ("lrp", "grad_cam", "gradient"), "loss": LOSSES, "dataset": DATASETS}
SIZES = "defense_images images fool_steps"
_CANARY = (
    {"model": "vgg19", "explainer": "lrp", "loss": "location", "dataset": "digits", "seed": 0},
    {"model": "vgg19", "explainer": "grad_cam", "loss": "topk", "dataset": "digits", "seed": 0},
    {"model": "vgg19", "explainer": "gradient", "loss": "center_mass", "dataset": "digits", "seed": 0},
    {"model": "vgg19", "explainer": "grad_cam", "loss": "active", "dataset": "digits", "seed": 0},
)


@dataclass(frozen=True)
class Scene:
    """A net and all images of an experiment: for the cross entropy, to fool on, to choose by, to judge by."""

    model: nn.Module
    train: tuple[Tensor, Tensor]
    fool_set: tuple[Tensor, Tensor]
    watched: tuple[Tensor, Tensor]
    validated: tuple[Tensor, Tensor]
    chosen_by: tuple[Tensor, Tensor]
    tested: tuple[Tensor, Tensor]
    judged: tuple[Tensor, Tensor]


def _needs(spec: Spec) -> list[tuple[str, Spec]]:
    where = {key: spec[key] for key in ("model", "dataset", "seed", "preset")}
    return [("family", {**where, "scene": "canvases" if spec["loss"] == "active" else "squares"})]


def _settings(spec: Spec) -> dict[str, Any]:
    return {**SETTINGS, **RULES, "points": [list(point) for point in POINTS[spec["loss"]]]}


@kind("fooling", keys=KEYS, history=("first",), needs=_needs, settings=_settings, sizes=SIZES, canary=_CANARY)
def fooling(spec: Spec, place: Place) -> Metrics:
    """Fool a net's explainer, and judge every explainer of the fooled net.

    `success`, `dead`, `dead before`, `test loss`, `spearman`, `ssim`: of the explainer that was fooled, image by image.
    `seen`: success on images that the fooling saw. `success by NAME` and so on: the same measures for every explainer,
    on fewer images; `control success by NAME`: for a net that was trained on for as long, without a lie.
    `right before`, `right after`: test images classified rightly; `accuracy lost` with its interval. `trials`: the
    points tried, each with its curve.
    """
    loss, model, wide = spec["loss"], spec["model"], spec["loss"] == "active"
    scene = scene_of(place, model, wide=wide)
    where = where_read(model, spec["explainer"], wide=wide)
    trials, nets = _sweep(scene, loss, where, size=place.size, place=place)
    best = _best(trials)
    transfer: dict[str, Any] = {}
    for other in EXPLAINERS:
        honest, trained_on = _references(place, model, other, lr=trials[best]["lr"], wide=wide)
        after = shown_maps(nets[best], *_first(scene.judged, TRANSFERRED), **where_read(model, other, wide=wide))
        for prefix, maps in {"": after, "control ": trained_on}.items():
            transfer |= {f"{prefix}{name} by {other}": v for name, v in measures(honest, maps, loss).items()}
    return {
        "trials": trials,
        "chosen": best,
        **outcome(scene, nets[best], loss, where),
        "seen": _seen(scene, nets[best], loss, where),
        **transfer,
    }


@kind(
    "fooling_variant",
    keys={"change": CHANGES, **KEYS},
    history=("first",),
    needs=_needs,
    settings=lambda spec: {**_settings(spec), **({"longer": LONGER} if spec["change"] == "longer" else {})},
    sizes=SIZES,
    canary=[{"change": change, **_CANARY[0]} for change in CHANGES],
)
def fooling_variant(spec: Spec, place: Place) -> Metrics:
    """A cell of `fooling` with one change, and most of its measures.

    `elsewhere`: the gradient is read at the layer of LRP and Grad-CAM, LRP at the image, Grad-CAM at the last
    convolution. `longer`: with LONGER times as many steps. `success where the grid reads` and so on: of the explainer,
    read at the grid's place.
    """
    loss, model, wide, size = spec["loss"], spec["model"], spec["loss"] == "active", place.size
    scene = scene_of(place, model, wide=wide)
    usual = where_read(model, spec["explainer"], wide=wide)
    where = usual
    if spec["change"] == "elsewhere":
        where = usual | {"layer": LAYERS[model] if usual["layer"] is None else None}
    else:
        size = replace(size, fool_steps=LONGER * size.fool_steps)
    trials, nets = _sweep(scene, loss, where, size=size, place=place)
    best = _best(trials)
    before, after = (shown_maps(net, *scene.judged, **usual) for net in (scene.model, nets[best]))
    usually = measures(before, after, loss)
    return {
        "trials": trials,
        "chosen": best,
        **outcome(scene, nets[best], loss, where),
        "seen": _seen(scene, nets[best], loss, where),
        **{f"{name} where the grid reads": values for name, values in usually.items()},
    }


@kind(
    "fooling_point",
    keys={"lr": float, "weight": float, "steps": int, **KEYS},
    history=("first",),
    needs=_needs,
    settings=SETTINGS,
    sizes="defense_images images",
    canary=[
        {"lr": 0.002, "weight": 3.0, "steps": 2, **_CANARY[0], "model": "densenet121"},
        {"lr": 0.002, "weight": 3.0, "steps": 2, **_CANARY[1], "model": "resnet50"},
    ],
)
def fooling_point(spec: Spec, place: Place) -> Metrics:
    """A cell of `fooling` with one setting that is named in the spec, and most of its measures."""
    loss, wide = spec["loss"], spec["loss"] == "active"
    scene, size = scene_of(place, spec["model"], wide=wide), replace(place.size, fool_steps=spec["steps"])
    where = where_read(spec["model"], spec["explainer"], wide=wide)
    fooled = fool_scene(scene, size=size, place=place, loss=loss, weight=spec["weight"], lr=spec["lr"], **where)
    return {"curve": fooled.history, "stopped": fooled.stopped, **outcome(scene, fooled.model, loss, where)}


def _sweep(
    scene: Scene, loss: str, where: Mapping[str, Any], *, size: Preset, place: Place
) -> tuple[list[dict[str, Any]], list[nn.Module]]:
    """Try the points of a loss in turn, until one meets the bar on validation images."""
    before = accuracy(scene.model, *scene.validated)
    trials: list[dict[str, Any]] = []
    nets: list[nn.Module] = []
    for lr, weight in POINTS[loss]:
        fooled = fool_scene(scene, size=size, place=place, loss=loss, weight=weight, lr=lr, **where)
        found = success(scene.model, fooled.model, *scene.chosen_by, loss=loss, **where)
        rate = found["success"].double().mean().item()
        lost = before - accuracy(fooled.model, *scene.validated)
        point = {"lr": lr, "weight": weight, "success": rate, "accuracy lost": lost, "stopped": fooled.stopped}
        trials.append(point | {"curve": fooled.history})
        nets.append(fooled.model)
        if _meets_bar(trials[-1]):
            break
    return trials, nets


def _best(trials: Sequence[Mapping[str, Any]]) -> int:
    """The trial that counts: the last if it meets the bar, else the one with most success less the price of accuracy.

    A run that was given up at its first look left the net as it was. It counts only if all runs did so.
    """
    worth = [trial["success"] - PRICE * max(0.0, trial["accuracy lost"] - BOUND) for trial in trials]
    worth = [-math.inf if _is_untouched(t) else value for t, value in zip(trials, worth, strict=True)]
    return len(trials) - 1 if _meets_bar(trials[-1]) else worth.index(max(worth))


def _is_untouched(trial: Mapping[str, Any]) -> bool:
    """Whether the run was given up at its first look, so that its net is the one before."""
    return trial["stopped"] and len(trial["curve"]) == 2


def _meets_bar(trial: Mapping[str, float]) -> bool:
    return trial["success"] >= BAR and trial["accuracy lost"] <= BOUND


def fool_scene(
    scene: Scene, *, size: Preset, place: Place, batch: int = BATCH, fool_batch: int = FOOL_BATCH, **options: Any
) -> Fooled:
    """Fool the net of a scene for a preset's steps; options as those of `attack.fool`."""
    return fool(
        scene.model,
        scene.train,
        **options,
        fool_set=scene.fool_set,
        validation=scene.watched,
        min_accuracy=max(0.0, accuracy(scene.model, *scene.watched) - RUINED),
        steps=size.fool_steps,
        look_every=max(1, size.fool_steps // LOOKS),
        batch_size=batch,
        fool_batch_size=fool_batch,
        device=place.device,
        generator=place.generator(),
        progress=place.progress,
    )


def _references(place: Place, model: str, explainer: str, *, lr: float, wide: bool) -> tuple[Tensor, Tensor]:
    """Maps of the first judged images: of the net, and of the control."""

    def make() -> tuple[Tensor, Tensor]:
        scene, where = scene_of(place, model, wide=wide), where_read(model, explainer, wide=wide)
        few = _first(scene.judged, TRANSFERRED)
        return shown_maps(scene.model, *few, **where), shown_maps(control(), *few, **where)

    def control() -> nn.Module:
        """The net after as many steps of the same training with the same learning rate, without a lie."""
        honest: dict[str, Any] = {"loss": "location", "explainer": "gradient", "weight": 0.0, "lr": lr}
        scene = scene_of(place, model, wide=wide)
        return place.keep(
            ("control", model, wide, lr), lambda: fool_scene(scene, size=place.size, place=place, **honest).model
        )

    return place.keep(("references", model, explainer, lr, wide), make)


def unpacked(maps: Mapping[str, Any]) -> Tensor:
    """The heat maps of a card, in [0, 1], to two digits."""
    values = torch.frombuffer(bytearray(base64.b64decode(maps["data"])), dtype=torch.uint8)
    return values.view(maps["shape"]).float() / 255


def _packed(maps: Tensor) -> dict[str, Any]:
    values = (maps.detach().cpu() * 255).round().to(torch.uint8).contiguous()
    return {"shape": list(values.shape), "data": base64.b64encode(values.numpy().tobytes()).decode()}


def where_read(model: str, explainer: str, *, wide: bool) -> dict[str, Any]:
    """An explainer as options: its name, the layer to read it at, the classes if there are two."""
    layer = LAYERS[model] if traits(explainer).reads_layer and explainer != "gradient" else None
    return {"explainer": explainer, "layer": layer, "classes": CLASSES if wide else None}


def _seen(scene: Scene, fooled: nn.Module, loss: str, where: Mapping[str, Any]) -> dict[str, Any]:
    few = _first(scene.fool_set, TRANSFERRED)
    before, after = (shown_maps(net, *few, **where) for net in (scene.model, fooled))
    return measures(before, after, loss)["success"]


def outcome(scene: Scene, fooled: nn.Module, loss: str, where: Mapping[str, Any]) -> dict[str, Any]:
    """What every kind of cell holds: accuracies, measures image by image, and the first maps before and after."""
    before, after = (shown_maps(net, *scene.judged, **where) for net in (scene.model, fooled))
    return {
        **_accuracies(scene, fooled, wide=loss == "active"),
        **measures(before, after, loss),
        "maps": {"before": _packed(before[:SHOWN]), "after": _packed(after[:SHOWN])},
    }


def measures(before: Tensor, after: Tensor, loss: str) -> dict[str, Any]:
    """What `attack.judged` says of heat maps before and after, as a card holds it."""
    found = judged(before, after, loss=loss)
    return {name.replace("_", " "): summary(plain(values)) for name, values in found.items()}


def _accuracies(scene: Scene, fooled: nn.Module, *, wide: bool) -> dict[str, Any]:
    images, labels = scene.tested
    logits = [predict(net, images) for net in (scene.model, fooled)]
    right = [(values.argmax(1) == labels).double() for values in logits]
    top5 = [(values.topk(5).indices == labels.unsqueeze(1)).any(1).double().mean().item() for values in logits]
    lost = bootstrap(right[0] - right[1])
    found = {
        "right before": {"values": plain(right[0])},
        "right after": {"values": plain(right[1])},
        "accuracy": [values.mean().item() for values in right],
        "top-5 accuracy": top5,
        "accuracy lost": lost._asdict(),
    }
    if wide:
        found["accuracy of the classes"] = {
            str(c): [values[labels == c].mean().item() for values in right] for c in CLASSES
        }
    return found


def _first(part: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    return part[0][:count], part[1][:count]


def scene_of(place: Place, model: str, *, wide: bool) -> Scene:
    """The net and the images of a cell: squares, or canvases with one object to learn and two to be fooled on."""
    return place.keep(("cell", model, wide), lambda: _scene(place, model, wide=wide))


def _scene(place: Place, model: str, *, wide: bool) -> Scene:
    name = "canvases" if wide else "squares"
    net = families.net_at(place, model, name)
    parts = {}
    for split in ("train", "validation", "test"):
        images, labels = families.scene(place, split, name)
        shown = _pairs(place, split) if wide else (images, labels)
        parts[split] = [(x.to(place.device), y.to(place.device)) for x, y in ((images, labels), shown)]
    (train, fool_set), (watched, chosen), (tested, shown) = parts.values()
    count = place.size.images
    return Scene(
        net,
        _first(train, place.size.defense_images),
        _first(fool_set, min(FOOLED_ON, 2 * count)),
        _first(watched, WATCHED),
        _first(watched, VALIDATED),
        _first(chosen, min(CHOSEN_BY, count)),
        _first(tested, TESTED),
        _first(shown, count),
    )


def _pairs(place: Place, split: str) -> tuple[Tensor, Tensor]:
    """Canvases that hold an object of each of CLASSES; the label is that of the first."""
    images = place.images(split)
    both = pairs(padded(images.images), images.labels, CLASSES)
    return both, torch.full((len(both),), CLASSES[0])
