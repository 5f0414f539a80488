"""Draws the learning path `book/_static/learning-path.svg`: `python book/learning_path.py`."""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from atexlib.show import style

WIDTH, HEIGHT = 2.7, 0.62  # of a box
COLOURS = {"foundations": "#dce6f2", "changed images": "#dff0e0", "changed models": "#fbe5d0", "practice": "#ece1f3"}
# number: (title, part, column, row, chapters to read before, who can go by it alone: R researcher, A auditor)
CHAPTERS = {
    0: ("Start here", "foundations", 1, 0, (), ""),
    1: ("What is an explanation?", "foundations", 1, 1, (0,), "A"),
    2: ("Manipulating an input", "foundations", 1, 2, (1,), "RA"),
    3: ("Why it works", "foundations", 0, 3, (2,), "R"),
    4: ("Measuring change", "foundations", 1, 3, (2,), "R"),
    5: ("The naive defence", "changed images", 0, 4, (3, 4), "R"),
    6: ("ATEX", "changed images", 0, 5, (5,), "R"),
    7: ("Evaluating a defence", "changed images", 1, 6, (4, 6), "RA"),
    8: ("Smoother maps?", "changed images", 0, 6, (6,), "RA"),
    9: ("Adversarial training", "changed images", 0, 7, (8,), "R"),
    10: ("Passive fooling", "changed models", 2, 4, (4,), "RA"),
    11: ("Active fooling", "changed models", 2, 5, (10,), "RA"),
    12: ("Transfer and repair", "changed models", 2, 6, (6, 11), "RA"),
    13: ("Your own model", "practice", 1, 7, (7, 12), "A"),
    14: ("A real network", "practice", 2, 3, (2,), "A"),
    15: ("Detecting images", "changed images", 0, 8, (7,), "RA"),
    16: ("Was it manipulated?", "practice", 2, 7, (12,), "RA"),
    17: ("One court", "changed images", 1, 8, (7,), "R"),
}


def place(number: int) -> tuple[float, float]:
    """The middle of a chapter's box."""
    return CHAPTERS[number][2] * 3.1, -CHAPTERS[number][3] * 1.0


def main() -> None:
    """Draw a box for each chapter and an arrow for each chapter that another one needs."""
    style()
    plt.rcParams["svg.hashsalt"] = "learning path"  # the same file each time
    figure, ax = plt.subplots(figsize=(7, 6))
    for number, (title, part, *_, before, readers) in CHAPTERS.items():
        x, y = place(number)
        box = FancyBboxPatch((x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1")
        box.set(facecolor=COLOURS[part], edgecolor="#555555", zorder=2)
        ax.add_patch(box)
        ax.text(x - WIDTH / 2 + 0.1, y, f"{number}  {title}", va="center", fontsize=9, zorder=3)
        ax.text(
            x + WIDTH / 2 - 0.08, y, " ".join(readers), va="center", ha="right", fontsize=8, weight="bold", zorder=3
        )
        for other in before:
            ax.add_patch(FancyArrowPatch(*ends(other, number), arrowstyle="-|>", mutation_scale=11, color="#555555"))
    for part, colour in COLOURS.items():
        ax.plot([], [], "s", color=colour, markeredgecolor="#555555", markersize=10, label=part)
    ax.legend(loc="upper right", fontsize=9, frameon=False)
    ax.set(xlim=(-1.5, 7.7), ylim=(-8.4, 0.4))
    ax.axis("off")
    figure.savefig(Path(__file__).parent / "_static" / "learning-path.svg", metadata={"Date": None})


def ends(before: int, after: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves one box and meets the next: below and above, or side by side in one row."""
    (x, y), (u, v) = place(before), place(after)
    if y == v:
        side = WIDTH / 2 if u > x else -WIDTH / 2
        return (x + side, y), (u - side, v)
    return (x, y - HEIGHT / 2), (u, v + HEIGHT / 2)


if __name__ == "__main__":
    main()
