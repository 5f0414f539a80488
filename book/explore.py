"""Writes what the pages "Beta and depth, live" and "Four measures, live" draw with: `python book/explore.py`.

The toy net of Chapter 3 with one, two and three hidden layers, the 400 points, and the colours of maps, as base64. The
file is small and committed, so that the pages show everywhere the nets that their text speaks of.
"""

import json
from pathlib import Path

import numpy as np
import torch
from live import encoded
from matplotlib import colormaps
from sklearn.datasets import make_moons
from torch import Tensor, nn

from atexlib import nets, show

FILE = Path(__file__).parent / "_static" / "explore_data.js"
DEPTHS, WIDE = (1, 2, 3), 16


def moons() -> tuple[Tensor, Tensor]:
    """The points (400, 1, 1, 2) and classes of Chapter 3."""
    points, classes = make_moons(400, noise=0.15, random_state=0)
    return torch.tensor(points, dtype=torch.float32).view(-1, 1, 1, 2), torch.tensor(classes)


def blank(depth: int) -> nn.Sequential:
    """A net of so many hidden layers that has not learned yet; with two it is that of Chapter 3."""
    layers = [nn.Linear(2, WIDE), nn.ReLU()]  # made in the order of the chapter, which draws their weights in it
    for _ in range(depth - 1):
        layers += [nn.Linear(WIDE, WIDE), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(WIDE, 2))


def trained(depth: int) -> nn.Sequential:
    """The same, trained as in Chapter 3."""
    torch.manual_seed(0)
    return nets.fit(blank(depth), moons(), epochs=60, batch_size=40, lr=0.01).model


def weights(net: nn.Module) -> str:
    """All weights in single precision: of each layer the matrix, then the bias."""
    return encoded(np.concatenate([value.numpy().ravel() for value in net.state_dict().values()]).astype("<f4"))


def colours(kind: str) -> str:
    """The 256 colours of a kind of map."""
    return encoded(colormaps[show.CMAPS[kind]](np.arange(256), bytes=True)[:, :3])


def write() -> None:
    """Train the nets, and write the file."""
    points, classes = moons()
    parts = {
        "nets": {depth: weights(trained(depth)) for depth in DEPTHS},
        "points": encoded(points.numpy().astype("<f4")),
        "classes": "".join(map(str, classes.tolist())),
        "colours": {kind: colours(kind) for kind in ("signed", "size")},
    }
    FILE.write_text(f"atexExplore.list({json.dumps(parts, indent=0)});\n")


if __name__ == "__main__":
    write()
