"""Audit a net: how far can its explanations be moved by small changes of the images that keep its predictions?"""

import functools
import inspect
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..attack.ball import Ball
from ..attack.inputs import SEEN, Effort, manipulate
from ..attack.objectives import OBJECTIVES
from ..explain.layers import resolved
from ..explain.registry import EXPLAINERS, Explainer, described, find, tried
from ..maps import alike
from ..maps.intervals import Interval, bootstrap
from ..maps.shape import normalize
from ..nets import running, softplus

MEASURES = ("spearman", "topk", "ssim")
EXPLAINED = ("gradient", "integrated_gradients", "grad_cam", "lrp")
SMALL = 64  # pixels of a side up to which integrated gradients, 32 gradients each, are audited unasked
ATTACKS = ("untargeted", "targeted", "center_mass", "distance")
NOISE = "random noise"  # the control: a random corner of the ball, no search
WORST = "worst of all"  # each image at the lowest of all attacks
FLAT = 1e-5  # maps that span no more of their largest value than this count as constant
TOP = 16  # top-k looks at one in so many entries of a map
LONG = 3  # seconds from which on it is said how long an audit will take
SHOWN = 3  # images with the most fragile maps that are kept for the report


@dataclass(frozen=True)
class Example:
    """An image whose map moved far: number, explainer, attack, its Spearman, and the pictures (C, H, W)."""

    number: int
    explainer: str
    attack: str
    spearman: float
    image: Tensor
    clean_map: Tensor
    changed: Tensor
    changed_map: Tensor


@dataclass(frozen=True)
class Audit:
    """What an audit found; `report.save` writes it as a page.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> options = {"explainers": ["gradient"], "attacks": ["distance"], "steps": 2, "progress": False}
    >>> judge.audit(net, x, torch.tensor([0, 1]), **options).settings["images"]
    2
    """

    table: pd.DataFrame
    """One row for each explainer and attack, with each measure, the share of kept predictions, the distance, and how
    hard was tried: the share of images that could step, and of a change that slopes see."""
    values: dict[tuple[str, str], dict[str, Tensor]]
    """The same image by image, as tensors (N,) for each pair; Spearman and top-k are nan where a map is constant."""
    examples: list[Example]
    """For each explainer the images with the lowest Spearman."""
    efforts: dict[tuple[str, str], Effort]
    """How hard each attack on each explainer tried; one line each as text."""
    accuracy: Interval | None
    """None without labels."""
    settings: dict[str, Any]
    notes: list[str]
    """What could not be audited, and why."""

    def __repr__(self) -> str:
        """The worst of each explainer, with how hard was tried, a line each."""
        lines = [f"Audit of {self.settings['net']}, {self.settings['images']} images:"]
        for name in self.table.index.unique("explainer"):
            efforts = [effort for pair, effort in self.efforts.items() if pair[0] == name]
            worst = self.table.loc[(name, WORST)]
            lines.append(f"Spearman {worst['spearman']} at the worst of {len(efforts)} attacks ({Effort.of(efforts)})")
        return "\n".join(lines)


@checks.derivatives()
def audit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | Sequence[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    eps: float = 8 / 255,
    explainers: Sequence[str] | Mapping[str, Explainer] | None = None,
    attacks: Sequence[str] = ATTACKS,
    steps: int = 50,
    starts: int = 2,
    beta: float = 10.0,
    batch_size: int = 32,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> Audit:
    """Attack the maps of each explainer by each attack, and measure what is left of them.

    A net with ReLUs is attacked with the second derivatives of its softplus copy; where no attack could take a step, or
    where kinks hide from it how the maps change, the table and a note say so. How long it will take is said first. The
    net is looked at in eval mode and given back as it was. Whether the
    predictions were kept and the changes stayed in the ball is measured here, by code that did not enforce it. A random
    change of the same size is the control.

    Compared are the absolute values of the raw maps. They are not what you see where a map is cut off at zero before it
    is shown: pass that map as an explainer of your own to audit it.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> options = {"explainers": ["gradient"], "attacks": ["distance"], "steps": 2, "progress": False}
    >>> judge.audit(net, x, torch.tensor([0, 1]), **options).table.index.unique("attack").tolist()
    ['random noise', 'distance', 'worst of all']

    Args:
        model: net that takes images in [0, 1] and returns logits (B, C); it is used where its weights are.
        images: images (N, C, H, W), float32 or float64, in [0, 1], at least two.
        labels: their classes for the accuracy: numbers (N,) as the net counts its outputs, or names of `class_names`;
            None where they are not known. Where none of them can be matched to an output there is no accuracy, and a
            note says so. The predicted classes are explained.
        class_names: names of the net's outputs, for labels that are names.
        eps: most that a pixel may change.
        explainers: names from `explain.available()`, or a dict of names and functions like those; one that refuses
            the net is left out, and a note says why. If None: gradient, Grad-CAM, LRP and, for images of at most 64
            pixels a side, integrated gradients.
        attacks: names from `attack.available()`.
        steps: gradient steps of an attack.
        starts: starts of an attack.
        beta: sharpness of the softplus copy.
        batch_size: images attacked at once. Memory grows with it, and time with the samples of an explainer: integrated
            gradients cost 32 gradients.
        generator: CPU generator of all random draws; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: images, labels or a number out of range; an unknown name; no explainer that works.
    """
    model = running.plain(model)
    checks.batch("images", images, bounds=(0, 1))
    checks.fine("images", images)
    if isinstance(labels, Tensor):
        checks.labels("labels", labels, size=len(images))
    elif labels is not None and (class_names is None or isinstance(labels, str) or len(labels) != len(images)):
        raise ValueError(f"labels is {labels!r}; pass a tensor of {len(images)} numbers, or names with class_names.")
    checks.count("number of images", len(images), low=2)
    checks.number("eps", eps, open_low=True)
    checks.number("beta", beta, open_low=True)
    if explainers is None:
        explainers = [name for name in EXPLAINED if name != "integrated_gradients" or max(images.shape[2:]) <= SMALL]
    known = explainers if isinstance(explainers, Mapping) else EXPLAINERS
    for what, names, allowed in (("explainer", explainers, known), ("attack", attacks, OBJECTIVES)):
        if isinstance(names, str):
            raise ValueError(f"{what}s is {names!r}; pass a list of names, [{names!r}].")
        checks.count(f"number of {what}s", len(names))
        for name in names:
            checks.one_of(what, name, allowed)
    chosen = {name: find(known[name]) for name in explainers}
    for what, number in {"steps": steps, "starts": starts, "batch_size": batch_size}.items():
        checks.count(what, number)
    generator = checks.generator(generator)
    device = next((parameter.device for parameter in model.parameters()), images.device)
    images = images.to(device)
    running.check_steady(model, images)
    logits = running.predict(model, images, batch_size=batch_size)
    predicted = logits.argmax(1)
    accuracy, unmatched = _accuracy(predicted.cpu(), labels, class_names, logits.shape[1])
    twin, notes = _surrogate(model, images[:2], beta)
    notes += unmatched
    search: dict[str, Any] = {"eps": eps, "steps": steps, "starts": starts, "surrogate": twin, "generator": generator}
    efforts: dict[tuple[str, str], Effort] = {}

    def changed_by(attack: str, name: str, x: Tensor) -> Tensor:
        if attack == NOISE:
            return Ball(x, eps, "linf", (0.0, 1.0)).corner(generator)
        explainer, k = usable[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that no image could step is said in the table and in a note
            found = manipulate(model, x, OBJECTIVES[attack](x, k, generator), explainer=explainer, **search)
        before = [efforts[name, attack]] if (name, attack) in efforts else []
        efforts[name, attack] = Effort.of([*before, found.effort])
        return found.x

    values, examples = {}, []
    with running.frozen(model):  # in eval mode, for the explainers too
        usable, refused = _usable(model, images[:2], chosen, batch_size)
        if progress:
            _say_how_long(model if twin is None else twin, usable, images, steps * starts * len(attacks))
        rounds = tqdm([(e, a) for e in usable for a in (NOISE, *attacks)], desc="auditing", disable=not progress)
        for name, attack in rounds:
            if name not in usable:
                continue
            rounds.set_postfix_str(f"{name}, {attack}")
            (explainer, k), parts = usable[name], []
            try:
                for x, target in zip(images.split(int(batch_size)), predicted.split(int(batch_size)), strict=True):
                    parts.append(_compared(model, explainer, x, changed_by(attack, name, x), target, k))
            except Exception as error:  # of one explainer, which must not end what is known of the others
                usable.pop(name)
                refused.append(_left_out(name, error))
                continue
            whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            examples += _examples(name, attack, images, whole)
            values[name, attack] = {key: whole[key].cpu() for key in (*MEASURES, "kept", "distance")}
    if not usable:
        raise ValueError(f"no explainer works on this net: {'; '.join(refused)}")
    values = {pair: found for pair, found in values.items() if pair[0] in usable}
    efforts = {pair: effort for pair, effort in efforts.items() if pair[0] in usable}
    for name in usable:
        values[name, WORST] = _worst([values[name, attack] for attack in attacks])
        whole_effort = Effort.of([efforts[name, attack] for attack in attacks])
        notes += _doubts(name, values[name, NOISE]["spearman"], values[name, WORST]["spearman"], whole_effort)
    order = sorted(values, key=lambda pair: _order(pair, list(usable)))
    rows = {pair: _row(values[pair]) | _tried(pair, efforts) for pair in order}
    return Audit(
        pd.DataFrame.from_dict(rows, orient="index").rename_axis(["explainer", "attack"]),
        values,
        _most_fragile(examples, usable),
        efforts,
        accuracy,
        {
            "net": type(model).__name__,
            "images": len(images),
            "eps": eps,
            "steps": steps,
            "starts": starts,
            "top-k": f"one in {TOP} entries of a map",
            "explained": ", ".join(described(explainer) for explainer, _ in usable.values()),
        },
        notes + refused,
    )


def _accuracy(
    predicted: Tensor, labels: Tensor | Sequence[str] | None, names: Sequence[str] | None, outputs: int
) -> tuple[Interval | None, list[str]]:
    """The share of right predictions, None where labels cannot be matched to the net's outputs, and a note of that."""
    if names is not None and len(names) != outputs:
        raise ValueError(f"class_names holds {len(names)} names; pass one for each of the net's {outputs} outputs.")
    if labels is None:
        return None, []
    if isinstance(labels, Tensor):
        checks.labels("labels", labels, size=len(predicted), classes=outputs)
        right = (predicted == labels.cpu()).double()
        if right.any() or labels.max() == outputs - 1:
            return bootstrap(right), []
        told = f"the labels run to {int(labels.max())} of {outputs} outputs, and none is predicted"
    else:
        known = set(labels) & set(names or ())
        if known:
            told_right = [name == (names or ())[n] for name, n in zip(labels, predicted.tolist(), strict=True)]
            return bootstrap(torch.tensor(told_right).double()), []
        told = f"no label, as {labels[0]!r}, is one of class_names"
    return None, [f"There is no accuracy: {told}, so they may count otherwise than the net's outputs."]


def _usable(
    model: nn.Module, x: Tensor, chosen: Mapping[str, Explainer], batch_size: int
) -> tuple[dict[str, tuple[Explainer, int]], list[str]]:
    """The explainers that accept the net, each with the k of its top-k; and why the others do not."""
    usable, notes = {}, []
    target = running.predict(model, x).argmax(1)
    for name, explainer in chosen.items():
        if "chunk" in inspect.signature(explainer).parameters:  # copies in the net at once: no more than images
            explainer = functools.partial(explainer, chunk=batch_size)
        try:
            explainer = resolved(explainer, model, x)
            usable[name] = explainer, max(1, tried(explainer, model, x, target)[0].numel() // TOP)
        except Exception as error:  # an explainer of one's own may fail in any way, and must not end the audit
            notes.append(_left_out(name, error))
    if not usable:
        raise ValueError(f"no explainer works on this net: {'; '.join(notes)}")
    return usable, notes


def _left_out(name: str, error: Exception) -> str:
    """Why an explainer is missing."""
    said = str(error) if isinstance(error, ValueError) else f"it failed with {type(error).__name__} ({error})."
    return f"{name} was left out: {said}"


def _say_how_long(guide: nn.Module, usable: Mapping[str, tuple[Explainer, int]], images: Tensor, steps: int) -> None:
    """Time one step of an attack on each explainer, and say aloud how long all of them will take if that is long."""
    x, seconds = images[:2], 0.0
    with running.frozen(guide), checks.trusted(), torch.no_grad():
        target = running.logits_of(guide, x).argmax(1)
    for explainer, _ in usable.values():
        start = time.perf_counter()
        with running.frozen(guide), checks.trusted():
            z = x.detach().requires_grad_()
            maps = explainer(guide, z, target, create_graph=True)
            if maps.requires_grad:
                torch.autograd.grad(maps.square().sum(), z, allow_unused=True)
        seconds += (time.perf_counter() - start) / len(x) * len(images) * steps
    if seconds > LONG:
        told = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        told = told if seconds < 7200 else f"{seconds / 3600:.1f} h"
        tqdm.write(f"auditing {', '.join(usable)} will take about {told}", file=sys.stderr)


def _surrogate(model: nn.Module, x: Tensor, beta: float) -> tuple[nn.Module | None, list[str]]:
    """The softplus copy of a net with ReLUs, None for a net without any or without a copy; and notes."""
    try:
        twin = softplus.with_softplus(model, beta)
    except ValueError as error:
        return None, [f"The attacks followed the net's own gradients, which mislead if it holds ReLU units: {error}"]
    if torch.equal(running.predict(twin, x), running.predict(model, x)) and _bends(model, x):
        return None, []
    return twin, [f"The attacks were guided by a softplus copy, beta {beta:g}."]


def _bends(model: nn.Module, x: Tensor) -> bool:
    """Whether a net can be differentiated twice; Hardsigmoid cannot, even where no image is near its kinks."""
    z = x.detach().requires_grad_()
    try:
        with running.frozen(model), checks.derivatives():
            slope = torch.autograd.grad(running.logits_of(model, z).sum(), z, create_graph=True)[0]
            if slope.requires_grad:
                torch.autograd.grad(slope.sum(), z, allow_unused=True)
    except ValueError:
        return False
    return True


def _doubts(name: str, noise: Tensor, worst: Tensor, effort: Effort) -> list[str]:
    """What speaks against an explainer's numbers: Spearman under noise and at the worst (N,), and the effort."""
    notes, constant = [], int(worst.isnan().sum())
    if constant > len(worst) / 2:
        counted = f"{name}: {constant} of {len(worst)} maps are constant, so their entries have no order."
        notes.append(f"{counted} Grad-CAM is constant where the layer that it reads gives 1 x 1 values.")
    if effort.stepped < effort.images:
        share = f"{effort.images - effort.stepped} of {effort.images} attacks could take no step ({effort.why})"
        notes.append(f"{name}: the attacks were WEAK, and high numbers mean nothing: {share}.")
    elif effort.seen < SEEN:
        seen = f"slopes see {100 * effort.seen:.0f} % of how its maps change, the rest are jumps at kinks that are left"
        notes.append(f"{name}: {seen}, as of max-pooling; a search that does not follow slopes may find more.")
    if worst.nanmean() > noise.nanmean():
        notes.append(f"{name}: random noise moved the maps further than the attacks, so these were WEAK.")
    return notes


def _tried(pair: tuple[str, str], efforts: Mapping[tuple[str, str], Effort]) -> dict[str, float]:
    """How hard an attack, or all of them together, tried; noise tries nothing."""
    own = [effort for (name, attack), effort in efforts.items() if name == pair[0] and pair[1] in (attack, WORST)]
    if not own:
        return {"could step": float("nan"), "slopes see": float("nan")}
    effort = Effort.of(own)
    return {"could step": effort.stepped / effort.images, "slopes see": effort.seen}


def _compared(
    model: nn.Module, explainer: Explainer, x: Tensor, z: Tensor, target: Tensor, k: int
) -> dict[str, Tensor]:
    """Maps of x and z, how alike they are, whether the prediction was kept and how far z lies from x."""
    clean, changed = explainer(model, x, target), explainer(model, z, target)
    a, b = normalize(clean), normalize(changed)
    flat = (_is_constant(a) | _is_constant(b)).cpu()
    return {
        "spearman": alike.spearman(a, b).cpu().masked_fill(flat, torch.nan),
        "topk": alike.topk_intersection(a, b, k).cpu().masked_fill(flat, torch.nan),
        "ssim": alike.ssim(a, b, data_range=1.0)
        if min(a.shape[2:]) >= alike.WINDOW
        else a.new_full((len(a),), torch.nan),
        "kept": running.predict(model, z).argmax(1) == target,
        "distance": (z - x).abs().amax((1, 2, 3)),
        "clean_map": clean,
        "changed": z,
        "changed_map": changed,
    }


def _is_constant(maps: Tensor) -> Tensor:
    """True (B,) where the entries of maps in [0, 1] are equal but for rounding, so that their order means nothing."""
    low, high = maps.flatten(1).aminmax(dim=1)
    return high - low <= FLAT


def _worst(found: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Each image's lowest value of each measure over several attacks; nan only where all of them are."""
    lowest = {}
    for key in MEASURES:
        values = torch.stack([one[key] for one in found])
        least = values.nan_to_num(nan=torch.inf).amin(0)
        lowest[key] = torch.where(values.isnan().all(0), torch.nan, least)
    return lowest | {
        "kept": torch.stack([one["kept"] for one in found]).all(0),
        "distance": torch.stack([one["distance"] for one in found]).amax(0),
    }


def _row(found: Mapping[str, Tensor]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key in MEASURES:
        known = found[key][~found[key].isnan()]
        row[key] = str(bootstrap(known)) if len(known) > 1 else "undefined"
    return row | {
        "predictions kept": found["kept"].double().mean().item(),
        "largest change": found["distance"].max().item(),
        "constant maps": int(found["spearman"].isnan().sum()),
    }


def _order(pair: tuple[str, str], usable: list[str]) -> tuple[int, bool, bool]:
    return usable.index(pair[0]), pair[1] == WORST, pair[1] != NOISE


def _examples(name: str, attack: str, images: Tensor, whole: Mapping[str, Tensor]) -> list[Example]:
    order: Tensor | list[int] = whole["spearman"].nan_to_num(nan=2.0).argsort()[:SHOWN] if attack != NOISE else []
    return [
        Example(
            int(i), name, attack, whole["spearman"][i].item(), images[i].cpu(),
            *(whole[key][i].cpu() for key in ("clean_map", "changed", "changed_map")),
        )
        for i in order if not whole["spearman"][i].isnan()
    ]  # fmt: skip


def _most_fragile(examples: list[Example], usable: Iterable[str]) -> list[Example]:
    """The lowest of each explainer, no image twice."""
    kept: list[Example] = []
    for name in usable:
        own: dict[int, Example] = {}
        for example in sorted((e for e in examples if e.explainer == name), key=lambda e: e.spearman):
            own.setdefault(example.number, example)
        kept += list(own.values())[:SHOWN]
    return kept
