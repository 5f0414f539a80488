"""Forges the explanation of a photograph and draws the cover from it: `python book/cover.py`.

Writes into `book/_static` the changed photograph (`cover_changed.webp`, without loss), what was measured on it
(`cover.json`), and the picture (`cover.webp`). All of it is measured after rounding to 8 bits, on what is in the file.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

import atexlib
from atexlib import data, explain, nets, show
from atexlib.attack import TargetMap, manipulate

STATIC = Path(__file__).parent / "_static"
CHANGED, RECORD, PICTURE = (STATIC / name for name in ("cover_changed.webp", "cover.json", "cover.webp"))
NAME = "chelsea"  # CC0
LEVELS, STEPS = 1, 20  # of 255, by which a channel may change; steps of the attack
PLACE, WIDTH = (194.0, 194.0), 40.0  # of the spot that the map shall show, in pixels


def wanted() -> Tensor:
    """The map to forge: a round spot in the lower right corner, where little of the cat is."""
    at = torch.arange(224.0)
    down, across = at[:, None] - PLACE[0], at[None, :] - PLACE[1]
    return torch.exp(-(down**2 + across**2) / (2 * WIDTH**2))[None, None]


def photograph() -> Tensor:
    """The photograph (1, 3, 224, 224), whose values are whole 255ths."""
    return data.photographs(names=[NAME]).images


def changed() -> Tensor:
    """The changed photograph that was written."""
    with Image.open(CHANGED) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 255


def forge() -> None:
    """Change the photograph, and write it with 8 bits."""
    net, x = nets.efficientnet_lite0(pretrained=True), photograph()
    found = manipulate(
        net, x, TargetMap(wanted()), explainer="grad_cam", eps=LEVELS / 255, steps=STEPS, progress=True
    ).x
    pixels = (255 * found[0]).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(CHANGED, lossless=True, method=6)


def measure() -> tuple[dict, Tensor]:
    """What the files hold: numbers before and after, and the two maps (2, 1, 224, 224)."""
    net, both = nets.efficientnet_lite0(pretrained=True), torch.cat([photograph(), changed()])
    chances = nets.predict(net, both).softmax(1)
    top, labels = chances.max(1)
    classes = data.photographs(names=[NAME]).classes
    maps = explain.grad_cam(net, both, labels[:1].expand(2))
    steps = (255 * (both[1] - both[0])).round()
    record = {
        "photograph": NAME,
        "author": data.PHOTOGRAPHS[NAME].author,
        "license": data.PHOTOGRAPHS[NAME].license,
        "net": "EfficientNet-Lite0",
        "explainer": "Grad-CAM",
        "layer": str(explain.reading(net, both)),
        "steps": STEPS,
        "largest_change_of_255": int(steps.abs().max()),
        "channels_changed": round((steps != 0).float().mean().item(), 3),
        "labels": labels.tolist(),
        "classes": [classes[label] for label in labels],
        "probabilities": [round(chance, 3) for chance in top.tolist()],
        "correlations_with_the_wanted_map": [round(value, 3) for value in TargetMap(wanted())(maps)(maps).tolist()],
        "atexlib": atexlib.__version__,
        "torch": str(torch.__version__),
    }
    return record, maps


def overlay(image: Tensor, heat: Tensor) -> Tensor:
    """A map (1, H, W) in colours over the photograph (3, H, W) in grey: the larger, the less is seen of it."""
    heat = (heat / heat.max()).clamp(0, 1)
    colours = torch.from_numpy(plt.get_cmap("inferno")(heat[0].numpy())[..., :3]).float().permute(2, 0, 1)
    weight = 0.35 + 0.4 * heat
    return (1 - weight) * image.mean(0, keepdim=True) + weight * colours


def draw(record: dict, maps: Tensor) -> None:
    """The photograph and its explanation, both again after the change, and the difference."""
    before, after = photograph()[0], changed()[0]
    times = 127 / LEVELS
    said = [
        f"“{name}”, {100 * chance:.0f} %"
        for name, chance in zip(record["classes"], record["probabilities"], strict=True)
    ]
    pictures = [
        ("a photograph", before, said[0]),
        ("its explanation", overlay(before, maps[0]), "the cat's face"),
        (f"changed by at most {LEVELS}/255", after, said[1]),
        ("its explanation", overlay(after, maps[1]), "the attacker's corner"),
        ("the difference", 0.5 + times * (after - before), f"enlarged {times:.0f} times"),
    ]
    show.style()
    figure, axes = plt.subplots(1, len(pictures), figsize=(11.5, 2.9))
    for ax, (title, picture, below) in zip(axes, pictures, strict=True):
        show.show(ax, picture)
        ax.set_title(title, fontsize=11)
        ax.set_xlabel(below, fontsize=11)
    figure.savefig(PICTURE, dpi=130, bbox_inches="tight", pil_kwargs={"quality": 88, "method": 6})


def main() -> None:
    """Forge, measure, write, draw."""
    forge()
    record, maps = measure()
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    draw(record, maps)


if __name__ == "__main__":
    main()
