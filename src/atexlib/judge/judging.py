"""The judge: each image's worst over a fixed suite of attacks, the controls, and what speaks against the numbers."""

import functools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks, files
from ..attack.guides import blunt_guide, smooth_guide
from ..attack.inputs import SEEN
from ..explain.layers import resolved
from ..explain.registry import Explainer, find, tried
from ..maps.intervals import Interval, bootstrap, wilson
from ..nets import running
from . import plan
from .likeness import MEASURES, seen
from .sanity import FALLS, follows_differences, weaker_than_occlusion
from .suite import ATTACKERS, FOLLOWS, NO_SLOPES, SLOPES, SUITES, TOP, Case, Suite, corners, shorter

NOISE = "best of noise"
BATCH = 64  # images whose maps are compared at once
GAIN = 0.03  # of Spearman, from which on a difference between attacks is a flag
FORMAT = "judgement, 1"
LONG = 3  # seconds from which on it is said how long it will take
DECIMALS = 4


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the suite found of one net, for each explainer.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> found = judge.judge(net, x, eps=0.05, suite="smoke", progress=False)
    >>> 0 <= found.headline("gradient").mean <= 1
    True
    """

    name: str
    suite: str
    eps: float
    images: int
    accuracy: Interval | None
    """On the judged images; None without labels."""
    top: dict[str, float]
    """For each explainer the share of a map's entries that counts as its top, which is what chance gives in top-k."""
    values: dict[str, dict[str, dict[str, Tensor]]]
    """For each explainer, attacker and measure a tensor (N,), nan where the label was lost or no attack was needed."""
    flags: dict[str, list[str]]
    """What speaks against the numbers of each explainer."""
    seconds: float

    def worst(self, explainer: str, measure: str) -> Tensor:
        """Each image's lowest value (N,) over the attackers; 1 where none of them moved it and kept its label."""
        attackers = self.values[explainer]
        rows = [found[measure] for name, found in attackers.items() if name != NOISE]
        return torch.stack(rows).nan_to_num(1.0).amin(0)

    def kept(self, explainer: str) -> Tensor:
        """How much of each map stands (N,): 0 is chance, 1 a map that nothing moved.

        The mean of Spearman and of top-k beyond chance, each at the image's worst attack for it, and not below 0. One
        of the two alone can be had for nothing: a few fixed pixels hold the top, a smooth background holds the ranks.
        """
        chance = self.top[explainer]
        spearman = self.worst(explainer, "spearman").clamp_min(0)
        topk = ((self.worst(explainer, "topk") - chance) / (1 - chance)).clamp_min(0)
        return (spearman + topk) / 2

    def headline(self, explainer: str) -> Interval:
        """The mean of `kept` over the images, with its 95 % interval."""
        return bootstrap(self.kept(explainer))

    @property
    def table(self) -> pd.DataFrame:
        """A row for each explainer and attacker and for the worst of all, with each measure and the labels kept."""
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for explainer, attackers in self.values.items():
            for name, found in attackers.items():
                rows[explainer, name] = {measure: _mean(found[measure]) for measure in MEASURES}
                rows[explainer, name]["labels kept"] = f"{found['kept'].nanmean().item():.3f}"
            rows[explainer, "worst of all"] = {m: _mean(self.worst(explainer, m)) for m in MEASURES}
        index = ["explainer", "attacker"]
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index).fillna("")

    def __repr__(self) -> str:
        """One line for each explainer: the number, and how many flags."""
        lines = [f"Judgement of {self.name}, suite {self.suite}, eps {self.eps:.4g}, {self.images} images:"]
        for explainer in self.values:
            flags = len(self.flags[explainer])
            lines.append(f"{explainer}: {self.headline(explainer)} of the map stands; {flags} flags")
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write it as a card in JSON, all or nothing; `load_judgement` reads it."""
        card = {
            "format": FORMAT,
            **{key: getattr(self, key) for key in ("name", "suite", "eps", "images", "top", "flags", "seconds")},
            "accuracy": None if self.accuracy is None else list(self.accuracy),
            "values": {
                explainer: {a: {m: _numbers(v) for m, v in found.items()} for a, found in attackers.items()}
                for explainer, attackers in self.values.items()
            },
        }
        path = Path(path)
        files.write(path, lambda temporary: Path(temporary).write_text(json.dumps(card), encoding="utf-8"))
        return path


def load_judgement(path: str | Path) -> Judgement:
    """A judgement from its card.

    >>> import pathlib, tempfile
    >>> import torch
    >>> from atexlib import judge
    >>> values = {"gradient": {"distance": {"spearman": torch.tensor([0.5, 1.0]), "topk": torch.tensor([0.5, 1.0])}}}
    >>> found = judge.Judgement("mine", "v1", 0.05, 2, None, {"gradient": 0.06}, values, {"gradient": []}, 1.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     judge.load_judgement(found.save(pathlib.Path(folder) / "mine.json")).name
    'mine'

    Raises:
        ValueError: a file that is no such card.
    """
    try:
        card = json.loads(Path(path).read_text(encoding="utf-8"))
        if (found := card.pop("format")) != FORMAT:
            raise ValueError(f"its format is {found!r}, and this library reads {FORMAT!r}")
        values = {
            explainer: {a: {m: _tensor(v) for m, v in found.items()} for a, found in attackers.items()}
            for explainer, attackers in card.pop("values").items()
        }
        accuracy = card.pop("accuracy")
        return Judgement(**card, accuracy=None if accuracy is None else Interval(*accuracy), values=values)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no judgement that `save` wrote: {error}.") from error


@checks.derivatives()
def judge(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    eps: float = 0.05,
    explainers: Sequence[str] | Mapping[str, Explainer] = ("gradient",),
    sibling: nn.Module | None = None,
    suite: str = "v1",
    name: str = "",
    progress: bool = True,
) -> Judgement:
    """Judge how well a net's maps stand: each image's worst over the whole suite, with its controls and flags.

    Steps, starts and attackers are those of the suite's version and cannot be set: numbers of two nets compare. An
    image whose map is at chance already, in ranks and in its top, is not attacked further. Constraint and label are
    looked at by code that did not enforce them.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> judge.judge(net, x, eps=0.05, suite="smoke", progress=False).suite
    'smoke'

    Args:
        model: net that takes images in [0, 1] and returns logits (B, C); it is used where its weights are.
        images: images (N, C, H, W) in [0, 1], at least two.
        labels: their classes (N,) for the accuracy.
        eps: most that a pixel may change.
        explainers: names from `explain.available()`, or a dict of names and functions like those.
        sibling: a net of the same kind, trained apart, for the attacker `transfer`; without one it does not run.
        suite: the version, one of `judge.SUITES`; `smoke` shows in seconds that everything runs, and judges nothing.
        name: what the net is called; its class if empty.
        progress: show a progress bar, and say first how long it will take.

    Raises:
        ValueError: images, labels or eps out of range; an unknown explainer, or one that refuses the net.
    """
    model = running.plain(model)
    checks.batch("images", images, bounds=(0, 1))
    checks.fine("images", images)
    checks.count("number of images", len(images), low=2)
    checks.number("eps", eps, open_low=True)
    checks.one_of("suite", suite, SUITES)
    if isinstance(explainers, str):
        raise ValueError(f"explainers is {explainers!r}; pass a list of names, [{explainers!r}].")
    checks.count("number of explainers", len(explainers))
    chosen = {each: find(explainers[each] if isinstance(explainers, Mapping) else each) for each in explainers}
    sibling = None if sibling is None else running.plain(sibling, name="sibling")
    if labels is not None:
        checks.labels("labels", labels, size=len(images))
    device = next((parameter.device for parameter in model.parameters()), images.device)
    images = images.to(device)
    running.check_steady(model, images)
    began = time.perf_counter()
    logits = running.predict(model, images)
    if labels is not None:
        checks.labels("labels", labels, size=len(images), classes=logits.shape[1])
    target = logits.argmax(1)
    accuracy = None if labels is None else wilson(int((target.cpu() == labels.cpu()).sum()), len(labels))
    guides = _guides(model, images[:2])
    values: dict[str, dict[str, dict[str, Tensor]]] = {}
    flags: dict[str, list[str]] = {}
    top: dict[str, float] = {}
    with running.frozen(model):
        cases = {}
        for each, explainer in chosen.items():
            read = resolved(explainer, model, images[:2])
            entries = tried(read, model, images[:2], target[:2])[0].numel()
            k = max(1, round(TOP * entries))
            generator = torch.Generator().manual_seed(0)
            cases[each] = Case(model, SUITES[suite], images, read, k, eps, *guides, sibling, generator)
            top[each] = k / entries
        if progress:
            _say_how_long(model, guides[0], cases, images, SUITES[suite])
        rounds = [(each, attacker) for each in cases for attacker in (NOISE, *ATTACKERS)]
        bar = tqdm(rounds, desc="judging", disable=not progress)
        for each, attacker in bar:
            bar.set_postfix_str(f"{each}, {attacker}")
            found = values.setdefault(each, {})
            if attacker == NOISE:
                found[NOISE] = _noise(cases[each], target)
                flags[each] = []
                continue
            _attack(cases[each], attacker, target, top[each], found, flags[each])
    for each, case in cases.items():
        flags[each] += [*_doubts(case, target, values[each]), *_insane(case, target)]
    seconds = time.perf_counter() - began
    return Judgement(name or type(model).__name__, suite, eps, len(images), accuracy, top, values, flags, seconds)


def _say_how_long(
    model: nn.Module, guide: nn.Module | None, cases: Mapping[str, Case], images: Tensor, size: Suite
) -> None:
    """Say aloud how long the suite will take, if that is long: what is at chance early takes less."""
    gradient_steps = (size.steps * size.starts + plan.LOOKS) * len(ATTACKERS)
    readers = {name: (case.explainer, case.k) for name, case in cases.items()}
    seconds = plan.estimate(model, guide, readers, images, gradient_steps)
    if seconds > LONG:
        tqdm.write(f"judging {', '.join(cases)} will take at most about {plan.spelt(seconds)}", file=sys.stderr)


def _guides(model: nn.Module, x: Tensor) -> tuple[nn.Module | None, nn.Module | None]:
    """The smooth and the blunt copy of a net, as far as they can be made."""
    guides = []
    for make in (functools.partial(smooth_guide, x=x), blunt_guide):
        try:
            guides.append(make(model))
        except ValueError:
            guides.append(None)
    return guides[0], guides[1]


def _compared(case: Case, rows: Tensor, z: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What became of the maps of these rows, in tensors over all images: nan elsewhere, and where a label was lost."""
    parts = []
    for some in torch.arange(len(rows)).split(BATCH):
        x = case.images[rows[some]]
        parts.append(seen(case.model, case.explainer, x, z[some], target[rows[some]], case.k))
    joined = {key: torch.cat([part[key] for part in parts]).double() for key in parts[0]}
    furthest = joined.pop("distance").max().item()
    if furthest > case.eps * (1 + 1e-5):
        raise RuntimeError(f"an attacked image lies {furthest} from its original, further than eps = {case.eps}.")
    whole = {}
    for key, found in joined.items():
        filled = torch.full((len(case.images),), torch.nan, dtype=torch.float64)
        filled[rows] = found if key == "kept" else found.masked_fill(joined["kept"] == 0, torch.nan)
        whole[key] = filled
    return whole


def _noise(case: Case, target: Tensor) -> dict[str, Tensor]:
    """Each image's lowest value of each measure over random corners that keep its label."""
    every = torch.arange(len(case.images))
    draws = [_compared(case, every, z, target) for z in corners(case)]
    lowest = {m: torch.stack([draw[m] for draw in draws]).nan_to_num(torch.inf).amin(0) for m in MEASURES}
    found = {m: value.masked_fill(value.isinf(), torch.nan) for m, value in lowest.items()}
    return found | {"kept": torch.stack([draw["kept"] for draw in draws]).mean(0)}


def _attack(
    case: Case,
    attacker: str,
    target: Tensor,
    chance: float,
    found: dict[str, dict[str, Tensor]],
    flags: list[str],
) -> None:
    """Let an attacker at the images that are not at chance yet, and write down what it left, and its doubts."""
    rows = torch.arange(len(case.images))
    done = [values for name, values in found.items() if name != NOISE]
    if done:
        lowest = {m: torch.stack([values[m] for values in done]).nan_to_num(1.0).amin(0) for m in ("spearman", "topk")}
        rows = rows[(lowest["spearman"] > 0) | (lowest["topk"] > chance)]
    if len(rows) == 0:
        return
    made = ATTACKERS[attacker](case, rows)
    if made is None:
        return
    z, effort = made
    found[attacker] = _compared(case, rows, z, target)
    if effort is not None and FOLLOWS[attacker] == SLOPES:
        if effort.stepped < effort.images:
            short = effort.images - effort.stepped
            flags.append(f"{attacker} took no step on {short} of {effort.images} images: {effort.why}.")
        elif effort.seen < SEEN and not any(flag.startswith("slopes see") for flag in flags):
            flags.append(f"slopes see {effort.seen:.0%} of how the maps change; the rest are jumps at kinks.")


def _doubts(case: Case, target: Tensor, found: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Where what should be weaker left less: noise, attackers without the net's slopes, a third of the steps."""
    flags = []
    spearman = {name: values["spearman"] for name, values in found.items()}
    follows = [v for name, v in spearman.items() if FOLLOWS.get(name) == SLOPES]
    others = {name: v for name, v in spearman.items() if FOLLOWS.get(name) == NO_SLOPES}
    best = torch.stack(follows).nan_to_num(1.0).amin(0)
    noise = spearman[NOISE]
    if (gap := _gap(best, noise)) > 0:
        flags.append(f"noise alone leaves less than the attacks that follow slopes, by {gap:.3f} in Spearman.")
    for name, values in others.items():
        if (gap := _gap(best, values)) > GAIN:
            flags.append(f"{name} leaves less than all attacks that follow the net's slopes, by {gap:.3f} in Spearman.")
    every = torch.arange(len(case.images))
    short = _compared(case, every, shorter(case), target)["spearman"]
    if (gap := _gap(short, spearman["distance"])) > GAIN:
        flags.append(f"three times the steps still take off {gap:.3f} of Spearman: the budget may be too small.")
    return flags


def _insane(case: Case, target: Tensor) -> list[str]:
    """Where the net or its map is not what it is taken for."""
    flags = []
    if (error := follows_differences(case.model, case.images, target)) > FALLS:
        flags.append(f"the net's gradient differs from finite differences of its logits by {error:.0%}.")
    if (worse := weaker_than_occlusion(case.model, case.images, case.explainer, target)) > FALLS:
        flags.append(f"deletion by the map leaves {worse:.2f} more of the probability than by occlusion.")
    return flags


def _gap(first: Tensor, second: Tensor) -> float:
    """The mean of first minus second over the images that have both; 0 if none has."""
    both = first - second
    return 0.0 if both.isnan().all() else both.nanmean().item()


def _mean(values: Tensor) -> str:
    known = values[~values.isnan()]
    return str(bootstrap(known)) if len(known) > 1 else "undefined"


def _numbers(values: Tensor) -> list[float | None]:
    return [None if value != value else round(value, DECIMALS) for value in values.tolist()]


def _tensor(values: Sequence[Any]) -> Tensor:
    return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float64)
