"""Draws the rooms of the library, `book/_static/house.svg`, from its imports: `python book/house.py`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from atexlib.show import style

SOURCES = Path(__file__).parents[1] / "src/atexlib"
PICTURE = Path(__file__).parent / "_static" / "house.svg"
# The rooms of each floor, the lowest first, with a word on each.
FLOORS = {
    "checks": {"checks": "of arguments", "files": "all or nothing"},
    "things": {"nets": "and training", "data": "sets, canvases", "maps": "without a net", "show": "figures"},
    "explain": {"explain": "six explainers"},
    "attack": {"attack": "inputs, models, predictions"},
    "answer": {"defend": "naive, ATEX, adversarial", "detect": "changed inputs", "judge": "audit, stability"},
    "experiments": {
        "experiments.engine": "kinds, versions",
        "experiments.subjects": "nets, attacks",
        "experiments.kinds": "of cards",
        "experiments.findings": "claims, pages",
    },
    "use": {"chapters": "first cells", "__main__": "command line"},
}
ROOMS = {room: (floor, place) for floor, rooms in enumerate(FLOORS.values()) for place, room in enumerate(rooms)}
WIDTH, HEIGHT, STEP = 1.9, 0.62, 1.15


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The modules of the library that a file imports, each with the names taken from it."""
    inside = path.relative_to(SOURCES).with_suffix("").parts
    package = list(inside[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.ImportFrom) and node.level):
            continue
        base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            inner = [*base, alias.name]
            is_module = (SOURCES.joinpath(*inner)).is_dir() or SOURCES.joinpath(*inner).with_suffix(".py").exists()
            yield ".".join(inner if is_module else base), alias.name


def module_of(path: Path) -> str:
    """A file's name as a module, without the library's own."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """The room that a module is in; None for the faces above several rooms."""
    return next((room for room in ROOMS if module == room or module.startswith(f"{room}.")), None)


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second; that every room imports `checks` is left out."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        own = room_of(module_of(path))
        found |= {(own, room_of(module)) for module, _ in imports(path)}
    return {(a, b) for a, b in found if a and b and a != b and b != "checks"}


def middle(room: str) -> tuple[float, float]:
    """Where a room stands: its floor's rooms side by side, centred."""
    floor, place = ROOMS[room]
    count = sum(other == floor for other, _ in ROOMS.values())
    return (place - (count - 1) / 2) * (WIDTH + 0.35), floor * STEP


def main() -> None:
    """Draw a box for each room and an arrow from each to those it imports from."""
    style()
    plt.rcParams["svg.hashsalt"] = "house"  # the same file each time
    figure, ax = plt.subplots(figsize=(8.5, 7))
    for above, below in sorted(arrows()):
        (x, y), (u, v) = middle(above), middle(below)
        level = abs(y - v) < STEP / 2
        start, end = ((x, y - HEIGHT / 2), (u, v + HEIGHT / 2)) if not level else ((x, y), (u, v))
        bend = "arc3,rad=0.35" if level else "arc3,rad=0.05"
        arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color="#8a8a8a", lw=0.8)
        arrow.set(connectionstyle=bend, zorder=1, gid=f"{above}->{below}")
        ax.add_patch(arrow)
    for floor, rooms in enumerate(FLOORS.values()):
        for room, word in rooms.items():
            x, y = middle(room)
            box = FancyBboxPatch(
                (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1"
            )
            box.set(facecolor=plt.get_cmap("Blues")(0.12 + 0.06 * floor), edgecolor="#555555", zorder=2)
            ax.add_patch(box)
            ax.text(x, y + 0.1, room, ha="center", va="center", fontsize=9, weight="bold", zorder=3)
            ax.text(x, y - 0.15, word, ha="center", va="center", fontsize=7.5, zorder=3)
    ax.set(xlim=(-4.8, 4.8), ylim=(-0.6, 6 * STEP + 0.6))
    ax.axis("off")
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
