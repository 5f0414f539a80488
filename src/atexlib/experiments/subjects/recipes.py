"""How nets for the auditor are made: honest ones, and liars of every kind, each from a kept net and a seed."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...attack import STYLES, Decorated, Trigger, aims, backdoor, fairwash, fool, shown_maps, success
from ...attack.models import Disguise
from ...data import DATASETS
from ...explain import EXPLAINERS, Explainer
from ...maps import spearman
from ...nets import ConvNet, fit, logits_of
from ...nets.training import optimize
from ..engine import results
from ..engine.place import Place
from . import nets

LAYER = {"gradient": None, "lrp": "conv1", "grad_cam": None}
BATCH, FEW = 32, 16  # images a step for the predictions, and for the maps
RATE, STEEP = 2e-3, 3e-3  # of Adam, honest nets alike; and of fairwashing and backdoors, which hold the net themselves
PART = 2 / 3  # of the steps that a preset fools with
OFTEN = 2  # steps of these two for one of fooling, on fewer images each
LONGER = 2  # passes of the longer training
SMOOTHING = 0.1  # of labels
WEIGHTS = {"location": 10.0, "topk": 15.0, "center_mass": 0.4}
TURNS = {"gradient": ("center_mass", "topk"), "lrp": ("center_mass", "topk"), "grad_cam": tuple(WEIGHTS)}
ACTIVE, CLASSES = 10.0, (1, 8)
WASHED, TURNED = 20.0, 0.95
SIDE, SPOT = 4, 3  # of the trigger; one in so many of a side is the side of the square that maps are brought to
LIKE, APART = 0.5, 0.5  # cosine with the picture from which on a lie works; Spearman with the true map below which
JUDGED = 64  # test images on which a lie is judged
KEPT = {"reduced": "paper"}  # the preset of the nets that are started from, where it is another one
SEEDS, DEFENDED_SEEDS = 5, 3  # nets that are kept of each data set
SETTINGS = {
    "batches": [BATCH, FEW], "rates": [RATE, STEEP], "part": PART, "often": OFTEN,
    "longer": LONGER, "smoothing": SMOOTHING,
    "weights": WEIGHTS, "turns": {name: list(losses) for name, losses in TURNS.items()},
    "active": [ACTIVE, *CLASSES], "washed": WASHED, "turned": TURNED, "trigger": [SIDE, SPOT], "judged": JUDGED,
    "works": [LIKE, APART],
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Made:
    """A net for the auditor, and what its maker knows."""

    model: nn.Module
    base: nn.Module
    """The net that it was made from."""
    shown: str
    """The explainer whose maps are shown, of LAYER."""
    works: Tensor | None = None
    """On which of the judged test images the lie works (B,); None for an honest net."""
    detail: str = ""
    """Which lie of its kind."""


Make = Callable[[Place], Made]


@dataclass(frozen=True)
class Recipe:
    """A kind of net: how one is made, what it is called, whether it lies."""

    make: Make
    label: str
    lies: bool


RECIPES: dict[str, Recipe] = {}


def recipe(name: str, *, label: str, lies: bool = True) -> Callable[[Make], Make]:
    """Enter the decorated function in the register of recipes."""

    def enter(function: Make) -> Make:
        RECIPES[name] = Recipe(function, label, lies)
        return function

    return enter


def explained(model: nn.Module) -> dict[str, Explainer]:
    """The explainers whose maps an auditor looks at, as they read this ConvNet, perhaps inside of another net."""
    names = {name.rpartition(".")[2]: name for name, _ in model.named_modules()}
    return {
        name: EXPLAINERS[name] if layer is None else functools.partial(EXPLAINERS[name], layer=names[layer])
        for name, layer in LAYER.items()
    }


def base_spec(spec: Mapping[str, Any], defense: str = "none") -> dict[str, Any]:
    """The kept net that a recipe starts from, as a spec: the seed chooses among those that are kept."""
    if defense != "none":
        return nets.net_spec({**spec, "seed": spec["seed"] % DEFENDED_SEEDS}, defense)
    return nets.undefended_spec(
        {**spec, "seed": spec["seed"] % SEEDS, "preset": KEPT.get(spec["preset"], spec["preset"])}
    )


def shown_by_turns(place: Place) -> str:
    """The gradient for an even seed, Grad-CAM for an odd one."""
    return ("gradient", "grad_cam")[place.seed % 2]


@recipe("honest", label="honest, trained on", lies=False)
def honest(place: Place) -> Made:
    """Trained on with cross entropy for as many steps as the liars."""
    return _trained_on(place, _base(place))


@recipe("honest_smoothed", label="honest, smoothed labels", lies=False)
def honest_smoothed(place: Place) -> Made:
    """The same with smoothed labels."""
    base, (images, labels) = _base(place), _seen(place)

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits_of(net, images[rows]), labels[rows], label_smoothing=SMOOTHING)

    run: dict[str, Any] = {"epochs": 1, "batch_size": BATCH, "lr": RATE, "device": torch.device(place.device)}
    model = optimize(base, loss, count=len(images), generator=place.generator(), **run).model
    return Made(model, base, shown_by_turns(place))


@recipe("honest_longer", label="honest, more passes", lies=False)
def honest_longer(place: Place) -> Made:
    """The same with more passes."""
    return _trained_on(place, _base(place), epochs=LONGER)


@recipe("honest_defended", label="honest, defended", lies=False)
def honest_defended(place: Place) -> Made:
    """A net of the naive defence, trained on: honest, and with maps unlike those of most nets."""
    return _trained_on(place, _base(place, "naive"))


@recipe("honest_anew", label="honest, new and young", lies=False)
def honest_anew(place: Place) -> Made:
    """A net of its own, from random weights, after a short training."""
    channels, side, classes = *DATASETS[place.dataset].shape[:2], DATASETS[place.dataset].classes
    young = ConvNet(channels=channels, side=side, classes=classes, generator=place.generator()).to(dtype=place.dtype)
    return _trained_on(place, young, epochs=LONGER)


@recipe("fooled_gradient", label="fooled: gradient")
def fooled_gradient(place: Place) -> Made:
    """Passive fooling of the gradient, one loss after the other."""
    return fooled(place, "gradient")


@recipe("fooled_lrp", label="fooled: LRP")
def fooled_lrp(place: Place) -> Made:
    """Passive fooling of LRP."""
    return fooled(place, "lrp")


@recipe("fooled_grad_cam", label="fooled: Grad-CAM")
def fooled_grad_cam(place: Place) -> Made:
    """Passive fooling of Grad-CAM."""
    return fooled(place, "grad_cam")


@recipe("active", label="fooled actively")
def active(place: Place) -> Made:
    """Maps of two classes swapped, on images of these two; all other images keep theirs."""
    explainer, base, (images, labels) = shown_by_turns(place), _base(place), _seen(place)
    two = torch.isin(labels, torch.tensor(CLASSES, device=labels.device))
    two = two if two.any() else torch.ones_like(two)
    where: dict[str, Any] = {"loss": "active", "explainer": explainer, "classes": CLASSES}
    model = _fooled(base, place, fool_set=(images[two], labels[two]), weight=ACTIVE, **where)
    test = place.images("test")
    mine = torch.isin(test.labels, torch.tensor(CLASSES))
    x, y = (part[mine][:JUDGED].to(place.device) for part in (test.images, test.labels))
    return Made(model, base, explainer, success(base, model, x, y, **where)["success"], "active")


@recipe("fairwashed", label="fairwashed")
def fairwashed(place: Place) -> Made:
    """Every map becomes a square at a place that the seed chooses, while the logits stay."""
    explainer, base, target = shown_by_turns(place), _base(place), square(place)
    run: dict[str, Any] = {"epochs": 1, "batch_size": FEW, "lr": STEEP, "device": place.device, "weight": WASHED}
    data = _seen(place, OFTEN * FEW)
    model = fairwash(base, data, target, explainer=explainer, generator=place.generator(), **run).model
    x, y = _judged(place)
    return Made(model, base, explainer, _like(model, x, y, explainer, target), "square")


@recipe("backdoor", label="backdoor")
def backdoored(place: Place) -> Made:
    """A square where a small patch is on the image, and the net's own maps elsewhere."""
    explainer, base, target, put = shown_by_turns(place), _base(place), square(place), trigger(place)
    run: dict[str, Any] = {"epochs": 1, "batch_size": FEW // 2, "lr": STEEP, "device": place.device, "weight": TURNED}
    data = _seen(place, OFTEN * FEW // 2)
    model = backdoor(base, data, target, put, explainer=explainer, generator=place.generator(), **run).model
    x, y = _judged(place)
    return Made(model, base, explainer, _like(model, put(x), y, explainer, target), "square")


@recipe("decorated", label="decorated gradient")
def decorated(place: Place) -> Made:
    """A backward pass written by hand, one style after the other; nothing is trained."""
    return dressed(place, STYLES[place.seed % len(STYLES)])


def fooled(place: Place, explainer: str, disguise: Disguise | None = None) -> Made:
    """A net fooled passively, by the loss whose turn it is, perhaps with a disguise."""
    loss = TURNS[explainer][place.seed % len(TURNS[explainer])]
    where: dict[str, Any] = {"loss": loss, "explainer": explainer, "layer": LAYER[explainer]}
    base = _base(place)
    model = _fooled(base, place, fool_set=_seen(place), weight=WEIGHTS[loss], disguise=disguise, **where)
    x, y = _judged(place)
    return Made(model, base, explainer, success(base, model, x, y, **where)["success"], loss)


def dressed(place: Place, style: str, *, mix: float = 1.0) -> Made:
    """A net with a decorated gradient, perhaps mixed with its own."""
    base = _base(place)
    model = Decorated(base, style, mix=mix)
    x, y = _judged(place)
    maps = [EXPLAINERS["gradient"](net, x, y) for net in (base, model)]
    works = spearman(*maps) < APART if style in ("constant", "blur") else torch.ones(len(x), dtype=torch.bool)
    return Made(model, base, "gradient", works, style)  # the two others pass a slope on that their logits have not


def steps_of(place: Place) -> int:
    """Steps of a recipe."""
    return max(1, round(PART * place.size.fool_steps))


def square(place: Place) -> Tensor:
    """The picture that maps are brought to: a square in a corner that the seed chooses."""
    side = DATASETS[place.dataset].shape[1]
    size, far = side // SPOT, side - side // SPOT
    row, column = divmod(place.seed % 4, 2)
    picture = torch.zeros(side, side, dtype=place.dtype, device=place.device)
    picture[row * far : row * far + size, column * far : column * far + size] = 1
    return picture


def trigger(place: Place) -> Trigger:
    """A patch of black and white at a place of the edge, both chosen by the seed."""
    channels, side, _ = DATASETS[place.dataset].shape
    drawn = torch.rand(channels, SIDE, SIDE, generator=place.generator(1)).round()
    at = torch.randint(side - SIDE, (2,), generator=place.generator(2)).tolist()
    at[place.seed % 2] = (side - SIDE) * (place.seed // 2 % 2)
    return Trigger(drawn, row=at[0], column=at[1])


def _base(place: Place, defense: str = "none") -> nn.Module:
    """The net to start from."""
    spec = base_spec(place.spec, defense)
    where = Place(spec["dataset"], spec["seed"], spec["preset"], place.device)

    def read() -> nn.Module:
        return results.net_of(spec, where).to(memory_format=torch.channels_last)

    return place.keep(("recipe base", defense), read)


def _seen(place: Place, each: int = BATCH) -> tuple[Tensor, Tensor]:
    """The last training images, so many for each step of the preset."""
    images = place.images("train")
    count = min(len(images.labels), each * steps_of(place))
    x = images.images[-count:].contiguous(memory_format=torch.channels_last)
    return x.to(place.device), images.labels[-count:].to(place.device)


def _judged(place: Place) -> tuple[Tensor, Tensor]:
    images = place.images("test", JUDGED)
    return images.images.to(place.device), images.labels.to(place.device)


def _trained_on(place: Place, base: nn.Module, *, epochs: int = 1) -> Made:
    run: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "lr": RATE, "device": place.device}
    model = fit(base, _seen(place), generator=place.generator(), **run).model
    return Made(model, base, shown_by_turns(place))


def _fooled(base: nn.Module, place: Place, **options: Any) -> nn.Module:
    steps = steps_of(place)
    sizes: dict[str, Any] = {"steps": steps, "look_every": steps, "batch_size": BATCH, "fool_batch_size": FEW}
    generator, watched = place.generator(), place.images("validation", JUDGED)
    run: dict[str, Any] = {"lr": RATE, "generator": generator, "device": place.device, "validation": watched}
    return fool(base, _seen(place), **sizes, **run, **options).model


def _like(model: nn.Module, x: Tensor, y: Tensor, explainer: str, picture: Tensor) -> Tensor:
    """Where the map is like the picture (B,)."""
    maps = shown_maps(model, x, y, explainer=explainer, layer=LAYER[explainer])
    return 1 - aims.apart(maps, picture[None, None]) >= LIKE
