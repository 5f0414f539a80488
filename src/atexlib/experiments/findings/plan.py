"""What is worth making next, and how long all of it takes with so many workers."""

import functools
import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from ..engine import results, store
from ..engine.kinds import KINDS
from ..subjects.nets import TREATED
from .claims import PAPER_DATA, TABLE_ATTACKS, TABLE_EPS
from .verdicts import SEEDS


def by_worth(
    preset: str, *, datasets: Sequence[str] = PAPER_DATA, seeds: Sequence[int] = SEEDS
) -> list[dict[str, Any]]:
    """Specs at a preset, those worth most first: a whole table of one seed before the next seed.

    After the tables come all defences under the worst of seven attacks, and then the results that are kept at any
    preset, those that took least time first.

    >>> from atexlib.experiments.findings import plan
    >>> plan.by_worth("paper")[0]["kind"]
    'table'
    """
    axes = {"attack": TABLE_ATTACKS, "defense": ["none", "naive", "atex"], "eps": TABLE_EPS}
    tables = results.grid(kind="table", seed=seeds, dataset=datasets, **axes, preset=preset)
    rows = {"kind": "worst", "seed": seeds, "dataset": datasets, "eps": [0.05, 0.1], "defense": list(TREATED)}
    tables += results.grid(**rows, preset=preset)
    kept = []
    for name, kind in KINDS.items():
        if kind.scratch or name in ("table", "worst"):
            continue
        for file in store.names(name, kind.suffix):
            card = results.read(store.find(file))  # type: ignore[arg-type]
            if card["spec"].get("dataset", datasets[0]) in datasets:
                kept.append((card["provenance"]["seconds"], {**card["spec"], "preset": preset}))
    kept.sort(key=lambda pair: pair[0])
    return tables + [spec for _, spec in kept]


Jobs = Mapping[str, tuple[float, Sequence[str]]]


def recorded(preset: str = "reduced") -> dict[str, tuple[float, list[str]]]:
    """Seconds that each result at a preset took, and the names of those that it rests on."""
    found = {}
    for kind in KINDS.values():
        for name in [] if kind.scratch else store.names(kind.name, kind.suffix):
            if name.endswith(f"-{preset}{kind.suffix}"):
                card = results.read(store.find(name))  # type: ignore[arg-type]
                needs = [KINDS[needed].file(spec) for needed, spec in kind.needs(card["spec"])]
                found[name] = (card["provenance"]["seconds"], needs)
    return found


def wall_time(jobs: Jobs, workers: int, *, start: float = 0.0) -> float:
    """Seconds until all jobs are done by so many workers, each of which takes `start` seconds more for every job.

    A worker that is free takes the job, among those whose needs are done, with the longest chain of jobs that wait for
    it. Needs that are no jobs are there already.

    >>> wall_time({"net": (10, []), "a": (5, ["net"]), "b": (5, ["net"])}, workers=2)
    15.0
    """
    spent = {name: seconds + start for name, (seconds, _) in jobs.items()}
    waiting = {name: {need for need in needs if need in jobs} for name, (_, needs) in jobs.items()}
    users: dict[str, list[str]] = {name: [] for name in jobs}
    for name, needs in waiting.items():
        for need in needs:
            users[need].append(name)

    @functools.cache
    def chain(name: str) -> float:
        return spent[name] + max(map(chain, users[name]), default=0.0)

    ready = [(-chain(name), name) for name, needs in waiting.items() if not needs]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            name = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + spent[name], name))
        now, name = heapq.heappop(running)
        for user in users[name]:
            waiting[user].remove(name)
            if not waiting[user]:
                heapq.heappush(ready, (-chain(user), user))
    return now
