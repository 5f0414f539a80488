"""Cells of the grid anew: with one thing changed, or with a setting that the grid's sweep does not hold."""

from dataclasses import replace

from .. import vision
from ..model_manipulation import explain
from . import fooling as grid
from .cards import Experiment, Spec
from .presets import PRESETS
from .provenance import declared

CHANGES = ("elsewhere", "longer")
LONGER = 5  # times as many steps


def fooling_variant(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """A cell of `fooling` with one change, and most of its measures.

    `elsewhere`: the gradient is read at the layer of LRP and Grad-CAM, LRP at the image, Grad-CAM at the last
    convolution. `longer`: with LONGER times as many steps. `success where the grid reads` and so on: of the explainer,
    read at the grid's place.
    """
    loss, model = spec["loss"], spec["model"]
    place = {key: spec[key] for key in ("model", "dataset", "seed", "preset")} | {"wide": loss == "active"}
    scene, size = grid._scene(**place, device=device), PRESETS[spec["preset"]]
    usual = grid._where(model, spec["explainer"], wide=place["wide"])
    where = usual
    if spec["change"] == "elsewhere":
        where = usual | {"layer": vision.LAYERS[model] if usual["layer"] is None else None}
    else:
        size = replace(size, fool_steps=LONGER * size.fool_steps)
    trials, nets = grid._sweep(scene, loss, where, size=size, seed=spec["seed"], progress=progress)
    best = grid._best(trials)
    both = scene.model, nets[best]
    few = grid._first(scene.fool_set, grid.TRANSFERRED)
    usually = grid._judged(*(explain(net, *scene.judged, **usual) for net in both), loss)
    return {
        "trials": trials,
        "chosen": best,
        **grid._outcome(scene, nets[best], loss, where),
        "seen": grid._judged(*(explain(net, *few, **where) for net in both), loss)["success"],
        **{f"{name} where the grid reads": values for name, values in usually.items()},
    }


def fooling_point(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """A cell of `fooling` with one setting that is named in the spec, and most of its measures."""
    loss, model = spec["loss"], spec["model"]
    place = {key: spec[key] for key in ("model", "dataset", "seed", "preset")} | {"wide": loss == "active"}
    scene, size = grid._scene(**place, device=device), replace(PRESETS[spec["preset"]], fool_steps=spec["steps"])
    where = grid._where(model, spec["explainer"], wide=place["wide"])
    options = {"loss": loss, "weight": spec["weight"], "lr": spec["lr"], **where}
    fooled = grid._fool(scene, size=size, seed=spec["seed"], progress=progress, **options)
    return {
        "curve": fooled.history,
        "stopped": fooled.stopped,
        **grid._outcome(scene, fooled.model, loss, where),
    }


FOOLING_VARIANT = Experiment(
    "fooling_variant",
    {"change": CHANGES, **grid.FOOLING.keys},
    fooling_variant,
    declared("families", "lies", "fooling", "fooling_variant"),
    family_nets=grid._rests_on,
)
FOOLING_POINT = Experiment(
    "fooling_point",
    {"lr": float, "weight": float, "steps": int, **grid.FOOLING.keys},
    fooling_point,
    declared("families", "lies", "fooling", "fooling_point"),
    family_nets=grid._rests_on,
)
