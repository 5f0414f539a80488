"""What an audit found, and its card: all of it but the pictures as JSON, from which nothing is ever run."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from .. import files
from ..attack.inputs import Effort
from ..maps.intervals import Interval, bootstrap
from .signs.reading import Reading

MEASURES = ("spearman", "topk", "ssim")
NOISE = "random noise"  # the control: a random corner of the ball, no search
WORST = "worst of all"  # each image at the lowest of all attacks
PLACE = "place"  # the attack that puts the map where the auditor says
FORMAT = "audit of explanations, 1"


class Subject(NamedTuple):
    """An image that was audited: its name, its label in words (None if unknown), what the net says of it, how sure.

    >>> from atexlib import judge
    >>> judge.Subject("cat.jpg", None, "Egyptian cat", 0.93).name
    'cat.jpg'
    """

    name: str
    label: str | None
    predicted: str
    probability: float


@dataclass(frozen=True, eq=False)
class Example:
    """An image whose map moved far: number, explainer, attack, its Spearman, and the pictures (C, H, W).

    `place` is the mask (H, W) to which the attack brought the map, None for the other attacks.
    """

    number: int
    explainer: str
    attack: str
    spearman: float
    image: Tensor
    clean_map: Tensor
    changed: Tensor
    changed_map: Tensor
    place: Tensor | None = None


@dataclass(frozen=True)
class Audit:
    """What an audit found; `report.save` writes it as a page or a card.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> options = {"explainers": ["gradient"], "attacks": ["distance"], "steps": 2, "progress": False}
    >>> judge.audit(net, x, torch.tensor([0, 1]), **options).settings["images"]
    2
    """

    subjects: list[Subject]
    """The images, in the order of every tensor in `values`."""
    labels: dict[str, str]
    """What each explainer is called in a sentence, with the layer that it reads."""
    values: dict[tuple[str, str], dict[str, Tensor]]
    """For each explainer and attack, image by image (N,), the measures, whether the prediction was kept, the distance,
    the probability of the explained class, the share of the map in the chosen place, `in place` and `in place before`.
    Spearman and top-k are nan where a map is constant."""
    efforts: dict[tuple[str, str], Effort]
    """How hard each attack on each explainer tried; one line each as text."""
    accuracy: Interval | None
    """None without labels."""
    settings: dict[str, Any]
    provenance: dict[str, Any]
    """Date, versions, seed, device, fingerprints of the net and of the images, seconds estimated and spent."""
    notes: list[str]
    """What could not be audited, and why."""
    examples: list[Example]
    """For each explainer the images with the lowest Spearman, and the one whose map went best to the place; none in an
    audit that was read from a card."""
    signs: list[Reading] = field(default_factory=list)
    """Signs that the net was made to show false maps; none in a card that is older than they are."""

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """One row for each explainer and attack.

        Each measure with its interval, the share of kept predictions, the distance, and how hard was tried: the share
        of images that could step, and of a change that slopes see.
        """
        rows = {pair: _row(found) | self._tried(*pair) for pair, found in self.values.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["explainer", "attack"])

    def effort(self, explainer: str) -> Effort:
        """All attacks on one explainer together."""
        return Effort.of([effort for (name, _), effort in self.efforts.items() if name == explainer])

    def attacks(self, explainer: str) -> dict[str, dict[str, Tensor]]:
        """The values of each attack on one explainer, without the control and the worst of all."""
        return {attack: self.values[name, attack] for name, attack in self.efforts if name == explainer}

    def _tried(self, name: str, attack: str) -> dict[str, float]:
        """How hard an attack, or all of them together, tried; noise tries nothing."""
        if attack == NOISE:
            return {"could step": math.nan, "slopes see": math.nan}
        effort = self.effort(name) if attack == WORST else self.efforts[name, attack]
        return {"could step": effort.stepped / effort.images, "slopes see": effort.seen}

    def __repr__(self) -> str:
        """The worst of each explainer, with how hard was tried, a line each."""
        lines = [f"Audit of {self.settings['net']}, {self.settings['images']} images:"]
        for name in self.labels:
            worst, count = self.table.loc[(name, WORST)], len(self.attacks(name))
            lines.append(f"Spearman {worst['spearman']} at the worst of {count} attacks ({self.effort(name)})")
        return "\n".join(lines)


def mean(values: Tensor) -> str:
    """A mean over images with its interval, of those that have a number; `undefined` for fewer than two."""
    known = values[~values.isnan()]
    return str(bootstrap(known)) if len(known) > 1 else "undefined"


def _row(found: Mapping[str, Tensor]) -> dict[str, Any]:
    row: dict[str, Any] = {key: mean(found[key]) for key in MEASURES}
    return row | {
        "predictions kept": found["kept"].double().mean().item(),
        "largest change": found["distance"].max().item(),
        "constant maps": int(found["spearman"].isnan().sum()),
    }


def save_card(audit: Audit, path: str | Path, **more: Any) -> Path:
    """Write an audit without its pictures as JSON, all or nothing; `more` is written beside it, for readers.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> options = {"explainers": ["gradient"], "attacks": ["distance"], "steps": 2, "progress": False}
    >>> found = judge.audit(net, x, **options)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = judge.load_card(judge.save_card(found, Path(folder) / "audit.json"))
    >>> again.table.equals(found.table)
    True
    """
    path = Path(path).expanduser()
    nested: dict[str, dict[str, Any]] = {name: {} for name in audit.labels}
    for (name, attack), found in audit.values.items():
        nested[name][attack] = {key: _plain(value) for key, value in found.items()}
    tried: dict[str, dict[str, Any]] = {name: {} for name in audit.labels}
    for (name, attack), effort in audit.efforts.items():
        tried[name][attack] = dataclasses.asdict(effort)
    card = {
        "format": FORMAT,
        **more,
        "settings": audit.settings,
        "provenance": audit.provenance,
        "accuracy": None if audit.accuracy is None else audit.accuracy._asdict(),
        "notes": audit.notes,
        "signs": [reading._asdict() for reading in audit.signs],
        "explainers": audit.labels,
        "images": [subject._asdict() for subject in audit.subjects],
        "efforts": tried,
        "values": nested,
    }
    text = json.dumps(card, indent=1, ensure_ascii=False, allow_nan=False)
    files.write(path, lambda temporary: Path(temporary).write_text(text + "\n", encoding="utf-8"))
    return path


def load_card(path: str | Path) -> Audit:
    """The audit that `save_card` wrote, without its pictures.

    >>> from atexlib import judge
    >>> judge.load_card("nowhere.json")
    Traceback (most recent call last):
    ValueError: nowhere.json is no card of an audit ([Errno 2] No such file or directory: 'nowhere.json'); pass one that
    save_card has written.

    Raises:
        ValueError: no such file, or one that is no card of an audit.
    """
    try:
        card = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError(f"its format is {card['format']!r}, not {FORMAT!r}.")
        pairs = [(name, attack) for name, found in card["values"].items() for attack in found]
        accuracy = card["accuracy"]
        return Audit(
            subjects=[Subject(**subject) for subject in card["images"]],
            labels=card["explainers"],
            values={
                (name, attack): {key: _tensor(key, value) for key, value in card["values"][name][attack].items()}
                for name, attack in pairs
            },
            efforts={(n, a): Effort(**card["efforts"][n][a]) for n, a in pairs if a in card["efforts"][n]},
            accuracy=None if accuracy is None else Interval(**accuracy),
            settings=card["settings"],
            provenance=card["provenance"],
            notes=card["notes"],
            examples=[],
            signs=[Reading(**reading) for reading in card.get("signs", [])],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no card of an audit ({error}); pass one that save_card has written.") from error


def _plain(values: Tensor) -> Sequence[Any]:
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values.tolist()]


def _tensor(key: str, values: Sequence[Any]) -> Tensor:
    if key == "kept":
        return torch.tensor(values, dtype=torch.bool)
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)
