"""An entry from outside: a folder with a net, its weights and its card, which is judged again before it is believed."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .. import checks
from ..data import DATASETS, load
from .judging import Judgement, judge, load_judgement
from .outsider import made_by

NET, ABOUT, CARD = "net.py:make_net", "entry.toml", "card.json"
FILES = {"net.py", "weights.safetensors", ABOUT, CARD, "README.md"}
KEYS = ("name", "dataset", "by", "defence")  # what entry.toml says
MOST = 25_000_000  # bytes of a folder
AGREES = 0.03  # of what stands, by which another machine may differ
FIRST = 16  # images that are judged again, unless more are asked for


@dataclass(frozen=True)
class Entry:
    """What a folder holds: who entered what, the net, and the judgement that came with it.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net = nets.ConvNet(side=8, width=4, hidden=8)
    >>> card = judge.judge(net, torch.rand(2, 1, 8, 8), suite="smoke", name="mine", progress=False)
    >>> judge.Entry({"name": "mine"}, net, card).card.name
    'mine'
    """

    about: dict[str, str]
    net: nn.Module
    card: Judgement


def read_entry(folder: str | Path) -> Entry:
    """Read the folder of an entry; its file `net.py` is run, so read only what you trust.

    `make_net()` in `net.py` returns the net with its weights, which it reads from `weights.safetensors`; `entry.toml`
    says `name`, `dataset`, `by` and `defence`; `card.json` was written by `python -m atexlib judge`.

    >>> import pathlib, tempfile
    >>> from atexlib import judge
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         judge.read_entry(folder)
    ...     except ValueError as error:
    ...         print(str(error)[-34:])
    it holds only what an entry needs.

    Raises:
        ValueError: a file that is missing, or that an entry does not need; a folder that is too large; another data
            set; a card whose name is not that of the entry.
    """
    folder = Path(folder)
    found = {path.name for path in folder.iterdir()} - {"__pycache__"} if folder.is_dir() else set()
    if missing := FILES - {"README.md"} - found:
        raise ValueError(f"{folder} lacks {', '.join(sorted(missing))}; it holds only what an entry needs.")
    if found - FILES:
        raise ValueError(f"{folder} holds {', '.join(sorted(found - FILES))}, which no entry needs; take it out.")
    if (size := sum((folder / name).stat().st_size for name in found)) > MOST:
        raise ValueError(f"{folder} holds {size / 1e6:.1f} MB; an entry may hold {MOST / 1e6:.0f} MB.")
    about = tomllib.loads((folder / ABOUT).read_text(encoding="utf-8"))
    if set(about) != set(KEYS) or not all(isinstance(value, str) for value in about.values()):
        said = ", ".join(sorted(about)) or "nothing"
        raise ValueError(f"{folder / ABOUT} says {said}; say {', '.join(KEYS)}, as texts.")
    if about["dataset"] not in DATASETS:
        raise ValueError(f"the dataset is {about['dataset']!r}; the judge knows {', '.join(DATASETS)}.")
    card = load_judgement(folder / CARD)
    if card.name != about["name"]:
        raise ValueError(f"the card is of {card.name!r}, the entry of {about['name']!r}; judge the net under its name.")
    return Entry(about, made_by(str(folder / NET)), card)


def check_entry(folder: str | Path, *, images: int = FIRST, progress: bool = True) -> Judgement:
    """Judge an entry's net again, on the first images of the data set's test split, and compare with its card.

    >>> from atexlib import judge
    >>> try:
    ...     judge.check_entry("nowhere")
    ... except ValueError as error:
    ...     print(error)
    nowhere lacks card.json, entry.toml, net.py, weights.safetensors; it holds only what an entry needs.

    Args:
        folder: see `read_entry`.
        images: how many, at most as many as the card speaks of.
        progress: show a progress bar.

    Returns:
        The new judgement.

    Raises:
        ValueError: what `read_entry` raises; a card that says more of the maps stands than is found, by over .03.
    """
    checks.count("images", images, low=2)
    entry = read_entry(folder)
    count = min(images, entry.card.images)
    test = load(entry.about["dataset"], "test").first(count)
    found = judge(
        entry.net,
        test.images,
        test.labels,
        eps=entry.card.eps,
        explainers=list(entry.card.values),
        suite=entry.card.suite,
        name=entry.card.name,
        progress=progress,
    )
    for explainer in found.values:
        told, seen = entry.card.kept(explainer)[:count].mean().item(), found.kept(explainer).mean().item()
        if told > seen + AGREES:
            raise ValueError(
                f"the card says that {told:.3f} of the maps of {explainer} stands on the first {count} images, and "
                f"{seen:.3f} is found; judge the net again with this version of the library."
            )
    return found
