"""Draws the cover picture `book/_static/cover.png` from scikit-learn's digits: `python book/cover.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from atexlib import data, nets, show
from atexlib.attack import Distance, manipulate

EPS = 0.15


def main() -> None:
    """Train on digits, manipulate the first test image that the net gets right, draw it with its two maps."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    generator = torch.Generator().manual_seed(0)
    net = nets.ConvNet(generator=generator)
    net = nets.fit(
        net, (train.images, train.labels), epochs=60, batch_size=20, lr=2e-3, generator=generator, progress=True
    ).model
    right = nets.predict(net, test.images).argmax(1) == test.labels
    image = test.images[right][:1]
    attack = manipulate(net, image, Distance(), eps=EPS, starts=5, progress=True)
    columns = [
        show.Column("a digit", image),
        show.Column("its explanation", attack.clean_map, "size"),
        show.Column("the digit, changed", attack.x),
        show.Column("its explanation", attack.map, "size"),
    ]
    name = test.classes[attack.target[0]]
    show.style()
    note = f"scikit-learn's digits, ConvNet, seed 0, every pixel changed by at most {EPS}; predicted both times: {name}"
    show.gallery(columns, note=note, side=2)
    plt.savefig(Path(__file__).parent / "_static" / "cover.png", dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
