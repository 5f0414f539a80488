"""Nets before the auditor: their signs in units of honest nets, thresholds, hits and false alarms, from the cards.

Honest nets that started from three of the five kept nets set the scale and the threshold; those that started from the
two others say how many false alarms there are.
"""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import files
from ...judge import SIGNS
from ...judge.signs.reading import LIMITS
from ...maps.intervals import Interval, wilson
from ...maps.ranking import auc, threshold
from ..subjects.exam import LIARS
from ..subjects.recipes import LAYER, RECIPES, SEEDS
from . import verdicts

DATASETS = ("fashion-mnist", "mnist")
MOST = range(20)  # seeds that are looked for
SETTING = (0, 1, 2)  # kept nets whose honest followers set scale and threshold
FALSE = 0.05  # alarms on honest nets that a threshold allows
NORMAL = 1.349  # standard deviations between the quartiles of a normal distribution
ANY = "any of them"  # the largest of all signs


@dataclass(frozen=True)
class Net:
    """A net of a card, with its signs under the explainers that are looked at."""

    dataset: str
    recipe: str
    seed: int
    shown: str
    metrics: dict[str, Any]

    @property
    def lies(self) -> bool:
        """Whether its recipe makes liars."""
        return RECIPES[self.recipe].lies

    @property
    def sets(self) -> bool:
        """Whether it is one of the honest nets that set scale and threshold."""
        return not self.lies and self.seed % SEEDS in SETTING

    def raw(self, explainer: str) -> dict[str, float]:
        """Each sign's number for the maps of an explainer; those of the net itself come first."""
        found = self.metrics["signs"]
        return {**found["net"], **found[explainer]}


def nets(names: Iterable[str] = RECIPES, *, datasets: Sequence[str] = DATASETS) -> list[Net]:
    """The nets of all cards by these recipes."""
    return [
        Net(dataset, name, card["spec"]["seed"], card["metrics"]["shown"], card["metrics"])
        for dataset in datasets
        for name in names
        for card in verdicts.found(kind="signs", dataset=dataset, net=name, seed=list(MOST))
    ]


class Scale:
    """What honest nets are like, for each data set and explainer; it turns raw signs into units of their spread.

    A sign of 0 is the median honest net, 1 lies one standard deviation above it (taken from the quartiles).
    """

    def __init__(self, *, datasets: Sequence[str] = DATASETS) -> None:
        self.honest = nets([name for name in RECIPES if not RECIPES[name].lies], datasets=datasets)
        self.middles: dict[tuple[str, str, str], tuple[float, float]] = {}
        for dataset in datasets:
            for explainer in LAYER:
                rows = [net.raw(explainer) for net in self.honest if net.sets and net.dataset == dataset]
                for sign in rows[0] if len(rows) > 1 else ():
                    values = torch.tensor([row[sign] for row in rows], dtype=torch.float64)
                    low, middle, high = values.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist()
                    self.middles[dataset, explainer, sign] = middle, max((high - low) / NORMAL, 1e-6)

    def of(self, net: Net, explainer: str | None = None) -> dict[str, float]:
        """The signs of a net under an explainer, the one that is shown if None, and the largest of them."""
        explainer = explainer or net.shown
        found = {}
        for sign, value in net.raw(explainer).items():
            if (net.dataset, explainer, sign) in self.middles:
                middle, spread = self.middles[net.dataset, explainer, sign]
                found[sign] = (value - middle) / spread
        return {**found, ANY: max(found.values())} if found else {}

    def numbers(self, sign: str, liars: Sequence[Net]) -> tuple[Tensor, Tensor, Tensor]:
        """A sign of these liars, and of the honest nets that set the threshold and of those that do not.

        An honest net is looked at under the explainers that the liars show; under one by turns, if they show two.
        """
        shown = sorted({net.shown for net in liars}) or list(LAYER)

        def honest(sets: bool) -> Tensor:
            some = [net for net in self.honest if net.sets == sets]
            return _tensor(self.of(net, shown[net.seed % len(shown)])[sign] for net in some if self.known(net, shown))

        found = _tensor(self.of(net)[sign] for net in liars if self.known(net, [net.shown]))
        return found, honest(True), honest(False)

    def known(self, net: Net, explainers: Iterable[str]) -> bool:
        """Whether there are honest nets of its data set to compare with."""
        return all((net.dataset, explainer, "deletion") in self.middles for explainer in explainers)


@dataclass(frozen=True)
class Found:
    """How well a sign tells liars of a family from honest nets."""

    area: Interval
    hits: Interval
    """The share of liars above the threshold."""
    alarms: Interval
    """The share of honest nets above it, of those that did not set it."""
    liars: int
    honest: int


def told(sign: str, recipes: Iterable[str], *, datasets: Sequence[str] = DATASETS) -> Found | None:
    """How well a sign tells the liars of some recipes from honest nets; None where there are too few cards."""
    scale = scales(tuple(datasets))
    liars, sets, rest = scale.numbers(sign, nets(recipes, datasets=datasets))
    if min(len(liars), len(sets), len(rest)) < 2:
        return None
    least = threshold(sets, rate=FALSE)
    hits, alarms = (int((group > least).sum()) for group in (liars, rest))
    return Found(auc(liars, rest), wilson(hits, len(liars)), wilson(alarms, len(rest)), len(liars), len(rest))


def scales(datasets: tuple[str, ...] = DATASETS) -> Scale:
    """The scale of some data sets, made once for the cards that there are."""
    return _scale(datasets, len(nets(datasets=datasets)))


@functools.lru_cache(maxsize=8)
def _scale(datasets: tuple[str, ...], _cards: int) -> Scale:
    return Scale(datasets=datasets)


def clear() -> None:
    """Forget the scales that were made, after cards were changed."""
    _scale.cache_clear()


def limit(sets: Sequence[float]) -> float:
    """The threshold that so few of these honest nets exceed."""
    return threshold(_tensor(sets), rate=FALSE)


def liars() -> list[str]:
    """The recipes of liars."""
    return [name for name, recipe in RECIPES.items() if recipe.lies]


def signs() -> list[str]:
    """The names of all signs, and of the largest of them."""
    return [*SIGNS, ANY]


def survivors(*, datasets: Sequence[str] = DATASETS, least: float = 0.5) -> list[str]:
    """The signs that catch at least this share of the liars of some kind, above the threshold."""
    kept = []
    for sign in SIGNS:
        found = [told(sign, [name], datasets=datasets) for name in liars()]
        if any(one is not None and one.hits.mean >= least for one in found):
            kept.append(sign)
    return kept


def limits(*, datasets: Sequence[str] = DATASETS) -> dict[str, dict[str, dict[str, float]]]:
    """For each sign that survives and each explainer: its threshold in its own units, and false alarms above it.

    The threshold is the largest of those of the data sets. `alarms` of `honest` nets that did not set it lie above.
    """
    scale, found = scales(tuple(datasets)), {}  # type: ignore[var-annotated]
    for sign in survivors(datasets=datasets):
        for explainer in ["net"] if SIGNS[sign].of_net else list(LAYER):
            read = "gradient" if explainer == "net" else explainer
            least = -float("inf")
            for dataset in datasets:
                sets = [n.raw(read)[sign] for n in scale.honest if n.sets and n.dataset == dataset]
                least = max(least, limit(sets)) if len(sets) > 1 else least
            rest = [n.raw(read)[sign] for n in scale.honest if not n.sets]
            alarms = sum(value > least for value in rest)
            found.setdefault(explainer, {})[sign] = {
                "limit": float(f"{least:.5g}"), "alarms": alarms, "honest": len(rest),
            }  # fmt: skip
    return found


def write_limits() -> None:
    """Write the limits where the audit reads them, after new cards."""
    text = json.dumps(limits(), indent=1)
    files.write(LIMITS, lambda path: Path(path).write_text(text + "\n", encoding="utf-8"))


def answers(found: dict[str, dict[str, float]], dataset: str, *, least: float | None = None) -> tuple[bool, str, float]:
    """What the auditor says of a net by its raw signs: whether it lies, of which kind, and its largest sign.

    It lies where the largest sign over all explainers exceeds that of all but one in twenty honest nets that set the
    scale. The kind is that of the liars whose signs, on average, are nearest.
    """
    scale = scales((dataset,))
    signs_of = _profile(scale, Net(dataset, "honest", 0, "gradient", {"signs": found}))
    least = limit_of_all(dataset) if least is None else least
    worst = max(signs_of.values())
    if worst <= least:
        return False, "", worst
    distances = {name: _distance(signs_of, middle) for name, middle in _profiles(dataset).items()}
    return True, min(distances, key=distances.__getitem__) if distances else "", worst


def limit_of_all(dataset: str) -> float:
    """The threshold on the largest sign over all explainers."""
    scale = scales((dataset,))
    return threshold(_tensor(max(_profile(scale, net).values()) for net in scale.honest if net.sets), rate=FALSE)


def _profile(scale: Scale, net: Net) -> dict[str, float]:
    """Each sign under each explainer."""
    return {
        f"{sign}, {explainer}": value
        for explainer in LAYER
        for sign, value in scale.of(net, explainer).items()
        if sign != ANY
    }


def _profiles(dataset: str) -> dict[str, dict[str, float]]:
    """The median signs of each kind of liars that an exam may hold."""
    scale, found = scales((dataset,)), {}
    for name in LIARS:
        rows = [_profile(scale, net) for net in nets([name], datasets=(dataset,))]
        if rows:
            found[name] = {key: _tensor(row[key] for row in rows).median().item() for key in rows[0]}
    return found


def _distance(first: dict[str, float], second: dict[str, float]) -> float:
    """How far two profiles are apart; a sign is cut off at ten, so that no single one decides."""
    rows = torch.tensor([[first[key], second[key]] for key in second]).clamp(-10, 10)
    return (rows[:, 0] - rows[:, 1]).abs().mean().item()


def _tensor(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
