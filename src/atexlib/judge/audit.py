"""Audit a net: how far can its explanations be moved by small changes of the images that keep its predictions?"""

import platform
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..attack.ball import Ball
from ..attack.inputs import Effort, manipulate
from ..attack.objectives import OBJECTIVES
from ..explain.registry import EXPLAINERS, Explainer, described, find, is_registered
from ..maps.intervals import Interval, wilson
from ..nets import running
from . import measures, origin, plan, signs
from .card import NOISE, PLACE, WORST, Audit, Example, Subject

EXPLAINED = ("gradient", "integrated_gradients", "grad_cam", "lrp")
SMALL = 64  # pixels of a side up to which integrated gradients, 32 gradients each, are audited unasked
ATTACKS = ("untargeted", PLACE, "center_mass", "distance")
LONG = 3  # seconds from which on it is said how long an audit will take
SHOWN = 3  # images with the most fragile maps that are kept for the report


@checks.derivatives()
def audit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | Sequence[str] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    eps: float = 8 / 255,
    explainers: Sequence[str] | Mapping[str, Explainer] | None = None,
    attacks: Sequence[str] = ATTACKS,
    place: str | Tensor = "lower right",
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
    net is looked at in eval mode and given back as it was. Whether the predictions were kept, the changes stayed in the
    ball and the maps went to the place is measured here, by code that did not enforce it. A random change of the same
    size is the control. At the end the net is searched for signs that it was made to show false maps, see `suspicion`.

    Compared are the absolute values of the raw maps. They are not what you see where a map is cut off at zero before it
    is shown: pass that map as an explainer of your own to audit it.

    >>> import torch
    >>> from atexlib import judge, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> options = {"explainers": ["gradient"], "attacks": ["place"], "steps": 2, "progress": False}
    >>> judge.audit(net, x, torch.tensor([0, 1]), **options).table.index.unique("attack").tolist()
    ['random noise', 'place', 'worst of all']

    Args:
        model: net that takes images in [0, 1] and returns logits (B, C); it is used where its weights are.
        images: images (N, C, H, W), float32 or float64, in [0, 1], at least two.
        labels: their classes for the accuracy: numbers (N,) as the net counts its outputs, or names of `class_names`;
            None where they are not known. Where none of them can be matched to an output there is no accuracy, and a
            note says so. The predicted classes are explained.
        class_names: names of the net's outputs, for the report and for labels that are names.
        names: what the report calls the images, as the `files` of a folder; numbers if None.
        title: what the report calls the net; its class and number of weights if None.
        eps: most that a pixel may change.
        explainers: names from `explain.available()`, or a dict of names and functions like those; one that refuses
            the net is left out, and a note says why. If None: gradient, Grad-CAM, LRP and, for images of at most 64
            pixels a side, integrated gradients.
        attacks: names from `attack.available()`, and `place`, which brings each map to the place.
        place: where that attack brings the maps: `upper left`, `upper right`, `lower left`, `lower right`, `center`, a
            square a third as long as the images' shorter side; or a mask (H, W) of 1 there and 0 elsewhere.
        steps: gradient steps of an attack.
        starts: starts of an attack.
        beta: sharpness of the softplus copy.
        batch_size: images attacked at once; signs of manipulation take as many as fit, like `nets.predict`. Memory
            grows with it, and time with the samples of an explainer: integrated gradients cost 32 gradients.
        generator: CPU generator of all random draws; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: images, labels, names, a place or a number out of range; an unknown name; no explainer that works.
    """
    began = time.perf_counter()
    model = running.plain(model)
    checks.batch("images", images, bounds=(0, 1))
    checks.fine("images", images)
    if isinstance(labels, Tensor):
        checks.labels("labels", labels, size=len(images))
    elif labels is not None and (class_names is None or isinstance(labels, str) or len(labels) != len(images)):
        raise ValueError(f"labels is {labels!r}; pass a tensor of {len(images)} numbers, or names with class_names.")
    if names is not None and (isinstance(names, str) or len(names) != len(images)):
        raise ValueError(f"names is {names!r}; pass a list of {len(images)} names, one an image, or None.")
    checks.count("number of images", len(images), low=2)
    checks.number("eps", eps, open_low=True)
    checks.number("beta", beta, open_low=True)
    placing = plan.Placing(plan.place_of(place, *images.shape[2:]))
    if explainers is None:
        explainers = [name for name in EXPLAINED if name != "integrated_gradients" or max(images.shape[2:]) <= SMALL]
    known = explainers if isinstance(explainers, Mapping) else EXPLAINERS
    _check_names("explainer", explainers, known)
    _check_names("attack", attacks, [*OBJECTIVES, PLACE])
    chosen = {name: find(known[name]) for name in explainers}
    for what, number in {"steps": steps, "starts": starts, "batch_size": batch_size}.items():
        checks.count(what, number)
    generator = checks.generator(generator)
    seed = generator.initial_seed()
    device = next((parameter.device for parameter in model.parameters()), images.device)
    images = images.to(device)
    running.check_steady(model, images)
    logits = running.predict(model, images, batch_size=batch_size)
    predicted = logits.argmax(1)
    accuracy, unmatched = _accuracy(predicted.cpu(), labels, class_names, logits.shape[1])
    twin, notes = plan.surrogate(model, images[:2], beta)
    notes += unmatched
    search: dict[str, Any] = {"eps": eps, "steps": steps, "starts": starts, "surrogate": twin, "generator": generator}
    efforts: dict[tuple[str, str], Effort] = {}

    def changed_by(attack: str, name: str, x: Tensor) -> Tensor:
        if attack == NOISE:
            return Ball(x, eps, "linf", (0.0, 1.0)).corner(generator)
        explainer, k = usable[name]
        objective = placing if attack == PLACE else OBJECTIVES[attack](x, k, generator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that no image could step is said in the table and in a note
            found = manipulate(model, x, objective, explainer=explainer, **search)
        before = [efforts[name, attack]] if (name, attack) in efforts else []
        efforts[name, attack] = Effort.of([*before, found.effort])
        return found.x

    values: dict[tuple[str, str], dict[str, Tensor]] = {}
    examples: list[Example] = []
    with running.frozen(model):  # in eval mode, for the explainers too
        usable, refused = plan.usable(model, images[:2], chosen, batch_size)
        steps_in_all = (steps * starts + plan.LOOKS) * len(attacks)
        estimated = plan.estimate(model, twin, usable, images, steps_in_all)
        if progress and estimated > LONG:
            told = f"auditing {', '.join(usable)} will take about {plan.spelt(estimated)}"
            tqdm.write(told, file=sys.stderr)
        rounds = tqdm([(e, a) for e in usable for a in (NOISE, *attacks)], desc="auditing", disable=not progress)
        for name, attack in rounds:
            if name not in usable:
                continue
            rounds.set_postfix_str(f"{name}, {attack}")
            (explainer, k), parts = usable[name], []
            try:
                for x, target in zip(images.split(int(batch_size)), predicted.split(int(batch_size)), strict=True):
                    parts.append(
                        measures.compared(model, explainer, x, changed_by(attack, name, x), target, k, placing)
                    )
            except Exception as error:  # of one explainer, which must not end what is known of the others
                usable.pop(name)
                refused.append(plan.left_out(name, error))
                continue
            whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            examples += _examples(name, attack, images, whole, placing.mask[0, 0])
            values[name, attack] = {key: value.cpu() for key, value in whole.items() if value.ndim == 1}
    if not usable:
        raise ValueError(f"no explainer works on this net: {'; '.join(refused)}")
    shown = {name: explainer for name, (explainer, _) in usable.items()}
    found_signs, unread = signs.read(model, images, shown, many=batch_size)
    ordered: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name in usable:
        ordered |= {(name, attack): values[name, attack] for attack in (NOISE, *attacks)}
        ordered[name, WORST] = measures.worst([values[name, attack] for attack in attacks])
    efforts = {pair: effort for pair, effort in efforts.items() if pair[0] in usable}
    for name in usable:
        noise, worst = (ordered[name, row]["spearman"] for row in (NOISE, WORST))
        notes += measures.doubts(name, noise, worst, Effort.of([efforts[name, attack] for attack in attacks]))
    return Audit(
        subjects=_subjects(logits, labels, class_names, names),
        labels={name: _called(name, explainer) for name, (explainer, _) in usable.items()},
        values=ordered,
        efforts=efforts,
        accuracy=accuracy,
        settings={
            "net": title or f"{type(model).__name__}, {origin.weights(model):,} weights",
            "images": len(images),
            "size": list(images.shape[1:]),
            "eps": eps,
            "steps": steps,
            "starts": starts,
            "attacks": list(attacks),
            "place": place if isinstance(place, str) else "a mask of the auditor's",
            "part of the image": placing.mask.double().mean().item(),
            "top-k": f"one in {plan.TOP} entries of a map",
            "explained": ", ".join(described(explainer) for explainer, _ in usable.values()),
        },
        provenance={
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": seed,
            "device": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{device}, {platform.machine()}",
            "threads": torch.get_num_threads(),
            "versions": origin.versions(),
            "net": origin.fingerprint(model.state_dict().values()),
            "images": origin.fingerprint([images]),
            "seconds estimated": round(estimated, 1),
            "seconds": round(time.perf_counter() - began, 1),
        },
        notes=notes + refused + unread,
        examples=_most_fragile(examples, ordered, usable),
        signs=found_signs,
    )


def _check_names(what: str, names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise unless the names are a list, not empty, of some that are allowed."""
    if isinstance(names, str):
        raise ValueError(f"{what}s is {names!r}; pass a list of names, [{names!r}].")
    checks.count(f"number of {what}s", len(list(names)))
    for name in names:
        checks.one_of(what, name, allowed)


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
        right = int((predicted == labels.cpu()).sum())
        if right or labels.max() == outputs - 1:
            return wilson(right, len(predicted)), []
        told = f"the labels run to {int(labels.max())} of {outputs} outputs, and none is predicted"
    else:
        known = set(labels) & set(names or ())
        if known:
            right = sum(name == (names or ())[n] for name, n in zip(labels, predicted.tolist(), strict=True))
            return wilson(right, len(predicted)), []
        told = f"no label, as {labels[0]!r}, is one of class_names"
    return None, [f"There is no accuracy: {told}, so they may count otherwise than the net's outputs."]


def _subjects(
    logits: Tensor,
    labels: Tensor | Sequence[str] | None,
    class_names: Sequence[str] | None,
    names: Sequence[str] | None,
) -> list[Subject]:
    """The images by name, with their labels and what the net says of them."""

    def word(number: int) -> str:
        return class_names[number] if class_names is not None else f"class {number}"

    given = [word(n) for n in labels.tolist()] if isinstance(labels, Tensor) else labels
    probability, predicted = logits.softmax(1).max(1)
    return [
        Subject(str(names[i]) if names else f"image {i}", given[i] if given else None, word(n), p)
        for i, (n, p) in enumerate(zip(predicted.tolist(), probability.tolist(), strict=True))
    ]


def _called(name: str, explainer: Explainer) -> str:
    """An explainer as sentences call it: one of the register by its label, one's own by its name."""
    if name in EXPLAINERS:
        return described(explainer)
    return f"{name} ({described(explainer)})" if is_registered(explainer) else name


def _examples(name: str, attack: str, images: Tensor, whole: Mapping[str, Tensor], place: Tensor) -> list[Example]:
    """The images whose maps moved most by this attack; of the place also that whose map went there best."""
    if attack == NOISE:
        return []
    spearman = whole["spearman"]
    order = spearman.nan_to_num(nan=2.0).argsort()[:SHOWN].tolist()
    if attack == PLACE:
        order.append(int((whole["in place"] - whole["in place before"]).argmax()))
    return [
        Example(
            i, name, attack, spearman[i].item(), images[i].cpu(),
            **{key: whole[key][i].cpu() for key in ("clean_map", "changed", "changed_map")},
            place=place if attack == PLACE else None,
        )
        for i in dict.fromkeys(order) if not spearman[i].isnan()
    ]  # fmt: skip


def _most_fragile(
    examples: list[Example], values: Mapping[tuple[str, str], Mapping[str, Tensor]], usable: Iterable[str]
) -> list[Example]:
    """The lowest of each explainer, no image twice; and the image whose map went best to the place."""

    def went(example: Example) -> float:
        found = values[example.explainer, example.attack]
        return (found["in place"] - found["in place before"])[example.number].item()

    kept: list[Example] = []
    for name in usable:
        own: dict[int, Example] = {}
        for example in sorted((e for e in examples if e.explainer == name), key=lambda e: e.spearman):
            own.setdefault(example.number, example)
        best = max((e for e in examples if (e.explainer, e.attack) == (name, PLACE)), key=went, default=None)
        kept += list(own.values())[:SHOWN]
        if best is not None and best not in kept:
            kept.append(best)
    return kept
