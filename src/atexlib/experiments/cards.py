"""Result cards: one JSON file a spec, written all or nothing, with what it rests on."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from .. import checks
from . import families, nets, presets, provenance, store

Spec = Mapping[str, object]
Card = dict[str, dict]


@dataclass(frozen=True)
class Experiment:
    """How the cards of one kind are made."""

    name: str
    keys: Mapping[str, tuple[str, ...] | type]
    """The keys of a spec, in order, each with the words that are allowed, `int` (from 0) or `float` (above 0)."""
    run: Callable[..., dict[str, object]]
    """Called as `run(spec, device=..., progress=...)`, returns the metrics."""
    code: tuple[str, ...]
    """The functions and constants whose change makes its cards stale, as `module.name`."""
    nets: Callable[[Spec], list[str]] = lambda spec: []
    """The defences of the nets that a card rests on, of its own data set, seed and preset."""
    other_nets: Callable[[Spec], list[dict[str, object]]] = lambda spec: []
    """Further such nets, as keywords of `nets.ensure`."""
    family_nets: Callable[[Spec], list[dict[str, object]]] = lambda spec: []
    """The nets of `families` that a card rests on, as keywords of `families.ensure`."""

    def check(self, spec: Spec) -> dict[str, object]:
        """The spec with its keys in order; raise a ValueError for an unknown, missing or impossible one."""
        for key in spec:
            checks.one_of("a key of the spec", key, ["experiment", *self.keys])
        missing = [key for key in self.keys if key not in spec]
        if missing:
            raise ValueError(f"the spec {dict(spec)!r} lacks {', '.join(missing)}; add it.")
        for key, allowed in self.keys.items():
            if allowed is int:
                checks.count(key, spec[key], low=0)
            elif allowed is float:
                checks.number(key, spec[key], open_low=True)
            else:
                checks.one_of(key, spec[key], allowed)
        plain = {key: allowed if allowed in (int, float) else str for key, allowed in self.keys.items()}  # not NumPy's
        return {"experiment": self.name, **{key: plain[key](spec[key]) for key in self.keys}}


def card_name(experiment: Experiment, spec: Spec) -> str:
    """The file's name among the results, for example `cards/table/mnist-targeted-atex-eps0.1-seed0-reduced.json`."""
    marks = {key: key if allowed in (int, float) else "" for key, allowed in experiment.keys.items()}
    parts = [f"{mark}{spec[key]:.12g}" if mark else str(spec[key]) for key, mark in marks.items()]
    return f"cards/{experiment.name}/{re.sub(r'[^a-zA-Z0-9._-]+', '_', '-'.join(parts))}.json"


def nets_under(experiment: Experiment, spec: Spec) -> dict[str, tuple[ModuleType, dict[str, object]]]:
    """The nets that a card rests on, by name: the module that makes each, and the keywords of its `ensure`."""
    where = {key: spec[key] for key in ("dataset", "seed", "preset") if key in spec}
    found = [(nets, {"defense": defense, **where}) for defense in experiment.nets(spec)]
    found += [(nets, net) for net in experiment.other_nets(spec)]
    found += [(families, net) for net in experiment.family_nets(spec)]
    return {module.net_name(**net): (module, net) for module, net in found}


def compute(experiment: Experiment, spec: Spec, *, device: str, progress: bool, renew: bool = False) -> Card:
    """Run an experiment and write its card; nets that it needs and that are missing (`renew`: or stale) are trained."""
    hashes = {
        name: provenance.file_hash(module.ensure(**net, device=device, recompute=renew and "stale"))
        for name, (module, net) in nets_under(experiment, spec).items()
    }
    code = provenance.code_hashes(experiment.code)  # before the run: the source may be edited while it lasts
    start = time.perf_counter()
    metrics = experiment.run(spec, device=device, progress=progress)
    card = {
        "spec": dict(spec),
        "metrics": metrics,
        "provenance": {
            "nets": hashes,
            "code": code,
            "sizes": presets.sizes(spec["preset"]),
            **provenance.facts(device=device, seconds=time.perf_counter() - start),
        },
    }
    text = json.dumps(card, allow_nan=False)
    store.write(store.place(card_name(experiment, spec)), lambda temporary: Path(temporary).write_text(text))
    return card


def read(path: Path) -> Card:
    """Read a card.

    Raises:
        ValueError: a file that is no card.
    """
    try:
        card = json.loads(path.read_text())
        if set(card) != {"spec", "metrics", "provenance"}:
            raise ValueError(f"its keys are {sorted(card)}")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no result card ({error}); delete it, and the same run makes it anew.") from error
    return card


def stale_since(card: Card) -> list[str]:
    """What changed since a card was made: functions, constants, sizes, nets; nothing if it is fresh."""
    spec, made = card["spec"], card["provenance"]
    found = provenance.changed(made["code"]) + presets.changed(spec["preset"], made.get("sizes"))
    for name, recorded in made["nets"].items():
        if "/" not in name:  # the first cards name the defence
            name = nets.net_name(defense=name, **{key: spec[key] for key in ("dataset", "seed", "preset")})
        path, module = store.find(name), families if name.startswith("families/") else nets
        if path is None or provenance.file_hash(path) != recorded or module.is_stale(path):
            found.append(f"the net {Path(name).stem}")
    return found


def devices(device: str) -> str:
    """The device to compute on, `auto` being a GPU if there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    checks.device(device)
    return device
