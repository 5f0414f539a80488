"""Run experiments by their specs, or read what they gave; list them; say which results are stale."""

import datetime
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from .. import checks
from . import cards, families, nets, provenance, store
from .bar import STABILITY_BAR
from .cards import Card, Experiment, Spec
from .costs import COST
from .efficacy import EFFICACY, THEOREM
from .fooling import FOOLING
from .repair import REPAIR
from .smoothness import SMOOTHNESS
from .tables import ATTACKS, BUDGET, OTHER, TABLE
from .variants import VARIANT

ALL = (
    *(TABLE, ATTACKS, BUDGET, OTHER, VARIANT, STABILITY_BAR, COST),
    *(SMOOTHNESS, EFFICACY, THEOREM),
    *(FOOLING, REPAIR),
)
EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in ALL}


def run_or_load(spec: Spec, *, recompute: bool = False, device: str = "cpu", progress: bool = False) -> Card:
    """The result card of a spec: read if there is one, else computed and written.

    Args:
        spec: `experiment` (one of EXPERIMENTS) and that experiment's keys, for `table`: dataset, attack, defense, eps,
            seed, preset.
        recompute: compute it even if there is a card.
        device: `cpu`, `cuda`, or `auto`.
        progress: show progress bars.

    Returns:
        A dict of `spec`, `metrics` and `provenance`. Metrics with one value an image hold `values`, their `mean` and
        the ends `low` and `high` of its 95 % interval over the images.

    Raises:
        ValueError: an unknown, missing or impossible key; a card that cannot be read.
    """
    experiment, spec = check(spec)
    device = cards.devices(device)
    path = store.find(cards.card_name(experiment, spec))
    if path is not None and not recompute:
        return cards.read(path)
    return cards.compute(experiment, spec, device=device, progress=progress)


def load(specs: Iterable[Spec]) -> list[Card]:
    """The cards of those specs that have one; nothing is computed."""
    found = (store.find(cards.card_name(*check(spec))) for spec in specs)
    return [cards.read(path) for path in found if path is not None]


def check(spec: Spec) -> tuple[Experiment, dict[str, object]]:
    """The experiment of a spec and the spec with its keys in order; raise a ValueError if it is not a possible one."""
    if not isinstance(spec, Mapping) or "experiment" not in spec:
        raise ValueError(f"the spec is {spec!r}; pass a dict with the key 'experiment': {', '.join(EXPERIMENTS)}.")
    checks.one_of("experiment", spec["experiment"], EXPERIMENTS)
    experiment = EXPERIMENTS[spec["experiment"]]
    return experiment, experiment.check(spec)


def grid(**axes: object) -> list[dict[str, object]]:
    """All specs of a grid: each keyword is a value or a list of values."""
    lists = [value if isinstance(value, list | tuple) else [value] for value in axes.values()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*lists)]


def run_all(specs: Iterable[Spec], *, recompute: bool = False, device: str = "cpu") -> None:
    """Compute the cards that are missing, one after the other; what is done stays done if this is interrupted."""
    for spec in tqdm(list(specs), desc="cards"):
        run_or_load(spec, recompute=recompute, device=device)


@dataclass(frozen=True)
class Entry:
    """A result in a line: its name, size and origin, and what changed since it was made (nothing if it is fresh)."""

    name: str
    preset: str
    seed: int
    device: str
    date: datetime.datetime
    seconds: float
    stale_since: list[str]


def status() -> Iterator[Entry]:
    """Every net and card, own and committed."""
    for name in store.names("nets", ".safetensors"):
        facts = nets.net_facts(store.find(name))
        yield _entry(name, facts, facts, _net_stale_since(facts))
    for name in store.names("families", ".safetensors"):
        facts = nets.net_facts(store.find(name))
        yield _entry(name, facts, facts, families.stale_since(facts))
    for name in store.names("cards", ".json"):
        card = cards.read(store.find(name))
        yield _entry(name, card["spec"], card["provenance"], cards.stale_since(card))


def _net_stale_since(facts: dict[str, object]) -> list[str]:
    found = provenance.changed(facts["code"])
    if facts["defense"] != "none":
        where = {key: facts[key] for key in ("dataset", "seed", "preset")}
        base = store.find(nets.net_name(defense="none", **where))
        if base is None or provenance.file_hash(base) != facts["base"]:
            found.append("the net none")
        if facts["settings"] != nets.SETTINGS[facts["defense"]]:
            found.append("experiments.nets.SETTINGS")
    return found


def _entry(name: str, spec: Mapping, made: Mapping, stale_since: list[str]) -> Entry:
    date = datetime.datetime.fromisoformat(made["date"])
    return Entry(name, spec["preset"], spec["seed"], made["device"], date, made["seconds"], stale_since)
