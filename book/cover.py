"""Draws the cover picture `book/_static/cover.png` from scikit-learn's digits: `python book/cover.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

from atexlib import data, models, plotting, training
from atexlib.input_manipulation import Distance, manipulate

EPS = 0.15


def main() -> None:
    """Train on digits, manipulate the first test image that the net gets right, draw it with its two maps."""
    train, test = data.load("digits", "train"), data.load("digits", "test")
    generator = torch.Generator().manual_seed(0)
    net = models.ConvNet(generator=generator)
    net = training.fit(
        net, train.images, train.labels, epochs=60, batch_size=20, lr=2e-3, generator=generator, progress=True
    ).model
    right = training.predict(net, test.images).argmax(1) == test.labels
    image = test.images[right][:1]
    attack = manipulate(net, image, Distance(), eps=EPS, starts=5, progress=True)
    columns = [
        plotting.Column("a digit", image),
        plotting.Column("its explanation", attack.clean_map, "size"),
        plotting.Column("the digit, changed", attack.x),
        plotting.Column("its explanation", attack.map, "size"),
    ]
    name = test.classes[attack.target[0]]
    plotting.style()
    note = f"scikit-learn's digits, ConvNet, seed 0, every pixel changed by at most {EPS}; predicted both times: {name}"
    plotting.gallery(columns, note=note, side=2)
    plt.savefig(Path(__file__).parent / "_static" / "cover.png", dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
