"""The nets that experiments look at: undefended, defended, and after 0, 1, 2, ... iterations of a defence."""

import math
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import checks
from ...data import DATASETS
from ...defend import DEFENSES, Defense, smooth_maps
from ...nets import ConvNet, accuracy, fit
from ..engine import results, store
from ..engine.kinds import KINDS, Metrics, Spec, kind, need
from ..engine.place import Place
from ..engine.presets import PRESETS

SIGMA = 0.1  # noise of the SmoothGrad maps that a defence starts from
MAP_SAMPLES = 4  # their noisy copies
SHARE_OF_ITERATION = 4  # an iteration is one pass over one in so many of the images that a preset defends on
CHEAP = ("beta", "pooling", "pooling_swapped", "early_2", "atex_free")  # with the canaries of the larger ones
BUDGET = 3.0  # plain passes over a preset's images for defences: the time in which nets are trained that say their cost
PLAIN_PASSES = 4  # the control makes more passes: a step of ATEX looks at about four times as many images

# The words for what was done to a net: `none`, and every defence in the register.
NONE: dict[str, Defense] = {"none": Defense(fit, "none (beta 10)")}
TREATED = ChainMap(DEFENSES, NONE)
# What is repeated pass by pass: defences that leave the undefended net its architecture.
ITERATED = {
    name: chosen
    for name, chosen in DEFENSES.items()
    if chosen.start == "none" and chosen.shape is None and chosen.cost is None
}
ITERATED |= {"plain": Defense(fit, "plain training (control)")}


def convnet(spec: Spec) -> ConvNet:
    """A ConvNet of the right shape for a data set's images, its weights not drawn yet."""
    channels, side, _ = DATASETS[spec["dataset"]].shape
    return ConvNet(channels=channels, side=side, classes=DATASETS[spec["dataset"]].classes)


def architecture(spec: Spec) -> nn.Module:
    """The net of a spec's defence, its weights not drawn yet: the ConvNet as each defence on the way shapes it."""
    chosen = TREATED[spec["defense"]]
    net = convnet(spec) if spec["defense"] == "none" else architecture({**spec, "defense": chosen.start})
    return net if chosen.shape is None else chosen.shape(net, chosen.settings)


def _accuracies(net: nn.Module, place: Place) -> Metrics:
    splits = {split: place.images(split) for split in ("validation", "test")}
    return {f"{split} accuracy": accuracy(net, found.images, found.labels) for split, found in splits.items()}


@kind(
    "undefended",
    keys={"dataset": DATASETS},
    history=("first",),
    sizes="train_images epochs batch_size",
    canary=[{"dataset": "digits", "seed": 0}],
    build=convnet,
)
def undefended(spec: Spec, place: Place) -> tuple[nn.Module, Metrics]:
    """Train the ConvNet (softplus, beta 10) at a preset's size; keep the epoch best on validation images."""
    channels, side, _ = DATASETS[spec["dataset"]].shape
    generator = place.generator()
    net = ConvNet(channels=channels, side=side, classes=DATASETS[spec["dataset"]].classes, generator=generator)
    images = place.images("train", place.size.train_images)
    layout = torch.channels_last  # a fifth faster than the default layout, on the CPU too
    trained_net = fit(
        net.to(memory_format=layout, dtype=place.dtype),  # type: ignore[call-overload]
        (images.images.contiguous(memory_format=layout), images.labels),
        validation=place.images("validation"),
        epochs=place.size.epochs,
        batch_size=place.size.batch_size,
        device=place.device,
        generator=generator,
        progress=place.progress,
    ).model
    return trained_net, _accuracies(trained_net, place)


@kind(
    "defended",
    keys={"dataset": DATASETS, "defense": DEFENSES},
    history=("first",),
    needs=lambda spec: [need(net_spec(spec, DEFENSES[spec["defense"]].start))],
    settings=lambda spec: made_by(spec["defense"]),
    sizes="defense_images defense_epochs batch_size",
    canary=[{"dataset": "digits", "defense": name, "seed": 0} for name in ("naive", "atex", "atex_ascent", *CHEAP)],
    build=architecture,
)
def defended(spec: Spec, place: Place) -> tuple[nn.Module, Metrics]:
    """Train the net that a defence starts from on by it, with the settings under which the register knows it."""
    chosen = DEFENSES[spec["defense"]]
    base = base_net(place) if chosen.start == "none" else net_at(place, chosen.start)
    net = defend(base, spec["defense"], chosen.settings, place)
    return net, _accuracies(net, place)


@kind(
    "iterated",
    keys={"dataset": DATASETS, "defense": ITERATED, "iterations": int},
    history=("first",),
    needs=lambda spec: [("undefended", undefended_spec(spec))],
    settings=lambda spec: iteration_settings(spec),
    sizes="defense_images batch_size",
    canary=[
        {"dataset": "digits", "defense": name, "iterations": 2, "seed": 0}
        for name in ("plain", "naive", "atex", "atex_ascent")
    ],
    build=convnet,
    scratch=True,
)
def iterated(spec: Spec, place: Place) -> tuple[nn.Module, Metrics]:
    """The undefended net after so many small passes of a defence, trained by itself.

    `plain` is the control: cross entropy on the same images, with as much compute as ATEX takes.
    """
    count, base = place.size.defense_images // SHARE_OF_ITERATION, base_net(place)
    if spec["defense"] == "plain":
        net = train_on(base, place, count=count, epochs=spec["iterations"] * PLAIN_PASSES)
    else:
        settings = {**DEFENSES[spec["defense"]].settings, "epochs": spec["iterations"]}
        net = defend(base, spec["defense"], settings, place, count=count)
    return net, {}


def iteration_settings(spec: Spec) -> dict[str, Any]:
    """What a net after some iterations of a spec's defence rests on, beside the undefended one."""
    if spec["iterations"] == 0:
        return {}
    made = {"passes": PLAIN_PASSES} if spec["defense"] == "plain" else made_by(spec["defense"])
    return {"share of an iteration": SHARE_OF_ITERATION, **made}


def made_by(defense: str, other: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a defended net rests on: its trainer's version, its settings (or `other` ones), maps, time."""
    chosen = DEFENSES[defense]
    more = {"sigma": SIGMA, "map samples": MAP_SAMPLES} if chosen.takes_maps else {}
    if chosen.cost is not None:
        more |= {"cost": chosen.cost, "budget": BUDGET}
    return {"trainer": len(chosen.history), **chosen.settings, **(other or {}), **more}


def defend(
    net: nn.Module, defense: str, settings: Mapping[str, Any], place: Place, *, count: int | None = None
) -> nn.Module:
    """Defend a net on `count` images, or as many as the preset says."""
    epochs = place.size.defense_epochs
    if (cost := DEFENSES[defense].cost) is not None:
        count, epochs = equal_time(place, cost)
    images = place.images("train", count or place.size.defense_images)
    options = {"epochs": epochs, "batch_size": place.size.batch_size, **settings}
    if DEFENSES[defense].takes_maps:
        options["maps"] = _maps(net, images.images, place)
    return (
        DEFENSES[defense]
        .train(
            net,
            images,
            validation=place.images("validation"),
            device=place.device,
            generator=place.generator(),
            progress=place.progress,
            **options,
        )
        .model
    )


def equal_time(place: Place, cost: float) -> tuple[int, int]:
    """How many images to train on, and how often, at so many times the cost of a plain step: BUDGET plain passes."""
    passes = BUDGET / cost
    epochs = math.ceil(passes)
    return round(place.size.defense_images * passes / epochs), epochs


def _maps(net: nn.Module, images: Tensor, place: Place) -> Tensor:
    """SmoothGrad maps at the first training images; of the undefended net, kept for the next defence."""

    def make() -> Tensor:
        return smooth_maps(net, images, samples=MAP_SAMPLES, sigma=SIGMA, progress=place.progress)

    return place.keep(("maps", len(images)), make) if net is place.kept.get("base net") else make()


def train_on(net: nn.Module, place: Place, *, count: int, epochs: int) -> nn.Module:
    """Train a net on with cross entropy on the first `count` training images."""
    return fit(
        net,
        place.images("train", count),
        validation=place.images("validation"),
        epochs=epochs,
        batch_size=place.size.batch_size,
        device=place.device,
        generator=place.generator(),
        progress=place.progress,
    ).model


def undefended_spec(spec: Spec) -> dict[str, Any]:
    """The undefended net that a defended one of this spec starts from, as a spec."""
    return {"kind": "undefended", **{key: spec[key] for key in ("dataset", "seed", "preset")}}


def net_spec(spec: Spec, defense: str | None = None) -> dict[str, Any]:
    """A net at a spec's data set, seed and preset, by the defence that is named, or the spec's own, as a spec."""
    defense = defense or spec["defense"]
    base = undefended_spec(spec)
    return base if defense == "none" else {**base, "kind": "defended", "defense": defense}


def needs_net(spec: Spec) -> list[tuple[str, Spec]]:
    """What a result on one net rests on: that of its spec's defence."""
    return [need(net_spec(spec))]


def net_at(place: Place, defense: str = "none") -> nn.Module:
    """The net of a defence at a place: read, or else made and written."""
    return results.net_of(net_spec(place.spec, defense), place)


def base_net(place: Place) -> nn.Module:
    """The undefended net of a place, which those who start from it share, and its maps."""
    return place.keep("base net", lambda: net_at(place))


def after(place: Place, defense: str, iterations: int) -> nn.Module:
    """The net after so many iterations of a defence at a place; 0 is the undefended net."""
    if iterations == 0:
        return base_net(place)
    return results.net_of({"kind": "iterated", "defense": defense, "iterations": iterations, **place.spec}, place)


def elsewhere(spec: Spec) -> dict[str, Any]:
    """The undefended net of another seed, on which attacks that transfer are made, as a spec."""
    return undefended_spec({**spec, "seed": (spec["seed"] + 1) % 3})


def trained(
    *,
    dataset: str,
    defense: str = "none",
    seed: int = 0,
    preset: str | None = None,
    net: str = "convnet",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> nn.Module:
    """A trained net, in eval mode: the kept one where there is one, else trained now, which is not kept.

    >>> from atexlib import experiments
    >>> experiments.trained(dataset="fashion-mnist", defense="atex").training
    False

    Args:
        dataset: one of `data.DATASETS`.
        defense: `none` (softplus units alone), or one of `defend.DEFENSES`.
        seed: of the initial weights, of the order of the images and of all samples.
        preset: one of PRESETS; None is the largest of which there is a net.
        net: `convnet`, the only architecture so far whose defended nets are kept.
        device: where the net shall be.
        progress: show progress bars if it must be trained.

    Raises:
        ValueError: an unknown name; preset None where there is no net; a corrupt file.
    """
    for name, value, allowed in (
        ("dataset", dataset, DATASETS),
        ("defense", defense, TREATED),
        ("net", net, ["convnet"]),
    ):
        checks.one_of(name, value, allowed)
    checks.count("seed", seed, low=0)
    if preset is None:
        preset = next(iter(committed(dataset=dataset, defense=defense, seed=seed)), None)
        if preset is None:
            size = "smoke" if dataset == "digits" else "quick"
            raise ValueError(f"no net of {dataset}, {defense}, seed {seed} is there; pass preset={size!r} to train it.")
    checks.one_of("preset", preset, PRESETS)
    spec = net_spec({"dataset": dataset, "seed": seed, "preset": preset}, defense)
    made_by = KINDS[spec["kind"]]
    path = store.find(made_by.file(spec))
    place = Place(dataset, seed, preset, str(checks.device(device)), progress)
    if path is not None:
        return results.load_net(path, made_by.build(spec)).to(device)  # type: ignore[misc]
    return made_by.make(spec, place)[0]


def committed(*, dataset: str, defense: str, seed: int) -> list[str]:
    """The presets at which there is such a net, the largest first."""
    specs = {name: net_spec({"dataset": dataset, "seed": seed, "preset": name}, defense) for name in PRESETS}
    return [name for name, spec in specs.items() if store.find(KINDS[spec["kind"]].file(spec))][::-1]
