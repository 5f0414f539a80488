"""What was found, in a small vocabulary: sentences from intervals, and the box "What we found" that holds them."""

import html
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from ...maps.intervals import Interval, bootstrap

TITLE = "What we found"


class Box:
    """Sentences under the title "What we found", with a note of where they come from; drawn as a box on a page.

    >>> from atexlib.experiments.findings import words
    >>> words.Box(["ATEX lies above none."], "one seed")
    What we found
    - ATEX lies above none.
    (one seed)
    """

    def __init__(self, sentences: list[str], note: str = "") -> None:
        self.sentences, self.note = sentences, note

    def __repr__(self) -> str:
        lines = [TITLE, *(f"- {sentence}" for sentence in self.sentences)]
        return "\n".join(lines + [f"({self.note})"] * bool(self.note))

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in self.sentences)
        note = f"<p><small>{html.escape(self.note)}</small></p>" if self.note else ""
        title = f'<p class="admonition-title">{TITLE}</p>'
        return f'<div class="admonition note">{title}<ul>{items}</ul>{note}</div>'


def box(*sentences: str, note: str = "") -> Box:
    """The box of some sentences."""
    return Box(list(sentences), note)


class Said:
    """Sentences made from the cards that stand under a figure or a table; a paragraph on a page.

    >>> from atexlib.experiments.findings import words
    >>> words.Said("ATEX lies above none.")
    ATEX lies above none.
    """

    def __init__(self, *sentences: str) -> None:
        self.sentences = sentences

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        return f'<p class="said">{"<br>".join(map(html.escape, self.sentences))}</p>' if self.sentences else ""


def compared(
    measure: str, first: str, second: str, difference: Interval | Tensor | None, *, lost: Interval | None = None
) -> str:
    """Which of two is larger by a measure, or that no difference is told, and what accuracy the first one lost.

    >>> from atexlib.experiments.findings import words
    >>> from atexlib.maps.intervals import Interval
    >>> words.compared("Spearman", "ATEX", "none", Interval(0.2, 0.1, 0.3))
    'Spearman: ATEX lies above none, by 0.200 [0.100, 0.300].'
    >>> words.compared("Spearman", "ATEX", "none", Interval(0.1, -0.1, 0.3))
    'Spearman: no difference between ATEX and none is told, 0.100 [-0.100, 0.300].'

    Args:
        measure: the name of the measure.
        first: the name of what is compared.
        second: the name of what it is compared with.
        difference: first minus second: an interval, or a number for each image (nan where there is none).
        lost: the accuracy that the first one lost, as a share.
    """
    if isinstance(difference, Tensor):
        difference = bootstrap(difference[~difference.isnan()])
    if difference is None:
        return f"{measure}, {first} against {second}: not run."
    if difference.low > 0:
        said = f"{measure}: {first} lies above {second}, by {difference}"
    elif difference.high < 0:
        fall = Interval(-difference.mean, -difference.high, -difference.low)
        said = f"{measure}: {first} lies below {second}, by {fall}"
    else:
        said = f"{measure}: no difference between {first} and {second} is told, {difference}"
    return f"{said}{'' if lost is None else f'; {price(lost)}'}."


def price(lost: Interval) -> str:
    """The price in points of accuracy.

    >>> from atexlib.experiments.findings import words
    >>> from atexlib.maps.intervals import Interval
    >>> words.price(Interval(0.01, 0.005, 0.015))
    'at the price of 1.00 [0.50, 1.50] points of accuracy'
    """
    low, high = 100 * lost.low, 100 * lost.high
    points = f"{100 * lost.mean:.2f}" if lost.low == lost.high else f"{100 * lost.mean:.2f} [{low:.2f}, {high:.2f}]"
    if lost.low in (lost.mean, float("-inf")):
        return f"{100 * lost.mean:.2f} points of accuracy lost, one net"
    return f"at the price of {points} points of accuracy" if lost.low > 0 else f"no price is told, {points} points"


def level(measure: str, name: str, value: Interval | Tensor | None) -> str:
    """What a measure is on average, with its interval.

    >>> from atexlib.experiments.findings import words
    >>> from atexlib.maps.intervals import Interval
    >>> words.level("Spearman", "noise", Interval(0.2, 0.1, 0.3))
    'Spearman of noise: 0.200 [0.100, 0.300].'
    """
    if isinstance(value, Tensor):
        value = bootstrap(value[~value.isnan()])
    return f"{measure} of {name}: {'not run' if value is None else value}."


def counted(measure: str, first: str, second: str, differences: Iterable[Interval | None]) -> str:
    """In how many cells the first of two lies above the second by a measure, or below it, and how far apart they are.

    >>> from atexlib.experiments.findings import words
    >>> from atexlib.maps.intervals import Interval
    >>> words.counted("Spearman", "ATEX", "none", [Interval(0.2, 0.1, 0.3), Interval(0.1, 0.05, 0.15)])
    'Spearman: ATEX lies above none in 2 of 2 cells, by 0.100 to 0.200.'
    >>> words.counted("Spearman", "ATEX", "none", [Interval(0.2, 0.1, 0.3), Interval(0.1, -0.1, 0.3)])
    'Spearman: ATEX lies above none in 1 of 2 cells; in 1 no difference is told. The effects go from 0.100 to 0.200.'

    Args:
        measure: the name of the measure.
        first: the name of what is compared.
        second: the name of what it is compared with.
        differences: first minus second, for each cell; those of None were not run and are left out.
    """
    cells = [cell for cell in differences if cell is not None]
    if not cells:
        return f"{measure}, {first} against {second}: not run."
    if len(cells) == 1:
        return compared(measure, first, second, cells[0])
    above, below = sum(cell.low > 0 for cell in cells), sum(cell.high < 0 for cell in cells)
    low, high = min(cell.mean for cell in cells), max(cell.mean for cell in cells)
    if len(cells) in (above, below):
        word, low, high = ("above", low, high) if above else ("below", -high, -low)
        where = f"{len(cells)} of {len(cells)} cells"
        return f"{measure}: {first} lies {word} {second} in {where}, by {low:.3f} to {high:.3f}."
    parts = [f"{word} {second} in {count}" for word, count in (("above", above), ("below", below)) if count]
    told = f"{first} lies {' and '.join(parts)} of {len(cells)} cells" if parts else ""
    rest = len(cells) - above - below
    if rest == len(cells):
        untold = f"no difference between {first} and {second} is told in any of {rest} cells"
    else:
        untold = f"in {rest} no difference is told" if rest else ""
    said = "; ".join(part for part in (told, untold) if part)
    return f"{measure}: {said}. The effects go from {low:.3f} to {high:.3f}."


def ends(measure: str, values: Mapping[str, Interval | float | None], *, decimals: int = 3) -> str:
    """Where a measure is highest and where it is lowest.

    >>> from atexlib.experiments.findings import words
    >>> words.ends("Spearman", {"ATEX": 0.3, "none": 0.1, "naive": 0.6, "own": None})
    'Spearman is highest for naive, 0.600, and lowest for none, 0.100.'
    """
    known = {name: getattr(value, "mean", value) for name, value in values.items() if value is not None}
    if not known:
        return f"{measure}: not run."
    high, low = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    most, least = (f"{known[name]:.{decimals}f}" for name in (high, low))
    if most == least:
        return f"{measure} is {most} for {'all of them' if len(known) > 2 else ' and '.join(known)}."
    return f"{measure} is highest for {high}, {most}, and lowest for {low}, {least}."


def leads(columns: Mapping[str, Mapping[str, Interval | float | None]]) -> str:
    """Which row has the highest mean in how many columns; nothing is said of how sure that is.

    >>> from atexlib.experiments.findings import words
    >>> words.leads({"eps 0.05": {"ATEX": 0.3, "none": 0.1}, "eps 0.1": {"ATEX": 0.2, "none": 0.1}})
    'The highest mean: ATEX in 2 of 2 columns.'
    """
    first = Counter()  # type: Counter[str]
    for column in columns.values():
        known = {name: getattr(value, "mean", value) for name, value in column.items() if value is not None}
        if known:
            first[max(known, key=known.__getitem__)] += 1
    total = sum(first.values())
    parts = [f"{name} in {count}" for name, count in first.most_common()]
    return f"The highest mean: {', '.join(parts)} of {total} columns." if parts else "Nothing was run."
