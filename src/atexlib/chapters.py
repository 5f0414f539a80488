"""What a chapter's first cells ask for: parameters that are checked, a data set, a trained net and the test images.

And how an exercise's answer is judged, and what a teacher deals out: nets under numbers, and a key.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import attack, checks, data, experiments
from .data import ImageSet
from .experiments import PRESETS, Place, Preset
from .experiments.subjects import nets
from .nets import ConvNet, accuracy

# The lies of the blind challenge, as in Chapter 10: keywords of `attack.fool`.
LIES: tuple[dict[str, Any], ...] = (
    {"explainer": "grad_cam", "loss": "location", "weight": 5.0},
    {"explainer": "gradient", "loss": "center_mass", "weight": 0.2},
    {"explainer": "lrp", "layer": "conv1", "loss": "center_mass", "weight": 0.2},
)


@dataclass(frozen=True)
class Setting:
    """The data, net and sizes that a chapter works with, and a line that states them."""

    test: ImageSet
    model: nn.Module
    place: Place
    committed: str | None
    """The preset of the committed net that was read; None if the net was trained now."""

    @property
    def size(self) -> Preset:
        """The sizes of the chapter's preset."""
        return self.place.size

    @property
    def seed(self) -> int:
        """The chapter's seed."""
        return self.place.seed

    @property
    def device(self) -> str:
        """Where the net and the images are."""
        return self.place.device

    @property
    def images(self) -> Tensor:
        """The first test images, as many as the preset says, on the device."""
        return self.test.images[: self.size.images].to(self.device)

    @property
    def labels(self) -> Tensor:
        """Their labels."""
        return self.test.labels[: self.size.images].to(self.device)

    @property
    def note(self) -> str:
        """Data set, preset, net, seed and device, for the foot of a figure."""
        title = data.DATASETS[self.test.name].title
        device = torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device
        net = f"trained at preset {self.committed or self.size.name}, seed {self.seed}"
        return f"{title}, test images; preset {self.size.name}; net: {net}; {device}"

    @property
    def effort(self) -> dict[str, Any]:
        """How hard to attack, as keywords of `manipulate` (steps, starts and a new generator)."""
        return {"steps": self.size.steps, "starts": self.size.starts, "generator": self.generator()}

    def defended(self, defense: str) -> nn.Module:
        """This net with a defence: the committed one if both are, else trained now from it at the preset's size."""
        checks.one_of("defense", defense, nets.DEFENSES)
        where: dict[str, Any] = {"dataset": self.test.name, "seed": self.seed}
        if self.committed and self.committed in nets.committed(defense=defense, **where):
            return experiments.trained(defense=defense, preset=self.committed, device=self.device, **where)
        return nets.defend(self.model, defense, nets.DEFENSES[defense].settings, self.place)

    def generator(self) -> torch.Generator:
        """A new generator with the chapter's seed."""
        return self.place.generator()


def begin(
    *, preset: str, dataset: str, device: str | torch.device, seed: int, recompute: bool | str = False
) -> Setting:
    """Check a chapter's parameters, then load its test images and its net.

    >>> from atexlib import chapters
    >>> lab = chapters.begin(preset="smoke", dataset="digits", device="cpu", seed=0)
    >>> tuple(lab.images.shape)
    (24, 1, 28, 28)

    Args:
        preset: one of `experiments.PRESETS`.
        dataset: one of `data.DATASETS`, or `auto`: Fashion-MNIST if it is on disk or can be downloaded, else digits at
            the preset `smoke`, said aloud.
        device: as torch names it, such as `cpu`, `cuda:1` or `mps`, or `auto`: a GPU if there is one.
        seed: of the net and of every random draw.
        recompute: train the net at the preset's size even if a committed one could be read; True
            or False, or what settings say for it: `1`, `yes`, `true`, `on`, or their opposites.

    Raises:
        ValueError: a parameter that is not one of those.
    """
    checks.one_of("preset", preset, PRESETS)
    checks.one_of("dataset", dataset, ("auto", *data.DATASETS))
    checks.count("seed", seed, low=0)
    recompute = checks.switch("recompute", recompute)
    device = str(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checks.device(device)
    if dataset == "auto":
        preset, dataset = _choose(preset)
    place, test = Place(dataset, seed, preset, device, progress=True), data.load(dataset, "test")
    committed = None if recompute else _committed(dataset, seed)
    if committed is None:
        model = nets.undefended({"dataset": dataset, "seed": seed, "preset": preset}, place)[0]
    else:
        model = experiments.trained(dataset=dataset, seed=seed, preset=committed, device=device)
    return Setting(test, model, place, committed)


def hint(
    answer: Callable[..., Any],
    given: tuple[Any, ...],
    known: Mapping[str, Any],
    *,
    wanted: str,
    other: str | Callable[[Tensor], str] = "that is not what was asked for",
    tolerance: float = 1e-4,
) -> str:
    """What to tell the author of an answer to an exercise; whatever the answer does, this does not stop.

    >>> import torch
    >>> from atexlib import chapters
    >>> known = {"right": torch.tensor(3.0), "that is the product": torch.tensor(2.0)}
    >>> chapters.hint(lambda a, b: a * b, (1, 2), known, wanted="a number")
    'that is the product'

    Args:
        answer: the function that was to be written.
        given: what it is called with; it gets a copy.
        known: a hint, and the value that an answer returns which deserves it; the right one first.
        wanted: what to return, in words, for an answer of another type or shape.
        other: the hint for a value that is not known, or a function that makes it from the value.
        tolerance: how far an answer may be from a known value, absolute and relative.

    Returns:
        The hint of the first known value that the answer comes near.
    """
    right = torch.as_tensor(next(iter(known.values())))
    try:
        found = answer(*copy.deepcopy(given))
    except Exception as error:
        first = str(error).partition("\n")[0]
        return f"it stops: {type(error).__name__}, {first}"
    if found is None:
        return "not attempted"
    try:
        found = torch.as_tensor(found).detach().to("cpu", right.dtype)
    except Exception:
        return f"return {wanted}"
    if found.shape != right.shape and not found.numel() == right.numel() == 1:
        return f"return {wanted}"
    found = found.reshape(right.shape)
    for text, value in known.items():
        if torch.allclose(found, torch.as_tensor(value).to(found), atol=tolerance, rtol=tolerance, equal_nan=True):
            return text
    if not found.isfinite().all():
        return "there are nan or infinite entries: what do you divide by?"
    return other if isinstance(other, str) else other(found)


def _committed(dataset: str, seed: int) -> str | None:
    """The preset at which most kinds of net are there, undefended and defended, the larger of two alike; or None."""
    have = {name: nets.committed(dataset=dataset, defense=name, seed=seed) for name in nets.TREATED}
    counts = {preset: sum(preset in presets for presets in have.values()) for preset in have["none"]}
    return max(counts, key=lambda preset: (counts[preset], list(PRESETS).index(preset)), default=None)


def _choose(preset: str) -> tuple[str, str]:
    if preset == "smoke":
        return preset, "digits"
    try:
        data.load("fashion-mnist", "test")
    except ValueError as error:
        told = re.sub(r"\S*/(?=FashionMNIST/)", "", str(error))  # no path of the machine that builds the page
        print(f"{told}\nUntil then this page shows scikit-learn's digits, at the preset smoke.")
        return "smoke", "digits"
    return preset, "fashion-mnist"


@dataclass(frozen=True)
class Deal:
    """Nets under numbers, for a blind challenge, and what they are."""

    nets: dict[int, nn.Module]
    key: dict[int, str]
    """What each net is; keep it apart from the nets."""

    def save(self, folder: str | Path, key: str | Path) -> None:
        """Write a file of weights for each net into a folder, and the key into a JSON file elsewhere."""
        folder, key = Path(folder), Path(key)
        if folder.resolve() in (key.resolve(), *key.resolve().parents):
            raise ValueError(f"key is {str(key)!r}, which lies in the folder of the nets; pass a file elsewhere.")
        folder.mkdir(parents=True, exist_ok=True)
        for number, net in self.nets.items():
            weights = {name: value.half().contiguous().cpu() for name, value in net.state_dict().items()}
            save_file(weights, folder / f"net-{number}.safetensors")
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_text(json.dumps(self.key, indent=2) + "\n", encoding="utf-8")


def deal(hand: Mapping[str, nn.Module], *, seed: int = 0) -> Deal:
    """Copies of ConvNets in a random order under the numbers from 1, and a key.

    A copy answers as its net does, up to rounding: its weights are rounded as in a kept net, and its hidden units are
    in another order, so that it cannot be told by comparing weights one by one.

    >>> from atexlib import chapters, nets
    >>> dealt = chapters.deal({"plain": nets.ConvNet(side=8), "blunt": nets.ConvNet(side=8, beta=3)})
    >>> sorted(dealt.nets), sorted(dealt.key.values())
    ([1, 2], ['blunt', 'plain'])

    Args:
        hand: the nets, by what the key shall say of them.
        seed: of the order.

    Raises:
        ValueError: no nets; one that is no ConvNet.
    """
    checks.count("seed", seed, low=0)
    if not hand:
        raise ValueError("hand is empty; pass at least one net by its name.")
    for name, net in hand.items():
        if not isinstance(net, ConvNet):
            raise ValueError(f"hand[{name!r}] is a {type(net).__name__}; pass a nets.ConvNet.")
    generator = torch.Generator().manual_seed(seed)
    names = list(hand)
    order = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
    numbered = dict(enumerate(order, 1))
    return Deal({number: _reordered(hand[name], generator) for number, name in numbered.items()}, numbered)


def _reordered(net: Any, generator: torch.Generator) -> nn.Module:
    """A copy of a ConvNet whose hidden units are in another order, with weights rounded to half precision."""
    net = copy.deepcopy(net).eval()
    side = net.fc1.in_features // net.conv2.out_channels
    with torch.no_grad():
        for layer, following, block in ((net.conv1, net.conv2, 1), (net.conv2, net.fc1, side), (net.fc1, net.fc2, 1)):
            order = torch.randperm(len(layer.weight), generator=generator).to(layer.weight.device)
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            blocks = following.weight.unflatten(1, (len(order), block))
            following.weight.copy_(blocks[:, order].flatten(1, 2))
        for weight in net.parameters():
            weight.copy_(weight.half())
    return net


def challenge(
    *,
    dataset: str = "fashion-mnist",
    preset: str | None = None,
    seed: int = 0,
    steps: int = 300,
    images: int = 5000,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Deal:
    """Nine nets to be told apart: three undefended, three defended, three fooled, dealt out under numbers.

    The first six are kept nets. The fooled ones are made now, of undefended nets, by the LIES; the key says on which
    share of the first 256 test images each lie succeeds.

    >>> from atexlib import chapters
    >>> dealt = chapters.challenge(seed=5)  # doctest: +SKIP
    >>> dealt.save("nets", "key.json")  # doctest: +SKIP

    Args:
        dataset: one of `data.DATASETS`.
        preset: of the nets; None is the largest kept for each.
        seed: of the order in which they are dealt.
        steps: of fooling.
        images: how many training images the lies may see, at most.
        device: where the nets shall be.
        progress: show progress bars.

    Raises:
        ValueError: an unknown name; a number out of range; preset None where there is no net.
    """
    checks.one_of("dataset", dataset, data.DATASETS)
    if preset is not None:
        checks.one_of("preset", preset, PRESETS)
    for name, value in {"steps": steps, "images": images}.items():
        checks.count(name, value)
    checks.count("seed", seed, low=0)
    checks.device(device)
    common: dict[str, Any] = {"dataset": dataset, "preset": preset, "device": device, "progress": progress}
    hand = {f"undefended, seed {i}": experiments.trained(seed=i, **common) for i in range(3)}
    for defense, i in (("naive", 3), ("atex", 3), ("atex", 4)):
        hand[f"defended: {defense}, seed {i}"] = experiments.trained(defense=defense, seed=i, **common)
    train = data.load(dataset, "train")
    train = train.first(min(images, len(train.labels)))
    shown = data.load(dataset, "test")
    shown = shown.first(min(256, len(shown.labels)))
    x, y = shown.images.to(device), shown.labels.to(device)
    for i, lie in zip((4, 0, 1), LIES, strict=True):
        honest = experiments.trained(seed=i, **common)
        generator = torch.Generator().manual_seed(i)
        net = attack.fool(honest, train, lr=1e-3, steps=steps, generator=generator, progress=progress, **lie).model
        judged = {name: value for name, value in lie.items() if name != "weight"}
        rate = attack.success(honest, net, x, y, **judged)["success"].float().mean().item()
        lost = accuracy(honest, x, y) - accuracy(net, x, y)
        told = f"fooled: {lie['explainer']}, {lie['loss']}, from seed {i}"
        hand[f"{told}; success {rate:.2f}, accuracy lost {lost:.3f}"] = net
    return deal(hand, seed=seed)
