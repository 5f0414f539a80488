"""Audit a net: how far can its explanations be moved by small changes of the images that keep its predictions?"""

import functools
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..attack.ascent import has_second_order_gradient
from ..attack.ball import Ball
from ..attack.inputs import manipulate
from ..attack.objectives import OBJECTIVES
from ..explain.gradients import gradient
from ..explain.registry import EXPLAINERS, Explainer, find
from ..maps import alike
from ..maps.intervals import Interval, bootstrap
from ..maps.shape import normalize
from ..nets import running, softplus

MEASURES = ("spearman", "topk", "ssim")
EXPLAINED = ("gradient", "integrated_gradients", "grad_cam", "lrp")
ATTACKS = ("untargeted", "targeted", "center_mass", "distance")
NOISE = "random noise"  # the control: a random corner of the ball, no search
WORST = "worst of all"  # each image at the lowest of all attacks
FLAT = 1e-5  # maps that span no more of their largest value than this count as constant
TOP = 16  # top-k looks at one in so many entries of a map
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
    """One row for each explainer and attack, with each measure, the share of kept predictions and the distance."""
    values: dict[tuple[str, str], dict[str, Tensor]]
    """The same image by image, as tensors (N,) for each pair; Spearman and top-k are nan where a map is constant."""
    examples: list[Example]
    """For each explainer the images with the lowest Spearman."""
    accuracy: Interval
    settings: dict[str, Any]
    notes: list[str]
    """What could not be audited, and why."""


@torch.enable_grad()
def audit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float = 8 / 255,
    explainers: Sequence[str] | Mapping[str, Explainer] = EXPLAINED,
    attacks: Sequence[str] = ATTACKS,
    steps: int = 50,
    starts: int = 2,
    beta: float = 10.0,
    batch_size: int = 32,
    generator: torch.Generator | None = None,
    progress: bool = True,
) -> Audit:
    """Attack the maps of each explainer by each attack, and measure what is left of them.

    A net with ReLUs is attacked with the second derivatives of its softplus copy, if torch.fx can trace it; where no
    attack could take a step, a note says so. The net is looked at in eval mode and given back as it was. Whether the
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
        images: images (N, C, H, W) in [0, 1], at least two.
        labels: their classes (N,), for the accuracy; the predicted classes are explained.
        eps: most that a pixel may change.
        explainers: names from `explain.available()`, or a dict of names and functions like those; one that refuses
            the net is left out, and a note says why.
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
    checks.net("model", model)
    checks.batch("images", images, bounds=(0, 1))
    checks.labels("labels", labels, size=len(images))
    checks.count("number of images", len(images), low=2)
    checks.number("eps", eps, open_low=True)
    checks.number("beta", beta, open_low=True)
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
    images, labels = images.to(device), labels.to(device)
    logits = running.predict(model, images, batch_size=batch_size)
    checks.labels("labels", labels, size=len(images), classes=logits.shape[1])
    predicted = logits.argmax(1)
    twin, notes = _surrogate(model, images[:2], predicted[:2], beta, generator)
    search: dict[str, Any] = {"eps": eps, "steps": steps, "starts": starts, "surrogate": twin, "generator": generator}

    def changed_by(attack: str, explainer: Explainer, x: Tensor, k: int) -> Tensor:
        if attack == NOISE:
            return Ball(x, eps, "linf", (0.0, 1.0)).corner(generator)
        return manipulate(model, x, OBJECTIVES[attack](x, k, generator), explainer=explainer, **search).x

    values, examples = {}, []
    with running.frozen(model):  # in eval mode, for the explainers too
        usable, refused = _usable(model, images[:2], chosen, batch_size)
        rounds = tqdm([(e, a) for e in usable for a in (NOISE, *attacks)], desc="auditing", disable=not progress)
        for name, attack in rounds:
            rounds.set_postfix_str(f"{name}, {attack}")
            (explainer, k), parts = usable[name], []
            for x, target in zip(images.split(int(batch_size)), predicted.split(int(batch_size)), strict=True):
                parts.append(_compared(model, explainer, x, changed_by(attack, explainer, x, k), target, k))
            whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            examples += _examples(name, attack, images, whole)
            values[name, attack] = {key: whole[key].cpu() for key in (*MEASURES, "kept", "distance")}
    for name in usable:
        values[name, WORST] = _worst([values[name, attack] for attack in attacks])
        notes += _doubts(name, values[name, NOISE]["spearman"], values[name, WORST]["spearman"])
    rows = {pair: _row(found) for pair, found in sorted(values.items(), key=lambda item: _order(item[0], list(usable)))}
    return Audit(
        pd.DataFrame.from_dict(rows, orient="index").rename_axis(["explainer", "attack"]),
        values,
        _most_fragile(examples, usable),
        bootstrap((predicted == labels).double()),
        {
            "net": type(model).__name__,
            "images": len(images),
            "eps": eps,
            "steps": steps,
            "starts": starts,
            "top-k": f"one in {TOP} entries of a map",
        },
        notes + refused,
    )


def _usable(
    model: nn.Module, x: Tensor, chosen: Mapping[str, Explainer], batch_size: int
) -> tuple[dict[str, tuple[Explainer, int]], list[str]]:
    """The explainers that accept the net, each with the k of its top-k; and why the others do not."""
    usable, notes = {}, []
    for name, explainer in chosen.items():
        if "chunk" in inspect.signature(explainer).parameters:  # copies in the net at once: no more than images
            explainer = functools.partial(explainer, chunk=batch_size)
        try:
            usable[name] = explainer, max(1, explainer(model, x)[0].numel() // TOP)
        except ValueError as error:
            notes.append(f"{name} was left out: {error}")
    if not usable:
        raise ValueError(f"no explainer works on this net: {'; '.join(notes)}")
    return usable, notes


def _surrogate(
    model: nn.Module, x: Tensor, target: Tensor, beta: float, generator: torch.Generator
) -> tuple[nn.Module | None, list[str]]:
    """The softplus copy of a net with ReLUs, None for a net without any or without a copy; and notes."""
    twin, notes, why = None, [], "no softplus copy differs from it (LeakyReLU, PReLU and Hardtanh have none)."
    try:
        twin = softplus.with_softplus(model, beta)
        if torch.equal(running.predict(twin, x), running.predict(model, x)):
            twin = None
    except ValueError as error:
        why = str(error)
        notes = [f"The attacks followed the net's own gradients, which mislead if it holds ReLU units: {why}"]
    guide = model if twin is None else twin
    with running.frozen(guide):
        bends = has_second_order_gradient(guide, x, target, gradient, generator)
    if not bends:
        return None, [f"The attacks were WEAK, and high numbers mean nothing: the maps' gradients are zero, and {why}"]
    if twin is not None:
        return twin, [f"The attacks were guided by a softplus copy, beta {beta:g}."]
    return None, notes


def _doubts(name: str, noise: Tensor, worst: Tensor) -> list[str]:
    """What speaks against an explainer's numbers, from each image's Spearman under noise and at the worst."""
    notes, constant = [], int(worst.isnan().sum())
    if constant > len(worst) / 2:
        counted = f"{name}: {constant} of {len(worst)} maps are constant, so their entries have no order."
        notes.append(f"{counted} Grad-CAM is constant where the layer that it reads gives 1 x 1 values.")
    if worst.nanmean() > noise.nanmean():
        notes.append(f"{name}: random noise moved the maps further than the attacks, so these were WEAK.")
    return notes


def _compared(
    model: nn.Module, explainer: Explainer, x: Tensor, z: Tensor, target: Tensor, k: int
) -> dict[str, Tensor]:
    """Maps of x and z, how alike they are, whether the prediction was kept and how far z lies from x."""
    clean, changed = explainer(model, x, target), explainer(model, z, target)
    a, b = normalize(clean), normalize(changed)
    flat = _is_constant(a) | _is_constant(b)
    return {
        "spearman": alike.spearman(a, b).masked_fill(flat, torch.nan),
        "topk": alike.topk_intersection(a, b, k).masked_fill(flat, torch.nan),
        "ssim": alike.ssim(a, b, data_range=1.0),
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
