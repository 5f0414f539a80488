"""The grid of the second paper: a net, an explainer and a loss; fooled on training images, judged on test images."""

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import canvas, model_manipulation, training, vision
from ..explainers import EXPLAINERS
from ..fooling_losses import LOSSES
from ..intervals import two_level
from ..model_manipulation import explain
from . import families, pictures
from .cards import Experiment, Spec
from .measure import _plain as plain
from .presets import PRESETS, Preset
from .provenance import declared
from .tables import summary

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


def fooling(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Fool a net's explainer, and judge every explainer of the fooled net.

    `success`, `dead`, `dead before`, `test loss`, `spearman`, `ssim`: of the explainer that was fooled, image by image.
    `seen`: success on images that the fooling saw. `success by NAME` and so on: the same measures for every explainer,
    on fewer images; `control success by NAME`: for a net that was trained on for as long, without a lie.
    `right before`, `right after`: test images classified rightly; `accuracy lost` with its interval. `trials`: the
    points tried, each with its curve.
    """
    loss, model = spec["loss"], spec["model"]
    place = {key: spec[key] for key in ("model", "dataset", "seed", "preset")} | {"wide": loss == "active"}
    scene = _scene(**place, device=device)
    where = _where(model, spec["explainer"], wide=place["wide"])
    trials, nets = _sweep(scene, loss, where, size=PRESETS[spec["preset"]], seed=spec["seed"], progress=progress)
    best = _best(trials)
    seen = (explain(net, *_first(scene.fool_set, TRANSFERRED), **where) for net in (scene.model, nets[best]))
    transfer = {}
    for other in EXPLAINERS:
        honest, trained_on = _references(other, lr=trials[best]["lr"], **place, device=device)
        few = _first(scene.judged, TRANSFERRED)
        after = explain(nets[best], *few, **_where(model, other, wide=place["wide"]))
        for kind, maps in {"": after, "control ": trained_on}.items():
            transfer |= {f"{kind}{name} by {other}": v for name, v in _judged(honest, maps, loss).items()}
    return {
        "trials": trials,
        "chosen": best,
        **_outcome(scene, nets[best], loss, where),
        "seen": _judged(*seen, loss)["success"],
        **transfer,
    }


def _sweep(
    scene: Scene, loss: str, where: Mapping[str, object], *, size: Preset, seed: int, progress: bool
) -> tuple[list[dict[str, object]], list[nn.Module]]:
    """Try the points of a loss in turn, until one meets the bar on validation images."""
    before = training.accuracy(scene.model, *scene.validated)
    trials, nets = [], []
    for lr, weight in POINTS[loss]:
        fooled = _fool(scene, size=size, seed=seed, progress=progress, loss=loss, weight=weight, lr=lr, **where)
        found = model_manipulation.success(scene.model, fooled.model, *scene.chosen_by, loss=loss, **where)
        rate = found["success"].double().mean().item()
        lost = before - training.accuracy(fooled.model, *scene.validated)
        point = {"lr": lr, "weight": weight, "success": rate, "accuracy lost": lost, "stopped": fooled.stopped}
        trials.append(point | {"curve": fooled.history})
        nets.append(fooled.model)
        if _meets_bar(trials[-1]):
            break
    return trials, nets


def _best(trials: Sequence[Mapping[str, object]]) -> int:
    """The trial that counts: the last if it meets the bar, else the one with most success less the price of accuracy.

    A run that was given up at its first look left the net as it was. It counts only if all runs did so.
    """
    worth = [trial["success"] - PRICE * max(0.0, trial["accuracy lost"] - BOUND) for trial in trials]
    worth = [-math.inf if _is_untouched(t) else value for t, value in zip(trials, worth, strict=True)]
    return len(trials) - 1 if _meets_bar(trials[-1]) else worth.index(max(worth))


def _is_untouched(trial: Mapping[str, object]) -> bool:
    """Whether the run was given up at its first look, so that its net is the one before."""
    return trial["stopped"] and len(trial["curve"]) == 2


def _meets_bar(trial: Mapping[str, float]) -> bool:
    return trial["success"] >= BAR and trial["accuracy lost"] <= BOUND


def _fool(scene: Scene, *, size: Preset, seed: int, progress: bool, **options: object) -> model_manipulation.Fooled:
    return model_manipulation.fool(
        scene.model,
        *scene.train,
        **options,
        fool_set=scene.fool_set,
        validation=scene.watched,
        min_accuracy=max(0.0, training.accuracy(scene.model, *scene.watched) - RUINED),
        steps=size.fool_steps,
        look_every=max(1, size.fool_steps // LOOKS),
        batch_size=BATCH,
        fool_batch_size=FOOL_BATCH,
        device=next(scene.model.parameters()).device,
        generator=torch.Generator().manual_seed(seed),
        progress=progress,
    )


@functools.lru_cache(maxsize=3 * len(EXPLAINERS))
def _references(explainer: str, *, lr: float, **place: object) -> tuple[Tensor, Tensor]:
    """Maps of the first judged images: of the net, and of the control."""
    scene = _scene(**place)
    where = _where(place["model"], explainer, wide=place["wide"])
    few = _first(scene.judged, TRANSFERRED)
    return explain(scene.model, *few, **where), explain(_control(lr=lr, **place), *few, **where)


@functools.lru_cache(maxsize=3)
def _control(*, lr: float, **place: object) -> nn.Module:
    """The net after as many steps of the same training with the same learning rate, without a lie."""
    scene, size = _scene(**place), PRESETS[place["preset"]]
    options = {"loss": "location", "explainer": "gradient", "weight": 0.0, "lr": lr}
    return _fool(scene, size=size, seed=place["seed"], progress=False, **options).model


def unpacked(maps: Mapping[str, object]) -> Tensor:
    """The heat maps of a card, in [0, 1], to two digits."""
    values = torch.frombuffer(bytearray(base64.b64decode(maps["data"])), dtype=torch.uint8)
    return values.view(maps["shape"]).float() / 255


def _packed(maps: Tensor) -> dict[str, object]:
    values = (maps.detach().cpu() * 255).round().to(torch.uint8).contiguous()
    return {"shape": list(values.shape), "data": base64.b64encode(values.numpy().tobytes()).decode()}


def _where(model: str, explainer: str, *, wide: bool) -> dict[str, object]:
    """An explainer as options: its name, the layer to read it at, the classes if there are two."""
    layer = vision.LAYERS[model] if explainer in ("lrp", "grad_cam") else None
    return {"explainer": explainer, "layer": layer, "classes": CLASSES if wide else None}


def _outcome(scene: Scene, fooled: nn.Module, loss: str, where: Mapping[str, object]) -> dict[str, object]:
    """What every kind of cell holds: accuracies, measures image by image, and the first maps before and after."""
    before, after = (explain(net, *scene.judged, **where) for net in (scene.model, fooled))
    return {
        **_accuracies(scene, fooled, wide=loss == "active"),
        **_judged(before, after, loss),
        "maps": {"before": _packed(before[:SHOWN]), "after": _packed(after[:SHOWN])},
    }


def _judged(before: Tensor, after: Tensor, loss: str) -> dict[str, object]:
    found = model_manipulation.judge(before, after, loss=loss)
    return {name.replace("_", " "): summary(plain(values)) for name, values in found.items()}


def _accuracies(scene: Scene, fooled: nn.Module, *, wide: bool) -> dict[str, object]:
    images, labels = scene.tested
    logits = [training.predict(net, images) for net in (scene.model, fooled)]
    right = [(values.argmax(1) == labels).double() for values in logits]
    top5 = [(values.topk(5).indices == labels.unsqueeze(1)).any(1).double().mean().item() for values in logits]
    lost = two_level((right[0] - right[1]).unsqueeze(0))
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


@functools.lru_cache(maxsize=1)
def _scene(*, model: str, dataset: str, seed: int, preset: str, wide: bool, device: str) -> Scene:
    net = families.trained(model=model, dataset=dataset, seed=seed, preset=preset, wide=wide, device=device)
    parts = {}
    for split in ("train", "validation", "test"):
        images, labels = families.scene(dataset, split, wide=wide)
        shown = _pairs(dataset, split) if wide else (images, labels)
        parts[split] = [(x.to(device), y.to(device)) for x, y in ((images, labels), shown)]
    (train, fool), (watched, chosen), (tested, judged) = parts.values()
    count = PRESETS[preset].images
    return Scene(
        net,
        _first(train, PRESETS[preset].defense_images),
        _first(fool, min(FOOLED_ON, 2 * count)),
        _first(watched, WATCHED),
        _first(watched, VALIDATED),
        _first(chosen, min(CHOSEN_BY, count)),
        _first(tested, TESTED),
        _first(judged, count),
    )


def _pairs(dataset: str, split: str) -> tuple[Tensor, Tensor]:
    """Canvases that hold an object of each of CLASSES; the label is that of the first."""
    images = pictures.load(dataset, split)
    both = canvas.pairs(canvas.padded(images.images), images.labels, CLASSES)
    return both, torch.full((len(both),), CLASSES[0])


def _rests_on(spec: Spec) -> list[dict[str, object]]:
    return [{key: spec[key] for key in ("model", "dataset", "seed", "preset")} | {"wide": spec["loss"] == "active"}]


FOOLING = Experiment(
    "fooling",
    {
        "model": tuple(vision.MODELS),
        "explainer": ("lrp", "grad_cam", "gradient"),
        "loss": tuple(LOSSES),
        "dataset": pictures.DATASETS,
        "seed": int,
        "preset": tuple(PRESETS),
    },
    fooling,
    declared("families", "lies", "fooling"),
    family_nets=_rests_on,
)
