"""Chapter 7: several attacks on each defence, budgets, transfer and noise: are its gradients masked?"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .... import show
from ....attack import OBJECTIVES
from ....maps.intervals import Interval
from .. import report, verdicts
from ..claims import PAPER_DATA, TABLE_ATTACKS, TABLE_EPS
from .tables import Table, legend, noted, treated

DATA = PAPER_DATA[0]
EPS = 0.06
STEPS = (10, 30, 100)
STARTS = (1, 5)
CONTROLS = ("transfer", "noise", "tolerance")
GAIN = 0.03  # so much lower may three times the steps bring the value


def _of(attack: str, **where: Any) -> dict[str, Any]:
    """The spec of an attack's cell, which is one of the tables or of the other attacks."""
    return {"kind": "table" if attack in TABLE_ATTACKS else "attacks", "attack": attack, **where}


def attack_table(
    metric: str = "spearman",
    *,
    dataset: str = DATA,
    eps: float = EPS,
    seed: int = 0,
    attacks: Sequence[str] = (*OBJECTIVES, "surrogate"),
    defenses: Sequence[str] | None = None,
) -> Table:
    """A measure under each attack, and under each image's worst one of those that were run."""
    where = {"dataset": dataset, "eps": eps, "seed": seed}
    known = [
        name for name in attacks if any(verdicts.found(**_of(name, defense=d, **where)) for d in treated(defenses))
    ]
    found = {}
    for defense in treated(defenses):
        specs = {name: _of(name, defense=defense, **where) for name in attacks}
        rows = {name: verdicts.mean(metric, **spec) for name, spec in specs.items()}
        rows["worst of all"] = report.worst(metric, [specs[name] for name in known]) if known else None
        found[report.label(defense)] = {name: report.text(cell) for name, cell in rows.items()}
    source = report.origin(**_of(attacks[-1], defense="none", dataset=dataset, eps=eps))
    return noted(found, f"{report.label(metric)}, eps {eps}, seed {seed}; {source}")


def _budget(
    dataset: str, eps: float, defense: str, *, starts: int, metric: str = "spearman"
) -> dict[int, Interval | None]:
    where = {"kind": "budget", "dataset": dataset, "eps": eps, "defense": defense, "starts": starts}
    return {steps: verdicts.mean(metric, **where, steps=steps) for steps in STEPS}


def budget_curves(
    metric: str = "spearman", *, dataset: str = DATA, eps: float = EPS, defenses: Sequence[str] | None = None
) -> Figure:
    """A measure against the number of steps, with one start (dashed) and with five (solid)."""
    figure, ax = plt.subplots(figsize=(6, 3.4))
    for number, defense in enumerate(treated(defenses)):
        for starts, line in zip(STARTS, ("--", "-"), strict=True):
            cells = _budget(dataset, eps, defense, starts=starts, metric=metric)
            known = {steps: cell.mean for steps, cell in cells.items() if cell is not None}
            name = report.label(defense) if line == "-" else None
            look: dict[str, Any] = {"color": f"C{number}", "marker": "o", "markersize": 3}
            ax.plot(list(known), list(known.values()), line, label=name, **look)
    ax.set(xscale="log", xlabel="steps of the attack", ylabel=report.label(metric), ylim=(0, None))
    legend(ax, fontsize=7)
    where: dict[str, Any] = {"kind": "budget", "dataset": dataset, "eps": eps}
    show.foot(figure, report.origin(**where, defense="none", steps=STEPS[-1], starts=STARTS[-1]))
    return figure


def _controls(metric: str, dataset: str, eps: float, seed: int, defense: str) -> dict[str, Interval | None]:
    where = {"dataset": dataset, "eps": eps, "seed": seed, "defense": defense}
    names = {"own attack": "untargeted"} | {name: name for name in CONTROLS}
    return {title: verdicts.mean(metric, **_of(name, **where)) for title, name in names.items()}


def control_table(
    metric: str = "spearman",
    *,
    dataset: str = DATA,
    eps: float = EPS,
    seed: int = 0,
    defenses: Sequence[str] | None = None,
) -> Table:
    """A measure under the net's own attack, transferred images, noise, and with the probability held too."""
    cells = {report.label(d): _controls(metric, dataset, eps, seed, d) for d in treated(defenses)}
    found = {name: {row: report.text(cell) for row, cell in column.items()} for name, column in cells.items()}
    source = report.origin(**_of("noise", dataset=dataset, eps=eps, defense="none"))
    return noted(found, f"{report.label(metric)}, eps {eps}, seed {seed}; {source}")


def checklist(*, dataset: str = DATA, eps: float = EPS, seed: int = 0, defenses: Sequence[str] | None = None) -> Table:
    """Signs of masked gradients for each defence: the first three lines should be true, the last one false."""
    found = {report.label(d): _signs(dataset, eps, seed, d) for d in treated(defenses)}
    return noted(found, f"means of Spearman, eps {eps}; from the cards of the tables above")


def _signs(dataset: str, eps: float, seed: int, defense: str) -> Mapping[str, Any]:
    found = _controls("spearman", dataset, eps, seed, defense)
    curve = list(_budget(dataset, eps, defense, starts=STARTS[-1]).values())
    where = {"kind": "table", "dataset": dataset, "attack": "untargeted", "defense": defense}
    small, large = (verdicts.mean("spearman", **where, eps=size) for size in (TABLE_EPS[0], TABLE_EPS[-1]))
    return {
        "own gradients beat transfer": _falls(found["transfer"], found["own attack"]),
        "own gradients beat noise": _falls(found["noise"], found["own attack"]),
        "a larger eps hurts more": _falls(small, large),
        f"3 times the steps still take off more than {GAIN:g}": _falls(curve[-2], curve[-1], by=GAIN),
    }


def _falls(first: Interval | None, second: Interval | None, by: float = 0.0) -> bool | str:
    return report.MISSING if first is None or second is None else bool(first.mean - second.mean > by)
