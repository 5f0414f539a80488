"""What was found, in a small vocabulary: sentences from intervals, and the box "What we found" that holds them."""

import html

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
