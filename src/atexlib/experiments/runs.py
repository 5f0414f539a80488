"""Run experiments by their specs, or read what they gave; list them; say which results are stale."""

import datetime
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from .. import checks
from . import cards, families, nets, store
from .bar import STABILITY_BAR
from .cards import Card, Experiment, Spec
from .costs import COST
from .efficacy import EFFICACY, THEOREM
from .fooling import FOOLING
from .fooling_variants import FOOLING_POINT, FOOLING_VARIANT
from .repair import REPAIR
from .smoothness import SMOOTHNESS
from .store import Recompute
from .tables import ATTACKS, BUDGET, OTHER, TABLE
from .variants import VARIANT

ALL = (
    *(TABLE, ATTACKS, BUDGET, OTHER, VARIANT, STABILITY_BAR, COST),
    *(SMOOTHNESS, EFFICACY, THEOREM),
    *(FOOLING, FOOLING_VARIANT, FOOLING_POINT, REPAIR),
)
EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in ALL}


def run_or_load(spec: Spec, *, recompute: Recompute = False, device: str = "cpu", progress: bool = False) -> Card:
    """The result card of a spec: read if there is one, else computed and written.

    Args:
        spec: `experiment` (one of EXPERIMENTS) and that experiment's keys, for `table`: dataset, attack, defense, eps,
            seed, preset.
        recompute: compute it even if there is a card; `"stale"`: if the card is stale or cannot be read.
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
    name = cards.card_name(experiment, spec)
    path = store.make_once(
        name,
        lambda: cards.compute(experiment, spec, device=device, renew=recompute == "stale", progress=progress),
        recompute=recompute,
        is_stale=lambda _path: bool(card_entry(name).stale_since),
    )
    return cards.read(path)


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


def run_all(specs: Iterable[Spec], *, recompute: Recompute = False, device: str = "cpu") -> None:
    """Compute the cards that are missing, one after the other; what is done stays done if this is interrupted."""
    for spec in tqdm(list(specs), desc="cards"):
        run_or_load(spec, recompute=recompute, device=device)


@dataclass(frozen=True)
class Entry:
    """A result in a line: its name, what changed since it was made (nothing if it is fresh), and how it was made.

    Of a file that cannot be read nothing but these two is known.
    """

    name: str
    stale_since: list[str]
    preset: str | None = None
    seed: int | None = None
    device: str | None = None
    date: datetime.datetime | None = None
    seconds: float | None = None

    @property
    def state(self) -> str:
        """`fresh`, or why it should be made anew."""
        if not self.stale_since:
            return "fresh"
        return "cannot be read" if self.date is None else f"stale since a change of {', '.join(self.stale_since)}"


def status() -> Iterator[Entry]:
    """Every net and card, own and committed."""
    for name in store.names("nets", ".safetensors"):
        yield _net_entry(name, nets.stale_since)
    for name in store.names("families", ".safetensors"):
        yield _net_entry(name, families.stale_since)
    for name in store.names("cards", ".json"):
        yield card_entry(name)


def _net_entry(name: str, stale_since: Callable[[dict], list[str]]) -> Entry:
    try:
        facts = nets.net_facts(store.find(name))
    except ValueError:
        return Entry(name, ["the file"])
    return _entry(name, facts, facts, stale_since(facts))


def card_entry(name: str) -> Entry:
    """The line of one card."""
    try:
        card = cards.read(store.find(name))
    except ValueError:
        return Entry(name, ["the file"])
    return _entry(name, card["spec"], card["provenance"], cards.stale_since(card))


def _entry(name: str, spec: Mapping, made: Mapping, stale_since: list[str]) -> Entry:
    date = datetime.datetime.fromisoformat(made["date"])
    return Entry(name, stale_since, spec["preset"], spec["seed"], made["device"], date, made["seconds"])
