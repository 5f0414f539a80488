"""Canaries: a tiny run of every kind of result, whose numbers stand beside its version.

A canary walks every branch that a kept result walks, on random images in float64 with nets of a few steps, and states
the constants that bite only at size. If its numbers move, the code that makes results moved; then either the kind's
history gets a line, or the code is mended.
"""

import itertools
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ... import checks, files
from .kinds import KINDS, Kind
from .place import Place
from .presets import CANARY

RECORD = Path(__file__).parents[1] / "canaries.json"
RELATIVE, ABSOLUTE = 1e-6, 1e-9
NAMED = 3  # moved parts that a fault names; the rest of the canary is not walked
Cells = dict[str, dict[str, Any]]


def cells(kind: Kind) -> Iterator[tuple[str, dict[str, Any]]]:
    """The canary of a kind: for each of its specs, by a label, the constants and every number of the result."""
    places: dict[Place, Place] = {}
    for given in kind.canary:
        spec = {"kind": kind.name, **given, "preset": CANARY}
        place = Place.of(spec)
        place = places.setdefault(place, place)  # what one cell has trained serves the next
        made = kind.make(spec, place)
        net, metrics = (None, made) if kind.build is None else made
        steady = {name: value for name, value in metrics.items() if name not in kind.varies}
        numbers = {name: list(_numbers(value)) for name, value in steady.items()}
        if kind.probe is not None:
            numbers |= {name: values.double().flatten().tolist() for name, values in kind.probe(spec, place).items()}
        if net is not None:
            numbers["weights"] = list(_weights(net))
        label = " ".join(str(value) for value in given.values())
        settings = {name: value for name, value in kind.stands_on(spec).items() if name in ("settings", "sizes")}
        yield label, {**json.loads(json.dumps(settings)), "numbers": numbers}


def _weights(net: nn.Module) -> Iterator[float]:
    """Two numbers for each tensor: its sum, and its sum with weights that no two entries share."""
    for value in net.state_dict().values():
        flat = value.detach().double().flatten()
        yield from (flat.sum().item(), (flat * torch.linspace(1, 2, len(flat), dtype=torch.float64)).sum().item())


def _numbers(value: object) -> Iterator[float | None]:
    """Every number in a metric, in order; words and packed pictures are left out."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif value is None or isinstance(value, bool | int | float):
        yield None if value is None else float(value)


def read() -> dict[str, dict[str, Any]]:
    """What is recorded: for each kind its version and its cells."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def write(names: Iterable[str]) -> None:
    """Record the canaries of some kinds, with the versions of today."""
    record = read()
    for name in tqdm(list(names), desc="canaries"):
        record[name] = {"version": KINDS[name].version, "cells": dict(cells(KINDS[name]))}
    text = json.dumps({name: record[name] for name in KINDS if name in record}, indent=None).replace("}, ", "},\n")
    files.write(RECORD, lambda temporary: Path(temporary).write_text(text + "\n"))


def faults(name: str) -> list[str]:
    """What is wrong with the canary of a kind, in words; nothing if its numbers are those recorded.

    Raises:
        ValueError: an unknown kind.
    """
    checks.one_of("kind", name, KINDS)
    kind, record = KINDS[name], read().get(name)
    if not kind.canary:  # of its results none are committed
        return []
    if record is None or record["version"] != kind.version:
        return [f"{name}: version {kind.version} has no canary yet; python -m atexlib canary {name} --write"]
    moved = [f"{label}: {what}" for label, what in itertools.islice(_moved(kind, record["cells"]), NAMED)]
    remedy = f"bump `{name}` to {kind.version + 1} by a line in its history, or mend it"
    return [f"{name}: its canary moved ({'; '.join(moved)}); {remedy}"] if moved else []


def _moved(kind: Kind, recorded: Cells) -> Iterator[tuple[str, str]]:
    """Label and part of what differs, cell by cell, so that whoever has seen enough need not wait for the rest."""
    left = dict(recorded)
    for label, a in cells(kind):
        b = left.pop(label, None)
        if b is None:
            yield label, "new"
            continue
        for part in ("settings", "sizes"):
            if a[part] != b[part]:
                yield label, part
        for metric in sorted(a["numbers"].keys() | b["numbers"].keys()):
            if not _alike(a["numbers"].get(metric, []), b["numbers"].get(metric, [])):
                yield label, metric
    for label in left:
        yield label, "gone"


def _alike(a: list[float | None], b: list[float | None]) -> bool:
    return len(a) == len(b) and all(
        x is y or (x is not None and y is not None and math.isclose(x, y, rel_tol=RELATIVE, abs_tol=ABSOLUTE))
        for x, y in zip(a, b, strict=True)
    )
