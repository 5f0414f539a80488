"""Many results by several processes until a deadline: those worth most first, and what they rest on before them."""

import multiprocessing
import os
import statistics
import tarfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from tqdm import tqdm

from ... import checks, files
from . import store
from .kinds import KINDS, Kind, Spec, check
from .place import Place
from .results import ensure, entry

MOST_WORKERS = 12  # on one GPU: more only wait for each other


@dataclass(frozen=True)
class Outcome:
    """What a queue made, what failed and why, and what it left for the next run, by the names of the results."""

    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def run(
    specs: Iterable[Spec], *, seconds: float, device: str, workers: int | None = None, progress: bool = False
) -> Outcome:
    """Make the results that are missing, in this order, as far as the time goes; what is made stays made.

    A result is not begun if others of its kind, in this run or at this preset on such a device before, took longer than
    is left. What still runs at the end of the time is stopped; nothing half-made is kept.

    Args:
        specs: results, those worth most first; what they rest on is made before them.
        seconds: wall time for all of it.
        device: `cpu` or `cuda`.
        workers: processes, each with its share of the cores; as many as there are cores if None, at most 12.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong spec, before any work; numbers out of range.
    """
    checks.number("seconds", seconds, open_low=True)
    if workers is not None:
        checks.count("workers", workers)
    jobs = missing(specs)
    workers = min(workers or min(os.cpu_count() or 1, MOST_WORKERS), len(jobs))
    outcome, end = Outcome(), time.monotonic() + seconds
    took = _times_before(jobs, device)
    now: dict[str, list[float]] = defaultdict(list)
    with _Workers(workers, device) as pool, tqdm(total=len(jobs), desc="results", disable=not progress) as bar:
        while jobs or pool.busy:
            for name in list(jobs):
                kind, spec = jobs[name]
                needs = {KINDS[needed].file(its) for needed, its in kind.needs(spec)}
                typical = statistics.median(now[kind.name] or took.get(kind.name, [0.0]))
                if needs & outcome.failed.keys() or needs & set(outcome.left) or time.monotonic() + typical > end:
                    outcome.left.append(name)
                    jobs.pop(name)
                elif pool.free and not needs & (jobs.keys() | pool.busy):
                    pool.begin(name, spec)
                    jobs.pop(name)
            found = pool.next(end - time.monotonic())
            if found is None:
                outcome.left.extend([*pool.busy, *jobs])
                break
            name, spent, error = found
            if error:
                outcome.failed[name] = error
            else:
                outcome.made.append(name)
                now[name.split("/")[-2]].append(spent)
            bar.update()
    return outcome


def missing(specs: Iterable[Spec]) -> dict[str, tuple[Kind, dict[str, Any]]]:
    """The results of these specs, and those that they rest on before them, of which there is none yet, by name."""
    found: dict[str, tuple[Kind, dict[str, Any]]] = {}

    def add(spec: Spec) -> None:
        kind, spec = check(spec)
        name = kind.file(spec)
        if name in found or store.find(name) is not None:
            return
        for needed, its in kind.needs(spec):
            add({"kind": needed, **its})
        found[name] = kind, spec

    for spec in specs:
        add(spec)
    return found


def pack(names: Iterable[str], path: Path) -> None:
    """Results in one tar file, by their names, to be unpacked in the folder of results elsewhere; `.tgz` is smaller."""

    def save(temporary: str) -> None:
        with tarfile.open(temporary, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
            for name in names:
                tar.add(store.place(name), name)

    files.write(path, save)


def _times_before(jobs: dict[str, tuple[Kind, dict[str, Any]]], device: str) -> dict[str, list[float]]:
    """Seconds that results of the jobs' kinds took at their presets on a GPU, or on a CPU."""
    found: dict[str, list[float]] = {}
    wanted = {(kind.name, kind.suffix, spec["preset"]) for kind, spec in jobs.values()}
    for kind, suffix, preset in wanted:
        names = [name for name in store.names(kind, suffix) if name.endswith(f"-{preset}{suffix}")]
        lines = [line for line in map(entry, names) if line.seconds and (line.device == "cpu") == (device == "cpu")]
        if lines:
            found[kind] = [line.seconds or 0.0 for line in lines]
    return found


class _Workers:
    """Processes that make results; with one inbox for all, since every process can make everything."""

    def __init__(self, count: int, device: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.busy: set[str] = set()
        self.count = count
        self.jobs, self.done = context.Queue(), context.Queue()
        threads = max(1, (os.cpu_count() or 1) // max(1, count))
        arguments = (self.jobs, self.done, device, threads, os.getpid())
        self.processes = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(count)]

    def __enter__(self) -> "_Workers":
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.join()

    @property
    def free(self) -> bool:
        return len(self.busy) < self.count

    def begin(self, name: str, spec: dict[str, Any]) -> None:
        self.busy.add(name)
        self.jobs.put((name, spec))

    def next(self, seconds: float) -> tuple[str, float, str] | None:
        """Name, seconds and error of the next result that is done; None if none is within the time."""
        end = time.monotonic() + seconds
        while self.busy and time.monotonic() < end:
            with suppress(Empty):
                found = self.done.get(timeout=min(1.0, max(0.0, end - time.monotonic())))
                self.busy.remove(found[0])
                return found
            if not any(process.is_alive() for process in self.processes):
                raise RuntimeError("every worker died, perhaps for want of memory; run again with fewer workers.")
        return None


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: killed, it tells nobody, and a worker would go on alone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(jobs: Any, done: Any, device: str, threads: int, parent: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    place = None
    while True:
        name, spec = jobs.get()
        start, error = time.monotonic(), ""
        here = Place.of(spec, device=device)
        place = place if place == here else here  # what the last one kept serves this one too
        try:
            ensure(spec, place=place)
        except Exception as reason:  # the queue goes on, and tells it at the end
            error = f"{type(reason).__name__}: {reason}"
        done.put((name, time.monotonic() - start, error))
