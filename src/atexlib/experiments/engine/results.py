"""Results: made once, written all or nothing, read back, and fresh or stale."""

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from ... import checks, files
from . import provenance, store
from .kinds import KINDS, Kind, Recompute, Spec, check
from .place import Place

Card = dict[str, dict[str, Any]]
ENLARGED = 2.0  # the weights of the nets in a canary
PARTS = ("spec", "metrics", "provenance")
FORGED = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)  # what a card that we did not write may raise


def ensure(
    spec: Spec,
    *,
    place: Place | None = None,
    device: str = "cpu",
    recompute: Recompute = False,
    progress: bool = False,
) -> Path:
    """The file of a result; if there is none it is made and written, and what it rests on before it.

    >>> from atexlib import experiments
    >>> spec = {"kind": "theorem1", "dataset": "mnist", "defense": "none", "seed": 0, "preset": "reduced"}
    >>> experiments.ensure(spec).name
    'mnist-none-seed0-reduced.json'

    Args:
        spec: `kind` (one of KINDS) and that kind's keys.
        place: where to make it, if there is one already.
        device: `cpu`, `cuda`, or `auto`, without a place.
        recompute: make it even if it is there; `"stale"`: if it is stale or cannot be read, or what it rests on is.
        progress: show progress bars, without a place.

    Raises:
        ValueError: an unknown, missing or impossible key.
    """
    kind, spec = check(spec)
    name = kind.file(spec)
    device = place.device if place else devices(device)
    progress = place.progress if place else progress

    def wanted() -> bool:
        path = store.find(name)
        return path is None or recompute is True or (recompute == "stale" and bool(stale_since(path)))

    if wanted():
        below: dict[str, Any] = {"device": device, "progress": progress, "recompute": recompute == "stale" and "stale"}
        needs = [ensure({"kind": needed, **its}, **below) for needed, its in kind.needs(spec)]
        with store.locked(name):
            if wanted():  # another process may have made it while this one waited
                _make(kind, spec, place or Place.of(spec, device=device, progress=progress), needs)
    found = store.find(name)
    if found is None:
        raise OSError(f"{store.place(name)} was written, and is not there: the disk lost it. Choose another folder.")
    return found


def _make(kind: Kind, spec: dict[str, Any], place: Place, needs: list[Path]) -> None:
    stands_on = kind.stands_on(spec) | {"needs": {_short(path): provenance.fingerprint(path) for path in needs}}
    start = time.perf_counter()
    made = kind.make(spec, place)
    net, metrics = (None, made) if kind.build is None else made
    facts = provenance.facts(device=place.device, seconds=time.perf_counter() - start)
    card = {"spec": spec, "metrics": metrics, "provenance": {**stands_on, **facts}}
    card["provenance"][provenance.SUM] = provenance.sum_of(card)
    text = json.dumps(card, allow_nan=False, separators=(",", ":"))
    path = store.place(kind.file(spec))
    if net is None:
        files.write(path, lambda temporary: Path(temporary).write_text(text))
    else:
        state = {name: value.detach().cpu().half().contiguous() for name, value in net.state_dict().items()}
        about = {"result": text, provenance.WEIGHTS: provenance.fingerprint_of(state)}
        files.write(path, lambda temporary: save_file(state, temporary, metadata=about))


def _short(path: Path) -> str:
    """A result's name: the last parts of its path."""
    return "/".join(path.parts[-3 if path.parts[-3] == "scratch" else -2 :])


def run_or_load(
    spec: Spec, *, recompute: Recompute = False, device: str = "cpu", progress: bool = False, place: Place | None = None
) -> Card:
    """The result of a spec: read if there is one, else computed and written. Arguments and errors as for `ensure`.

    >>> from atexlib import experiments
    >>> spec = {"kind": "theorem1", "dataset": "mnist", "defense": "none", "seed": 0, "preset": "reduced"}
    >>> abs(experiments.run_or_load(spec)["metrics"]["probability"]["mean"]) < 1e-8
    True

    Returns:
        A dict of `spec`, `metrics` and `provenance`. Metrics with one value an image hold `values`, their `mean` and
        the ends `low` and `high` of its 95 % interval over the images.
    """
    return read(ensure(spec, recompute=recompute, device=device, progress=progress, place=place))


def run_all(specs: Iterable[Spec], *, recompute: Recompute = False, device: str = "cpu") -> list[Path]:
    """Make the results that are missing, one after the other; what is done stays done if this is interrupted.

    >>> from atexlib import experiments
    >>> where = {"dataset": "mnist", "defense": "none", "preset": "reduced"}
    >>> [path.name for path in experiments.run_all(experiments.grid(kind="theorem1", **where, seed=[0, 1]))]
    ['mnist-none-seed0-reduced.json', 'mnist-none-seed1-reduced.json']
    """
    place, paths = None, []
    for spec in tqdm(list(specs), desc="results"):
        here = Place.of(check(spec)[1], device=devices(device))
        place = place if place == here else here  # what the last one kept serves this one too
        paths.append(ensure(spec, place=place, recompute=recompute))
    return paths


def load(specs: Iterable[Spec]) -> list[Card]:
    """The results of those specs that have one; nothing is computed.

    >>> from atexlib import experiments
    >>> where = {"dataset": "mnist", "defense": "none", "preset": "reduced"}
    >>> len(experiments.load(experiments.grid(kind="theorem1", **where, seed=[0, 99])))
    1
    """
    found = (store.find(kind.file(spec)) for kind, spec in map(check, specs))
    return [read(path) for path in found if path is not None]


def grid(**axes: Any) -> list[dict[str, Any]]:
    """All specs of a grid: each keyword is a value or a list of values.

    >>> grid(kind="table", seed=[0, 1])
    [{'kind': 'table', 'seed': 0}, {'kind': 'table', 'seed': 1}]
    """
    lists = [value if isinstance(value, list | tuple) else [value] for value in axes.values()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*lists)]


def read(path: Path) -> Card:
    """Spec, metrics and provenance of a result's file.

    Raises:
        ValueError: a file that holds none.
    """
    try:
        if path.suffix == ".json":
            text = path.read_text()
        else:
            with safe_open(path, framework="pt") as file:
                text = file.metadata()["result"]
                _check_weights(path, file)
        card = json.loads(text)
        if set(card) != set(PARTS):
            raise ValueError(f"its keys are {sorted(card)}")
        recorded = card["provenance"].get(provenance.SUM)  # results made before it was written have none
        if recorded and recorded != provenance.sum_of(card):
            raise ValueError("it is not what was written")
    except (OSError, SafetensorError, *FORGED) as error:
        raise ValueError(f"{path} is no result ({error!r}); delete it, and the same run makes it anew.") from error
    return card


def net_of(spec: Spec, place: Place) -> nn.Module:
    """The net of a spec, in eval mode on the place's device: read, or else made and written; kept in a canary."""
    kind = KINDS[spec["kind"]]
    if place.is_canary:
        here = Place.of(spec) if Place.of(spec) != place else place
        return place.keep(("net", kind.file(spec)), lambda: _enlarged(kind.make(spec, here)[0].eval()))
    path = ensure(spec, device=place.device, progress=place.progress)
    return load_net(path, kind.build(spec)).to(place.device)  # type: ignore[misc]


def _enlarged(net: nn.Module) -> nn.Module:
    """A canary's net of a few steps, made so curved that labels and tolerances bite within a small ball."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(ENLARGED)
    return net


def load_net(path: Path, net: nn.Module) -> nn.Module:
    """Read the weights of a file into a net, in eval mode, channels last.

    Raises:
        ValueError: a file that does not hold such a net, or whose weights were left out of the package.
    """
    net.to(memory_format=torch.channels_last)
    try:
        with safe_open(path, framework="pt") as file:
            if not file.keys():
                raise ValueError(
                    f"{path.name} holds a card alone: the package leaves out the weights of nets above seed 0. Install "
                    "the library from its repository, which has them, or train the net anew: `atexlib run` with "
                    "--recompute."
                )
            _check_weights(path, file)
            net.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no {type(net).__name__} that can be read ({error}); restore it.") from error
    return net.eval()


def _check_weights(path: Path, file: Any) -> None:
    """Raise if the weights in a file are not those that were written; files of old do not say."""
    recorded = (file.metadata() or {}).get(provenance.WEIGHTS)
    if recorded and recorded != provenance.fingerprint(path):
        raise ValueError(f"the weights in {path} are not those that were written; restore it, or delete it.")


def stale_since(path: Path) -> list[str]:
    """What changed since a result was made, in words; nothing if it is fresh."""
    try:
        return _changes(read(path))
    except FORGED:
        return ["the file"]


def _changes(card: Card) -> list[str]:
    kind, spec = check(card["spec"])
    made, now = card["provenance"], kind.stands_on(spec)
    found = [f"{kind.name} {number}: {line}" for number, line in enumerate(kind.history, 1) if number > made["version"]]
    if made["version"] > kind.version:
        found.append(f"{kind.name} {made['version']}, which this version of the library does not know")
    for part, word in {"settings": "the setting ", "sizes": "the preset's ", "images": "the images of "}.items():
        names = made[part].keys() | now[part].keys()
        found += [word + name for name in sorted(names) if made[part].get(name) != now[part].get(name)]
    for name, recorded in made["needs"].items():
        below = store.find(name)
        if below is None or provenance.fingerprint(below) != recorded or stale_since(below):
            found.append(f"the net {Path(name).stem}")
    return found


def devices(device: str | torch.device) -> str:
    """The device to compute on, `auto` being a GPU if there is one."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    checks.device(device)
    return str(device)


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
    date: datetime | None = None
    seconds: float | None = None

    @property
    def kind(self) -> str:
        """The name of its kind."""
        return self.name.split("/")[-2]

    @property
    def state(self) -> str:
        """`fresh`, or why it should be made anew."""
        if not self.stale_since:
            return "fresh"
        return "cannot be read" if self.date is None else f"stale since a change of {', '.join(self.stale_since)}"


def status(*names: str) -> Iterator[Entry]:
    """Every result of some kinds (of all if none is named) that is kept, own and committed.

    >>> from atexlib import experiments
    >>> {entry.state for entry in experiments.status("cost")}
    {'fresh'}
    """
    for name in names or KINDS:
        if not KINDS[name].scratch:
            yield from (entry(file) for file in store.names(name, KINDS[name].suffix))


def entry(name: str) -> Entry:
    """The line of one result."""
    path = store.find(name)
    if path is None:
        return Entry(name, ["the file"])
    try:
        card = read(path)
        spec, made = card["spec"], card["provenance"]
        date, seconds = datetime.fromisoformat(made["date"]), float(made["seconds"])
        return Entry(name, stale_since(path), spec["preset"], spec["seed"], made["device"], date, seconds)
    except FORGED:
        return Entry(name, ["the file"])
