"""Kinds of result: what a spec may say, what a result rests on, and the register that everything else reads."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from torch import Tensor, nn

from ... import checks
from ...data import DATASETS
from .place import Place
from .presets import PRESETS, stated

Spec = Mapping[str, Any]
Metrics = dict[str, Any]
Make = Callable[[Spec, Place], Any]  # returns Metrics; for a kind of nets tuple[nn.Module, Metrics]
Need = tuple[str, Spec]


def need(spec: Spec) -> Need:
    """The result of a whole spec, as one that another rests on: its kind's name, and the other keys."""
    return spec["kind"], {key: value for key, value in spec.items() if key != "kind"}


@dataclass(frozen=True)
class Kind:
    """How the results of one kind are made, and what they rest on.

    >>> from atexlib import experiments
    >>> experiments.KINDS["cost"].file({"side": "28", "seed": 0, "preset": "reduced"})
    'cost/28-seed0-reduced.json'
    """

    name: str
    keys: Mapping[str, Collection[str] | type]
    """The keys of a spec, in order, each with the words that are allowed, `int` (from 0) or `float` (above 0)."""
    history: tuple[str, ...]
    """What moved the numbers, one line for each version."""
    make: Make
    """Metrics of a card; of a net the net and metrics."""
    needs: Callable[[Spec], list[Need]]
    """The results that one rests on."""
    settings: Callable[[Spec], Mapping[str, Any]]
    """Constants that one rests on, as values for JSON."""
    sizes: tuple[str, ...]
    """The sizes of a preset that it uses."""
    canary: tuple[Spec, ...]
    """Specs without a preset that together walk every branch of `make`; none where no results are committed."""
    build: Callable[[Spec], nn.Module] | None = None
    """A net of the right shape, into which weights are read; None for a kind of cards."""
    varies: frozenset[str] = field(default_factory=frozenset)
    """Metrics that are measured in seconds, so that no two runs agree."""
    probe: Callable[[Spec, Place], Mapping[str, Tensor]] | None = None
    """Further numbers for the canary, where the metrics of a result only say yes or no."""
    scratch: bool = False
    """Whether its files are steps on the way, which are not committed."""

    @property
    def version(self) -> int:
        """The number of the last line of the history."""
        return len(self.history)

    @property
    def suffix(self) -> str:
        """Of the file's name."""
        return ".json" if self.build is None else ".safetensors"

    def check(self, spec: Spec) -> dict[str, Any]:
        """The spec with its keys in order; raise a ValueError for an unknown, missing or impossible one."""
        for key in spec:
            checks.one_of("a key of the spec", key, ["kind", *self.keys])
        missing = [key for key in self.keys if key not in spec]
        if missing:
            raise ValueError(f"the spec {dict(spec)!r} lacks {', '.join(missing)}; add it.")
        for key, allowed in self.keys.items():
            if allowed is int:
                checks.count(key, spec[key], low=0)
            elif allowed is float:
                checks.number(key, spec[key], open_low=True)
            else:
                checks.one_of(key, spec[key], cast("Collection[str]", allowed))
        plain = {key: allowed if allowed in (int, float) else str for key, allowed in self.keys.items()}  # not NumPy's
        return {"kind": self.name, **{key: plain[key](spec[key]) for key in self.keys}}

    def file(self, spec: Spec) -> str:
        """The file's name among the results, for example `table/mnist-targeted-atex-eps0.1-seed0-reduced.json`."""
        marks = {key: key if allowed in (int, float) else "" for key, allowed in self.keys.items()}
        parts = [f"{mark}{spec[key]:.12g}" if mark else str(spec[key]) for key, mark in marks.items()]
        folder = "scratch/" if self.scratch else ""
        return f"{folder}{self.name}/{re.sub(r'[^a-zA-Z0-9._-]+', '_', '-'.join(parts))}{self.suffix}"

    def stands_on(self, spec: Spec) -> dict[str, Any]:
        """Version, settings, sizes and images of a result that is made now; another value of one makes it stale."""
        name = spec.get("dataset")
        return {
            "version": self.version,
            "settings": dict(self.settings(spec)),
            "sizes": stated(spec["preset"], self.sizes),
            "images": {name: DATASETS[name].fingerprint} if name else {},
        }


KINDS: dict[str, Kind] = {}


def kind(
    name: str,
    *,
    keys: Mapping[str, Collection[str] | type],
    history: Iterable[str],
    needs: Callable[[Spec], list[Need]] = lambda spec: [],
    settings: Callable[[Spec], Mapping[str, Any]] | Mapping[str, Any] = lambda spec: {},
    sizes: str = "",
    canary: Iterable[Spec] = (),
    **more: Any,
) -> Callable[[Make], Make]:
    """Enter the decorated `make(spec, place)` in the register as a kind of result; `seed` and `preset` join the keys.

    Options as the fields of `Kind`; `settings` may be a dict, `sizes` is a text of names.

    >>> @kind("answer", keys={"dataset": DATASETS}, history=("first",))
    ... def answer(spec, place):
    ...     return {"answer": 42}
    >>> KINDS.pop("answer").version
    1
    """
    given = settings if callable(settings) else lambda spec: settings

    def enter(make: Make) -> Make:
        every = {**keys, "seed": int, "preset": PRESETS}
        KINDS[name] = Kind(name, every, tuple(history), make, needs, given, tuple(sizes.split()), tuple(canary), **more)
        return make

    return enter


def check(spec: Spec) -> tuple[Kind, dict[str, Any]]:
    """The kind of a spec, and the spec with its keys in order; raise a ValueError if it is not a possible one."""
    if not isinstance(spec, Mapping) or "kind" not in spec:
        raise ValueError(f"the spec is {spec!r}; pass a dict with the key 'kind': {', '.join(KINDS)}.")
    checks.one_of("kind", spec["kind"], KINDS)
    found = KINDS[spec["kind"]]
    return found, found.check(spec)


Recompute = bool | Literal["stale"]
