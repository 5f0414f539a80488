"""Chapters 10 and 11: the grid of fooled nets, and cells of it with one thing changed."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd
import torch
from matplotlib.figure import Figure

from .... import show
from ....attack import RANGES
from ....nets import MODELS
from ...kinds.fooling import CHANGES, CLASSES, unpacked
from .. import claims_fooling, report, verdicts, words
from ..claims_fooling import DATA, FOOLED, LOSSES, PASSIVE
from .tables import Table, noted, origins

Spec = dict[str, Any]
Label = TypeVar("Label", bound=Hashable)
SHOWN = 3  # test images whose maps are shown
STRICT = 0.5  # the stricter range of active fooling
HARD = {"lr": 2e-3, "weight": 30.0, "model": "vgg19", "explainer": "gradient", "loss": "location", "dataset": DATA}
HARD_STEPS = (750, 2250)
MEASURES = {"success": "success", "of 64 seen": "seen", "dead": "dead", "dead before": "dead before"}
MEASURES |= {"Spearman": "spearman", "SSIM": "ssim"}


def _cells(losses: Sequence[str], dataset: str, **more: Any) -> dict[str, Spec]:
    return {label: {**spec, "dataset": dataset, **more} for label, spec in claims_fooling.grid(losses)}


def _run(specs: Mapping[Label, Spec]) -> dict[Label, Spec]:
    return {label: spec for label, spec in specs.items() if verdicts.found(**spec)}


def _means(spec: Spec, metrics: Mapping[str, str]) -> dict[str, str]:
    return {title: report.text(verdicts.mean(metric, **spec)) for title, metric in metrics.items()}


def _accuracy(spec: Spec) -> str:
    before, after = (verdicts.mean(f"right {when}", **spec).mean for when in ("before", "after"))  # type: ignore[union-attr]
    return f"{before:.3f} to {after:.3f}"


def _tries(spec: Spec) -> str:
    """How many settings were tried for each seed, and how many of them were given up."""
    words = []
    for card in verdicts.found(**spec):
        trials = card["metrics"]["trials"]
        gone = sum(trial["stopped"] for trial in trials)
        words.append(f"{len(trials)}, {gone} given up" if gone else str(len(trials)))
    return " and ".join(words)


def _passive(spec: Spec) -> dict[str, str]:
    row = {"seeds": str(len(verdicts.found(**spec)))} | _means(spec, MEASURES)
    return row | {"accuracy": _accuracy(spec), "settings tried": _tries(spec)}


def _control(spec: Spec) -> dict[str, str]:
    """The same training without a lie."""
    titles = {"control: success": "success", "control: Spearman": "spearman"}
    return _means(spec, {title: f"control {name} by {spec['explainer']}" for title, name in titles.items()})


def _counted(known: Mapping[str, Spec], count: int) -> str:
    """How many cells were run, where they come from, and their lowest top-5 accuracies."""
    lines = [f"{len(known)} of {count} cells were run; {origins(known.values(), 'success')}"]
    top5 = [card["metrics"]["top-5 accuracy"] for spec in known.values() for card in verdicts.found(**spec)]
    if top5:
        before, after = torch.tensor(top5).amin(0).tolist()
        lines.append(f"top-5 accuracy: at least {before:.3f} before and {after:.3f} after, in every cell")
    return "\n".join(lines)


def passive_table(*, dataset: str = DATA, losses: Sequence[str] = PASSIVE) -> Table:
    """Success, dead maps, accuracy and the control of every cell of the grid that was run."""
    specs = _cells(losses, dataset)
    known = _run(specs)
    rows = {label: _passive(spec) | _control(spec) for label, spec in known.items()}
    return noted(pd.DataFrame(rows).T, _counted(known, len(specs)), _fooled(known))


def _fooled(known: Mapping[str, Spec]) -> list[str]:
    """For each explainer: where its success is highest and lowest, and the largest success without a lie."""
    said = []
    for explainer in FOOLED:
        mine = {label: spec for label, spec in known.items() if spec["explainer"] == explainer}
        if mine:
            rates = {label: verdicts.mean("success", **spec) for label, spec in mine.items()}
            control = [verdicts.mean(f"control success by {explainer}", **spec) for spec in mine.values()]
            most = max((cell.mean for cell in control if cell is not None), default=float("nan"))
            said += [words.ends(f"{explainer}: success", rates), f"Without a lie it is at most {most:.3f}."]
    return said


def _maps(spec: Spec, when: str, channels: int = 1) -> torch.Tensor:
    """The maps of the first test images, of the net of the first seed; empty where the cell was not run."""
    cards = verdicts.found(**spec)
    empty = torch.zeros(SHOWN, channels, 8, 8 * channels)
    return unpacked(cards[0]["metrics"]["maps"][when])[:SHOWN] if cards else empty


def passive_maps(*, dataset: str = DATA, losses: Sequence[str] = PASSIVE) -> show.Frames:
    """Maps before and after fooling, with the net to choose."""
    specs = _cells(losses, dataset)

    def look(model: str) -> Figure:
        columns = []
        for spec in (spec for spec in specs.values() if spec["model"] == model):
            if spec["loss"] == losses[0]:
                columns.append(show.Column(f"{spec['explainer']}\nbefore", _maps(spec, "before"), "size", 1.0))
            columns.append(show.Column(spec["loss"], _maps(spec, "after"), "size", 1.0))
        return show.gallery(columns, side=0.8, note=f"{model}; the first three test images; seed 0; from the cards")

    def describe(model: str) -> str:
        mine = [spec for spec in specs.values() if spec["model"] == model]
        words = [f"{s['explainer']}, {s['loss']} {_rate(s)}" for s in mine]
        return f"{model}{report.seeds(mine)}. Share of test images that count as fooled: {'; '.join(words)}."

    return show.frames(
        {"net": list(MODELS)},
        look,
        describe,
        alt="Small heat maps in three rows of images; for each explainer one column before and three after fooling.",
        caption="One loss at a time. Heat maps of the first three test images. For each explainer: the map of the "
        "honest net, then the maps of three nets, each fooled for this explainer with the loss above its column.",
    )


def _rate(spec: Spec) -> str:
    rate = verdicts.mean("success", **spec)
    return report.MISSING if rate is None else f"{rate.mean:.2f}"


def variant_table(*, dataset: str = DATA, changes: Sequence[str] = CHANGES, losses: Sequence[str] = LOSSES) -> Table:
    """Cells with one thing changed, beside the same cells of the grid."""
    specs = {
        (change, label): {**spec, "kind": "fooling_variant", "change": change}
        for change in changes
        for label, spec in _cells(losses, dataset).items()
    }
    known = _run(specs)
    gains = {" ".join(key): _gain(spec) for key, spec in known.items()}
    higher = sum(gain > 0 for gain in gains.values())
    said = [f"Success is higher than in the grid in {higher} of {len(gains)} rows.", words.ends("The gain", gains)]
    rows = {key: _beside(spec) for key, spec in known.items()}
    return noted(pd.DataFrame(rows).T, origins(known.values(), "success"), said if gains else ())


def _usual(variant: Spec) -> Spec:
    """The cell of the grid that a variant stands beside, of the same seed."""
    usual = {key: value for key, value in variant.items() if key != "change"} | {"kind": "fooling"}
    return usual | {"seed": verdicts.found(**variant)[0]["spec"]["seed"]}


def _gain(variant: Spec) -> float:
    """The success of a variant over that of its cell in the grid; nan where that was not run."""
    here, there = (verdicts.mean("success", **spec) for spec in (variant, _usual(variant)))
    return float("nan") if here is None or there is None else here.mean - there.mean


def _beside(variant: Spec) -> dict[str, str]:
    row = {"in the grid": report.text(verdicts.mean("success", **_usual(variant)))}
    here = {"success": "success", "at the grid's place": "success where the grid reads", "dead": "dead"}
    row |= _means(variant, here)
    return row | {"accuracy": _accuracy(variant), "settings tried": _tries(variant)}


def _hard(steps: Iterable[int]) -> dict[int, Spec]:
    return _run({count: {"kind": "fooling_point", **HARD, "steps": count} for count in steps})


def longer_table(*, steps: Sequence[int] = HARD_STEPS) -> Table:
    """The hardest cell of the grid with a setting beyond the sweep, for each number of steps."""
    known = _hard(steps)
    rows = {
        f"{count} steps": _means(spec, {"success": "success", "dead": "dead"}) | {"accuracy": _accuracy(spec)}
        for count, spec in known.items()
    }
    rates = {f"{count} steps": verdicts.mean("success", **spec) for count, spec in known.items()}
    return noted(pd.DataFrame(rows).T, origins(known.values(), "success"), [words.ends("Success", rates)])


def longer_maps(*, steps: Sequence[int] = HARD_STEPS) -> Figure:
    """The maps of that cell before and after."""
    columns: list[show.Column] = []
    for count, spec in _hard(steps).items():
        columns += [] if columns else [show.Column("before", _maps(spec, "before"), "size", 1.0)]
        columns.append(show.Column(f"after\n{count} steps", _maps(spec, "after"), "size", 1.0))
    note = f"{HARD['model']}, {HARD['explainer']}; the first three test images; from the cards"
    if not columns:
        columns, note = [show.Column(report.MISSING, torch.zeros(1, 1, 8, 8), "size", 1.0)], report.MISSING
    return show.gallery(columns, side=0.8, note=note)


def active_table(*, dataset: str = DATA) -> Table:
    """Success, control, dead maps and the accuracies of the two classes, for every net and explainer that was run."""
    specs = _cells(("active",), dataset)
    known = {label.removesuffix(", active"): spec for label, spec in _run(specs).items()}
    low, high = RANGES["active"]
    note = f"success: the difference in [{low:g}, {high:g}]\n{_counted(known, len(specs))}"
    rates = {label: verdicts.mean("success", **spec) for label, spec in known.items()}
    bar = sum(rate is not None and rate.mean > 0.5 for rate in rates.values())
    said = [f"Most test canvases are swapped in {bar} of {len(rates)} cells.", words.ends("Success", rates)]
    return noted(pd.DataFrame({label: _active(spec) for label, spec in known.items()}).T, note, said)


def _active(spec: Spec) -> dict[str, str]:
    cards = [card["metrics"] for card in verdicts.found(**spec)]
    names = {"success": "success", "control": f"control success by {spec['explainer']}", "dead": "dead"}
    names |= {"dead before": "dead before", f"Spearman, class {CLASSES[0]}, own old map": "spearman"}
    row = {"seeds": str(len(cards))} | _means(spec, names)
    row[f"at least {STRICT:g}"] = f"{(verdicts.together('test loss', [spec]) >= STRICT).double().mean():.3f}"  # type: ignore[operator, union-attr]
    row |= {"settings tried": _tries(spec), "accuracy": _change([card["accuracy"] for card in cards])}
    classes = cards[0]["accuracy of the classes"]
    return row | {f"class {c}": _change([card["accuracy of the classes"][c] for card in cards]) for c in classes}


def _change(pairs: Sequence[Sequence[float]]) -> str:
    before, after = torch.tensor(pairs).mean(0).tolist()
    return f"{before:.3f} to {after:.3f}"


def active_maps(*, dataset: str = DATA) -> show.Frames:
    """Maps of both classes before and after the swap, with the net and the explainer to choose."""
    specs = _cells(("active",), dataset)

    def look(model: str, explainer: str) -> Figure:
        columns = []
        for when in ("before", "after"):
            maps = _maps(specs[f"{model}, {explainer}, active"], when, channels=2)
            for k, c in enumerate(CLASSES):
                columns.append(show.Column(f"why class {c}?\n{when}", maps[:, k : k + 1], "size", 1.0))
        figure = show.gallery(columns, note=f"{model}, {explainer}; first three test canvases; seed 0; from the cards")
        figure.set_size_inches(7, 3)
        return figure

    def describe(model: str, explainer: str) -> str:
        spec = specs[f"{model}, {explainer}, active"]
        if not verdicts.found(**spec):
            return f"{model}, {explainer}: not run."
        rate, seeds = verdicts.mean("success", **spec), report.seeds([spec])
        return f"{model}, {explainer}{seeds}. Share of test canvases that count as swapped: {rate}."

    return show.frames(
        {"net": list(MODELS), "explainer": list(FOOLED)},
        look,
        describe,
        start={"explainer": "grad_cam"},
        alt="Three rows of four wide heat maps: of both classes before the fooling and after it.",
        caption="Swapped or not. Maps of the first three test canvases; each holds an object of both classes. In a "
        "fooled net each class shows after what the other showed before.",
    )
