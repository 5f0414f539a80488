"""Chapter 12: is a lie told by other explainers, does a defence resist it, and what repairs a fooled net?"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .... import show
from ....explain import EXPLAINERS
from ....maps.intervals import two_level
from ....nets import MODELS
from ...engine.kinds import KINDS
from ...kinds import repair
from .. import claims_fooling, report, verdicts, words
from ..claims_fooling import DATA, FOOLED, LOSSES, PASSIVE
from .tables import Table, noted

NAN = float("nan")
BLACK = ("gradient_x_input", "integrated_gradients")  # of black pixels they show nothing
MEASURES = {
    "Spearman to the honest map": "spearman",
    "Spearman, never fooled": "control spearman",
    "dead": "dead",
    "dead, never fooled": "control dead",
    "dead before": "dead before",
    "Spearman under attack": "attacked spearman",
}


def _origins(specs: Iterable[dict[str, Any]]) -> str:
    known = {f"{s['model']}: {report.origin(metric='success by lrp', **s)}" for s in specs if verdicts.found(**s)}
    return "\n".join(sorted(known)) or report.MISSING


def _heat(values: pd.DataFrame, ax: Axes, title: str) -> None:
    sns.heatmap(values, ax=ax, annot=True, fmt=".2f", vmin=-1, vmax=1, cmap="RdBu_r", cbar=False)
    ax.set(title=title, xlabel="read")
    ax.tick_params("y", rotation=0)


def transfer_matrix(*, losses: Sequence[str] = PASSIVE, control: bool = False) -> pd.DataFrame:
    """Share fooled (`control`: by training without a lie): a row for each explainer attacked, a column for each read.

    Means over the losses and the nets that were run.
    """
    kind, rows = "control " if control else "", {}
    for attacked in FOOLED:
        specs = [spec for _, spec in claims_fooling.grid(losses, (attacked,)) if verdicts.found(**spec)]
        rates = {
            read: [verdicts.mean(f"{kind}success by {read}", **spec).mean for spec in specs]  # type: ignore[union-attr]
            for read in EXPLAINERS
        }
        rows[attacked] = {read: sum(values) / len(values) if values else NAN for read, values in rates.items()}
    return pd.DataFrame(rows).T


def transfer_maps(*, losses: Sequence[str] = PASSIVE) -> Figure:
    """The transfer matrix, and beside it the same minus the control."""
    found, alone = (transfer_matrix(losses=losses, control=control) for control in (False, True))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True)
    panels = {"share fooled": found, "minus the control": found - alone}
    for ax, (title, values) in zip(axes, panels.items(), strict=True):
        _heat(values, ax, title)
        plt.setp(ax.get_xticklabels(), rotation=40, ha="right")
    axes[0].set_ylabel("attacked")
    show.foot(figure, _origins(spec for _, spec in claims_fooling.grid(losses)))
    return figure


def transfer_in_words(*, losses: Sequence[str] = PASSIVE) -> words.Said:
    """Where the lie is told by an explainer that was not attacked, beyond the control."""
    found, alone = (transfer_matrix(losses=losses, control=control) for control in (False, True))
    gains = {f"{a}, read by {r}": v for (a, r), v in (found - alone).stack().dropna().items() if a != r}
    return words.Said(words.ends("The share fooled beyond the control, off the diagonal,", gains, decimals=2))


def transfer_frames(*, losses: Sequence[str] = LOSSES) -> show.Frames:
    """The share fooled beyond the control, with the net and the loss to choose."""
    gains = {(model, loss): _beyond_control(model, loss) for model in MODELS for loss in losses}

    def look(model: str, loss: str) -> Figure:
        figure, ax = plt.subplots(figsize=(8, 3.2))
        _heat(gains[model, loss], ax, f"{model}, {loss}: share fooled minus the control")
        ax.set_ylabel("attacked")
        ax.tick_params("x", rotation=20)
        show.foot(figure, _origins(_cells(model, loss)))
        return figure

    def describe(model: str, loss: str) -> str:
        known = gains[model, loss].stack().dropna()
        off = known[[attacked != read for attacked, read in known.index]]
        if off.empty:
            return f"{model}, {loss}: not run."
        if off.max() <= 0:
            return f"{model}, {loss}: no explainer but the attacked one shows more than the control."
        attacked, read = off.idxmax()
        gain = f"{off.max():.2f} above the control"
        return f"{model}, {loss}: the strongest transfer is from {attacked} to {read}, {gain}."

    return show.frames(
        {"net": list(MODELS), "loss": list(losses)},
        look,
        describe,
        alt="A heat map with the attacked explainer as rows and the one that is read as columns.",
        caption="Transfer by net and loss: share of test images that count as fooled, minus that of the control. White "
        "fields without a number were not run.",
    )


def _cells(model: str, loss: str) -> list[dict[str, Any]]:
    return [spec for _, spec in claims_fooling.grid((loss,)) if spec["model"] == model]


def _beyond_control(model: str, loss: str) -> pd.DataFrame:
    """Share fooled minus that of the control: a row for each explainer attacked, a column for each that is read."""
    rows = {}
    for spec in _cells(model, loss):
        pairs = {
            read: [verdicts.mean(f"{kind}success by {read}", **spec) for kind in ("", "control ")]
            for read in EXPLAINERS
        }
        rows[spec["explainer"]] = {
            read: NAN if None in pair else pair[0].mean - pair[1].mean  # type: ignore[union-attr]
            for read, pair in pairs.items()
        }
    return pd.DataFrame(rows).T


def transfer_count() -> str:
    """In how many of the cells that can lie above 0, and whose seen images are fooled, the lie carries over."""
    cells = claims_fooling.transferred("", fooled=True)
    possible = [cell for label, cell in cells.items() if cell and not ("location" in label and label.endswith(BLACK))]
    above = sum(cell.low > 0 for cell in possible)
    return (
        f"{above} of {len(possible)} cells lie above 0, if you leave out those that cannot, "
        "and those of nets that are not fooled on the images of the fooling (counted after the runs were known)"
    )


def _repair(dataset: str, defense: str, explainer: str, treatment: str) -> dict[str, Any]:
    spec = {"kind": "repair", "dataset": dataset, "defense": defense, "explainer": explainer}
    return spec | {"treatment": treatment}


def _living(spec: dict[str, Any], kind: str) -> str:
    """The share of fooled images among those whose map is alive, before and after."""
    names = [f"{kind}{name}" for name in ("success", "dead", "dead before")]
    success, *dead = (torch.stack(list(verdicts.per_image(name, **spec).values())) for name in names)
    return str(two_level(success.masked_fill(cast("torch.Tensor", sum(dead)) > 0, torch.nan)))


def _outcome(spec: dict[str, Any]) -> dict[str, str]:
    cards = verdicts.found(**spec)
    row = {"seeds": str(len(cards))}
    for title, kind in {"fooled images": "", "never fooled": "control "}.items():
        row[title] = report.text(verdicts.mean(f"{kind}success", **spec))
        row[f"{title}, of living maps"] = _living(spec, kind)
    row |= {title: report.text(verdicts.mean(metric, **spec)) for title, metric in MEASURES.items()}
    accuracies = torch.tensor([card["metrics"]["accuracy"] for card in cards]).mean(0)
    return row | {"accuracy: honest, fooled, treated": ", ".join(f"{value:.3f}" for value in accuracies)}


def _outcomes(specs: dict[str, dict[str, Any]], source: dict[str, Any]) -> Table:
    rows = {label: _outcome(spec) for label, spec in specs.items() if verdicts.found(**spec)}
    note = f"{len(rows)} of {len(specs)} cells were run; {report.origin(**source)}"
    said = []
    for explainer in repair.LAYER:
        mine = {
            label.replace(f"{explainer}; ", "").replace(f"; fooled: {explainer}", ""): spec
            for label, spec in specs.items()
            if spec["explainer"] == explainer and label in rows
        }
        for title, metric in {
            "the share of fooled images": "success",
            "Spearman to the honest map": "spearman",
        }.items():
            values = {label: verdicts.mean(metric, **spec) for label, spec in mine.items()}
            said += [words.ends(f"{explainer}: {title}", values)] if values else []
    return noted(pd.DataFrame(rows).T, note, said)


def shelter_table(*, dataset: str = DATA, defenses: Sequence[str] | None = None) -> Table:
    """How well nets with and without a defence can be fooled."""
    specs = {
        f"{report.label(defense)}; fooled: {explainer}": _repair(dataset, defense, explainer, "none")
        for defense in defenses or cast("Collection[str]", KINDS["repair"].keys["defense"])
        for explainer in repair.LAYER
    }
    return _outcomes(specs, _repair(dataset, "none", "grad_cam", "none"))


def repair_table(*, dataset: str = DATA, defense: str = "none") -> Table:
    """What each treatment makes of a fooled net."""
    specs = {
        f"{explainer}; treatment: {treatment}": _repair(dataset, defense, explainer, treatment)
        for explainer in repair.LAYER
        for treatment in repair.TREATMENTS
    }
    return _outcomes(specs, _repair(dataset, defense, "grad_cam", "fine-tuning"))
