"""Chapter 7: several attacks on each defence, budgets, transfer and noise: are its gradients masked?"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .... import show
from ....attack import OBJECTIVES
from ....maps.intervals import Interval
from .. import report, verdicts, words
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
    found, said = {}, []
    for defense in treated(defenses):
        specs = {name: _of(name, defense=defense, **where) for name in attacks}
        rows = {name: verdicts.mean(metric, **spec) for name, spec in specs.items()}
        rows["worst of all"] = report.worst(metric, [specs[name] for name in known]) if known else None
        found[report.label(defense)] = {name: report.text(cell) for name, cell in rows.items()}
        worst = rows.pop("worst of all")
        single = {name: cell.mean for name, cell in rows.items() if cell is not None}
        if single and worst is not None:
            name = min(single, key=single.__getitem__)
            said.append(
                f"{report.label(defense)}: the strongest single attack is {name}, {single[name]:.3f}; "
                f"the worst of all takes {single[name] - worst.mean:.3f} more."
            )
    source = report.origin(**_of(attacks[-1], defense="none", dataset=dataset, eps=eps))
    return noted(found, f"{report.label(metric)}, eps {eps}, seed {seed}; {source}", said)


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


def budget_in_words(
    metric: str = "spearman", *, dataset: str = DATA, eps: float = EPS, defenses: Sequence[str] | None = None
) -> words.Said:
    """What the last step of the budget takes off, with most starts."""
    falls = {}
    for defense in treated(defenses):
        *_, before, last = _budget(dataset, eps, defense, starts=STARTS[-1], metric=metric).values()
        falls[report.label(defense)] = None if before is None or last is None else before.mean - last.mean
    title = f"From {STEPS[-2]} to {STEPS[-1]} steps, with {STARTS[-1]} starts, the fall in {report.label(metric)}"
    return words.Said(words.ends(title, falls))


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
    own = {name: column["own attack"] for name, column in cells.items()}
    said = []
    for control, what in {"transfer": "transferred images", "noise": "noise"}.items():
        known = {name: (own[name], column[control]) for name, column in cells.items()}
        lower = [name for name, (mine, other) in known.items() if mine and other and mine.mean < other.mean]
        run = sum(None not in pair for pair in known.values())
        said.append(f"The net's own attack leaves less than {what} on {len(lower)} of {run} nets.")
    rises = {name: c["tolerance"].mean - own[name].mean for name, c in cells.items() if c["tolerance"] and own[name]}  # type: ignore[union-attr]
    said.append(words.ends("What holding the probability, too, gives back", rises))
    return noted(found, f"{report.label(metric)}, eps {eps}, seed {seed}; {source}", said)


def checklist(*, dataset: str = DATA, eps: float = EPS, seed: int = 0, defenses: Sequence[str] | None = None) -> Table:
    """Signs of masked gradients for each defence: the first three lines should be true, the last one false."""
    found = {report.label(d): _signs(dataset, eps, seed, d) for d in treated(defenses)}
    wanted = [True, True, True, False]
    broken = [
        f"{name}: {line}"
        for name, signs in found.items()
        for (line, sign), right in zip(signs.items(), wanted, strict=True)
        if sign is not right
    ]
    said = f"broken or not run: {'; '.join(broken)}" if broken else f"no line is broken, on any of {len(found)} nets"
    note = f"means of Spearman, eps {eps}; from the cards of the tables above"
    return noted(found, note, [f"Signs of masked gradients: {said}."])


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
