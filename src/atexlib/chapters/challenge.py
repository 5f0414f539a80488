"""What a teacher deals out: nets under numbers, and a key."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from .. import attack, checks, data, experiments
from ..experiments import PRESETS
from ..nets import ConvNet, accuracy

# The lies of the blind challenge, as in Chapter 10: keywords of `attack.fool`.
LIES: tuple[dict[str, Any], ...] = (
    {"explainer": "grad_cam", "loss": "location", "weight": 5.0},
    {"explainer": "gradient", "loss": "center_mass", "weight": 0.2},
    {"explainer": "lrp", "layer": "conv1", "loss": "center_mass", "weight": 0.2},
)


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
    return Deal({number: reordered(hand[name], generator) for number, name in numbered.items()}, numbered)


def reordered(net: Any, generator: torch.Generator) -> nn.Module:
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
