"""Writes what the page "The attack, live" computes with, from the committed nets: `python book/live.py [FOLDER]`.

For each net a script with its weights, as base64 of the half-precision numbers that are committed: a page on disk may
load a script, and nothing else. And an index: the names of the nets, the images, the colours of a signed map.
"""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST

from atexlib import data, experiments, show
from atexlib.experiments.subjects.nets import committed

STATIC = Path(__file__).parent / "_static"
FOLDER = STATIC / "live"  # git-ignored
DATASETS = ("fashion-mnist", "mnist")
DEFENCES = {"none": "undefended", "naive": "naive defence", "atex": "ATEX"}
# Ten images side by side, with their licence beside them, and where they stand among the test images: the first of each
# class, so that nobody chose them by what they show. `cut` makes the file.
CLOTHES, PLACES = STATIC / "fashion-mnist.webp", (19, 2, 1, 13, 6, 8, 4, 9, 18, 0)


def preset_of(dataset: str) -> str:
    """The largest preset at which all nets of a data set are kept: no net was trained for longer than another."""
    kept = [committed(dataset=dataset, defense=name, seed=0) for name in DEFENCES]
    return next(preset for preset in kept[0] if all(preset in names for names in kept))


def about(dataset: str, defense: str) -> dict[str, object]:
    """What the page says of a net."""
    classes = FashionMNIST.classes if dataset == "fashion-mnist" else list("0123456789")
    names = {"title": f"{data.DATASETS[dataset].title}, {DEFENCES[defense]}", "short": DEFENCES[defense]}
    return {"dataset": dataset, "defense": defense, "preset": preset_of(dataset), "classes": classes, **names}


def weights(net: nn.Module) -> dict[str, object]:
    """A net as `readNet` of live.js takes it."""
    state = net.state_dict()
    numbers = np.concatenate([value.half().numpy().ravel() for value in state.values()])
    shapes = {name: list(value.shape) for name, value in state.items()}
    return {"shapes": shapes, "beta": getattr(net.act1, "beta", None), "weights": encoded(numbers.astype("<f2"))}


def images() -> dict[str, dict[str, object]]:
    """The images by name: what each shows, where the library has it, and its pixels in single precision."""
    found, digits = {}, data.load("digits", "test")
    for label, (place, x) in enumerate(zip(PLACES, clothes(), strict=True)):
        found[f"fashion-{label}"] = about_image("fashion-mnist", FashionMNIST.classes[label], "fashion-mnist", place, x)
    for label in range(10):
        place = int((digits.labels == label).nonzero()[0])
        found[f"digit-{label}"] = about_image("mnist", f"digit {label}", "digits", place, digits.images[place])
    return found


def about_image(dataset: str, title: str, source: str, place: int, x: Tensor) -> dict[str, object]:
    """One image: the data set whose nets it is for, and the data set and place that it has in the library."""
    pixels = encoded(x.numpy().astype("<f4"))
    return {"dataset": dataset, "title": title, "source": source, "place": place, "x": pixels}


def clothes() -> Tensor:
    """The ten images of Fashion-MNIST (10, 1, 28, 28)."""
    with Image.open(CLOTHES) as strip:
        pixels = torch.from_numpy(np.array(strip.convert("L")))
    return pixels.unflatten(1, (10, 28)).transpose(0, 1).unsqueeze(1).float() / 255


def cut() -> None:
    """Write the ten images anew, which takes Fashion-MNIST itself."""
    strip = (255 * data.load("fashion-mnist", "test").images[list(PLACES), 0]).round().byte()
    Image.fromarray(torch.cat(list(strip), dim=1).numpy()).save(CLOTHES, lossless=True, method=6)


def encoded(numbers: np.ndarray) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(numbers.tobytes()).decode()


def write(folder: Path = FOLDER) -> None:
    """Write all scripts into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = {f"{dataset}-{defense}": about(dataset, defense) for dataset in DATASETS for defense in DEFENCES}
    for name, net in listed.items():
        model = experiments.trained(**{key: net[key] for key in ("dataset", "defense", "preset")}, seed=0)
        folder.joinpath(f"{name}.js").write_text(f'atexLive.keep("{name}", {json.dumps(weights(model))});\n')
    colours = encoded(colormaps[show.CMAPS["signed"]](np.arange(256), bytes=True)[:, :3])
    index = json.dumps({"nets": listed, "images": images(), "colours": colours})
    folder.joinpath("index.js").write_text(f"atexLive.list({index});\n")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
