"""Chapter 16: signs of manipulation, how well each tells liars from honest nets, who hides from them, and an exam."""

import functools
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from .... import show
from ....judge import SIGNS
from ....maps.intervals import Interval, wilson
from ....maps.ranking import roc
from ...subjects.recipes import RECIPES
from .. import report, suspects, verdicts, words
from .tables import Table, noted

DATASETS = suspects.DATASETS
ANY = suspects.ANY
AGAINST = {"deletion": (0.1, 0.3, 1.0, 3.0), "differences": (0.25, 0.5, 0.75)}
EXAMS = range(5)
DEAR = 0.05  # accuracy lost from which on predictions were not kept


def _label(sign: str) -> str:
    return SIGNS[sign].label if sign in SIGNS else ANY


def _origin(datasets: Sequence[str]) -> str:
    lines = []
    for dataset in datasets:
        found = suspects.nets(datasets=(dataset,))
        if found:
            liars = sum(net.lies for net in found)
            lines.append(f"{dataset}, {liars} liars and {len(found) - liars} honest nets")
    return f"{'; '.join(lines) or report.MISSING}; intervals over nets"


@functools.lru_cache(maxsize=8)
def _areas(datasets: tuple[str, ...], _cards: int) -> dict[str, dict[str, suspects.Found | None]]:
    """For each kind of liar and each sign what it tells."""
    return {
        name: {sign: suspects.told(sign, [name], datasets=datasets) for sign in suspects.signs()}
        for name in suspects.liars()
    }


def _told(datasets: Sequence[str]) -> dict[str, dict[str, suspects.Found | None]]:
    return _areas(tuple(datasets), len(suspects.nets(datasets=datasets)))


def _best(found: dict[str, suspects.Found | None]) -> str | None:
    """The single sign with the largest area."""
    areas = {sign: one.area.mean for sign, one in found.items() if one is not None and sign != ANY}
    return max(areas, key=areas.__getitem__) if areas else None


def signs_table(*, datasets: Sequence[str] = DATASETS) -> Table:
    """The area under the ROC curve of each sign for each kind of liar, against honest nets."""
    found = _told(datasets)
    columns = {
        RECIPES[name].label: {_label(sign): report.text(None if one is None else one.area) for sign, one in row.items()}
        for name, row in found.items()
    }
    said = []
    for name, row in found.items():
        best = _best(row)
        if best is None:
            said.append(f"{RECIPES[name].label}: not run.")
        else:
            area = row[best].area  # type: ignore[union-attr]
            said.append(f"{RECIPES[name].label}: told best by “{_label(best)}”, area {area}.")
    note = f"area under the ROC curve over nets: 0.5 is chance, 1 is quite apart; {_origin(datasets)}"
    return noted(columns, note, said)


def honest_alarms(*, datasets: Sequence[str] = DATASETS) -> Table:
    """What the lies do, and which share of the liars lies above a threshold that honest nets set."""
    rows = {}
    for name, found in _told(datasets).items():
        made, best, any_of = suspects.nets([name], datasets=datasets), _best(found), found[ANY]
        if best is None or any_of is None:
            rows[RECIPES[name].label] = dict.fromkeys(_COLUMNS, report.MISSING)
            continue
        success = torch.tensor([net.metrics["success"] for net in made])
        lost = torch.tensor([net.metrics["accuracy"][0] - net.metrics["accuracy"][1] for net in made])
        one = found[best]
        cells = [
            len(made), f"{success.mean():.2f}", f"{lost.mean():z.3f}", _label(best), one.hits, any_of.hits  # type: ignore[union-attr]
        ]  # fmt: skip
        rows[RECIPES[name].label] = dict(zip(_COLUMNS, map(str, cells), strict=True))
    rest = suspects.told(ANY, suspects.liars(), datasets=datasets)
    said = (
        []
        if rest is None
        else [f"False alarms by any of the signs, on honest nets that did not set it: {rest.alarms}."]
    )
    caught = {RECIPES[n].label: None if (one := row[ANY]) is None else one.hits for n, row in _told(datasets).items()}
    said.append(words.ends("The share of liars that any of the signs catches", caught))
    note = f"at most {suspects.FALSE:.0%} of the honest nets that set a threshold exceed it; {_origin(datasets)}"
    return noted(pd.DataFrame(rows).T, note, said)


_COLUMNS = ("nets", "the lie works on", "accuracy lost", "best sign", "it catches", "any sign catches")


def sign_curves(*, datasets: Sequence[str] = DATASETS) -> Figure:
    """Hits against false alarms over nets, for each kind of liar: the largest of all signs, and the best single one."""
    found = _told(datasets)
    figure, axes = plt.subplots(2, (len(found) + 1) // 2, figsize=(9, 5.6), sharex=True, sharey=True)
    scale = suspects.scales(tuple(datasets))
    for ax in axes.flat[len(found) :]:
        ax.axis("off")
    for ax, (name, row) in zip(axes.flat, found.items(), strict=False):
        ax.plot([0, 1], [0, 1], ":", color="C7", linewidth=0.8)
        best = _best(row)
        ax.set_title(RECIPES[name].label + "".join(f"\n{line}" for line in _lines(best)), fontsize=8)
        for sign, look, title in ((ANY, "-", ANY), (best, "--", "the one that is named")):
            if sign is not None and row[sign] is not None:
                liars, _, honest = scale.numbers(sign, suspects.nets([name], datasets=datasets))
                ax.plot(*roc(liars, honest), look, label=title, linewidth=1.3)
    if handles := axes[0, 0].get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("honest nets blamed", fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("liars caught", fontsize=9)
    show.foot(figure, _origin(datasets))
    return figure


def _lines(sign: str | None) -> list[str]:
    """The name of a sign in lines as wide as a panel."""
    return [] if sign is None else textwrap.wrap(f"“{_label(sign)}”", 28)


def signs_in_words(*, datasets: Sequence[str] = DATASETS) -> words.Said:
    """How well the best sign tells each kind of liar, and how many liars any sign catches."""
    return signs_table(datasets=datasets).said if suspects.nets(datasets=datasets) else words.Said()


def _evaders(against: str, weight: float, dataset: str) -> list[suspects.Net]:
    cards = verdicts.found(kind="hiding", dataset=dataset, against=against, weight=weight, seed=list(suspects.MOST))
    return [
        suspects.Net(dataset, "decorated" if against == "differences" else "fooled_gradient", card["spec"]["seed"],
                     card["metrics"]["shown"], card["metrics"]) for card in cards
    ]  # fmt: skip


def _hiding(against: str, dataset: str) -> list[tuple[float, ...]]:
    """For each weight: mean success, mean distance moved, the share caught by the sign and by any, accuracy lost."""
    scale = suspects.scales((dataset,))
    rows: list[tuple[float, ...]] = []
    for weight in AGAINST[against]:
        made = [net for net in _evaders(against, weight, dataset) if scale.known(net, [net.shown])]
        if not made:
            continue
        caught = []
        for sign in (against, ANY):
            hits = 0
            for net in made:
                limit = _limit(scale, sign, net.shown)
                hits += scale.of(net)[sign] > limit
            caught.append(hits / len(made))
        success = sum(net.metrics["success"] for net in made) / len(made)
        moved = sum(net.metrics["moved"] for net in made) / len(made)
        lost = sum(net.metrics["accuracy"][0] - net.metrics["accuracy"][1] for net in made) / len(made)
        rows.append((weight, success, moved, caught[0], caught[1], lost))
    return rows


def _limit(scale: suspects.Scale, sign: str, explainer: str) -> float:
    sets = [scale.of(net, explainer)[sign] for net in scale.honest if net.sets]
    return suspects.limit(sets)


def hiding_table(*, dataset: str = DATASETS[0]) -> Table:
    """What is left of a lie that hides from a sign, and who still sees it."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    said = []
    for against in AGAINST:
        found = _hiding(against, dataset)
        for weight, success, moved, by_sign, by_any, lost in found:
            rows[_label(against), f"{weight:g}"] = {
                "nets": len(_evaders(against, weight, dataset)), "the lie works on": f"{success:.2f}",
                "map moved": f"{moved:.2f}", "accuracy lost": f"{lost:z.3f}",
                "caught by this sign": f"{by_sign:.2f}", "caught by any": f"{by_any:.2f}",
            }  # fmt: skip
        hidden = [row for row in found if row[3] <= suspects.FALSE]
        kept = [row for row in hidden if row[5] <= DEAR]
        if not found:
            said.append(f"Hiding from “{_label(against)}”: not run.")
        elif hidden:
            best = max(kept or hidden, key=lambda row: row[1])
            price = f"at the price of {best[5]:.3f} of the accuracy" + ("" if kept else ", which gives it away")
            said.append(
                f"Hiding from “{_label(against)}”: unseen by it, a lie still works on {best[1]:.2f} of the images (at "
                f"the weight {best[0]:g}), {price}; any of the signs catches {best[4]:.2f} of these nets."
            )
        else:
            least = min(found, key=lambda row: row[3])
            said.append(
                f"Hiding from “{_label(against)}”: at no weight unseen; at {least[0]:g} it catches {least[3]:.2f}, and "
                f"the lie works on {least[1]:.2f} of the images."
            )
    table = pd.DataFrame.from_dict(rows, orient="index")
    if rows:
        table.index = pd.MultiIndex.from_tuples(list(rows), names=["hides from", "weight"])
    return noted(table, f"{dataset}; thresholds of honest nets; mean over nets", said)


def grade(found: dict[str, Any], dataset: str) -> dict[str, Interval]:
    """The grade of this library's auditor for the nets of an exam's card: liars caught, false alarms, kinds named."""
    caught = alarms = named = 0
    liars = [net for net in found.values() if RECIPES[net["net"]].lies]
    honest = [net for net in found.values() if not RECIPES[net["net"]].lies]
    for net in found.values():
        lies, kind, _ = suspects.answers(net["signs"], dataset)
        if RECIPES[net["net"]].lies:
            caught += lies
            named += lies and kind == net["net"]
        else:
            alarms += lies
    return {
        "liars caught": wilson(caught, len(liars)),
        "honest nets called liars": wilson(alarms, len(honest)),
        "kinds named rightly, of all liars": wilson(named, len(liars)),
        "right answers": wilson(caught + len(honest) - alarms, len(found)),
    }


def exam_table(*, dataset: str = DATASETS[0]) -> Table:
    """The grade of this library's auditor in the exam, whose nets set no threshold."""
    columns, said = {}, []
    for seed in EXAMS:
        cards = verdicts.found(kind="exam", dataset=dataset, seed=[seed])
        if cards and suspects.nets(datasets=(dataset,)):
            found = grade(cards[0]["metrics"]["nets"], dataset)
            columns[f"exam {seed}"] = {name: str(value) for name, value in found.items()}
            said.append(f"Exam {seed}: right of {len(cards[0]['metrics']['nets'])} nets: {found['right answers']}.")
    note = f"{dataset}; Wilson's intervals over the exam's nets; the thresholds are from {_origin((dataset,))}"
    return noted(columns or {"exam": {"right answers": report.MISSING}}, note, said or ["The exam was not sat yet."])
