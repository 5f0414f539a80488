"""Where a map is read: cells of the grid anew, the gradient read at a layer, LRP at the image."""

from .. import vision
from ..model_manipulation import LOSSES, explain
from . import fooling as grid
from . import pictures
from .cards import Experiment, Spec
from .presets import PRESETS
from .provenance import declared


def reading(spec: Spec, *, device: str, progress: bool) -> dict[str, object]:
    """Fool a net's explainer, read at the place where the grid does not read it: the measures of `fooling`.

    `success where the grid reads` and so on: the same of the maps that were not fooled, at the grid's place.
    """
    loss, model = spec["loss"], spec["model"]
    place = {key: spec[key] for key in ("model", "dataset", "seed", "preset")} | {"wide": loss == "active"}
    scene = grid._scene(**place, device=device)
    usual = grid._where(model, spec["explainer"], wide=place["wide"])
    other = usual | {"layer": vision.LAYERS[model] if usual["layer"] is None else None}
    trials, nets = grid._sweep(scene, loss, other, size=PRESETS[spec["preset"]], seed=spec["seed"], progress=progress)
    worth = [trial["success"] - grid.PRICE * max(0.0, trial["accuracy lost"] - grid.BOUND) for trial in trials]
    best = len(trials) - 1 if grid._meets_bar(trials[-1]) else worth.index(max(worth))
    both = scene.model, nets[best]
    before, after = (explain(net, *scene.judged, **other) for net in both)
    few = grid._first(scene.fool_set, grid.TRANSFERRED)
    usually = grid._judged(*(explain(net, *scene.judged, **usual) for net in both), loss)
    return {
        "trials": trials,
        "chosen": best,
        **grid._accuracies(scene, nets[best], wide=place["wide"]),
        **grid._judged(before, after, loss),
        "seen": grid._judged(*(explain(net, *few, **other) for net in both), loss)["success"],
        **{f"{name} where the grid reads": values for name, values in usually.items()},
        "maps": {"before": grid._packed(before[: grid.SHOWN]), "after": grid._packed(after[: grid.SHOWN])},
    }


READING = Experiment(
    "reading",
    {
        "model": tuple(vision.MODELS),
        "explainer": ("gradient", "lrp"),
        "loss": tuple(LOSSES),
        "dataset": pictures.DATASETS,
        "seed": int,
        "preset": tuple(PRESETS),
    },
    reading,
    declared("families", "lies", "fooling", "reading"),
    family_nets=grid._rests_on,
)
