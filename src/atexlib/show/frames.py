"""Figures with controls: every combination is drawn beforehand, so that a page needs no kernel and no network.

The controls are the browser's own sliders and lists: they work by keyboard, and a screen reader speaks their values.
Without JavaScript the first picture stands there, with its text.
"""

import base64
import hashlib
import html
import itertools
import json
import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from tqdm import tqdm

from .. import checks
from . import plotting

LIMIT = 1_000_000  # bytes; a page shall stay light
PAGE = string.Template("""<figure class="frames" id="$id" style="margin: 1rem 0">
<div class="frames-controls" hidden>$controls</div>
<img src="$src" alt="$alt" style="display: block; max-width: 100%">
<output style="display: block; min-height: 3em">$text</output>
<figcaption>$caption</figcaption>
<script type="application/json">$frames</script>
<script>
(() => {
  const box = document.getElementById("$id");
  const frames = JSON.parse(box.querySelector("script").textContent);
  const inputs = [...box.querySelectorAll("input, select")];
  const show = () => {
    const frame = frames[inputs.reduce((at, input) => at * input.dataset.count + Number(input.value), 0)];
    Object.assign(box.querySelector("img"), {src: frame.src, alt: frame.alt});
    box.querySelector("output").textContent = frame.text;
    inputs.filter((input) => input.list).forEach((input) => {
      const label = input.list.options[input.value].label;
      input.setAttribute("aria-valuetext", label);
      input.nextElementSibling.textContent = label;
    });
  };
  inputs.forEach((input) => input.addEventListener("input", show));
  box.querySelector(".frames-controls").hidden = false;
  show();
})();
</script>
</figure>""")


SLIDER = string.Template(
    '<label>$name <input type="range" min="0" max="$last" value="$at" data-count="$count" list="$id">'
    ' <span class="frames-value">$shown</span></label><datalist id="$id">$options</datalist>'
)

CHOICE = string.Template('<label>$name <select data-count="$count">$options</select></label>')


@dataclass(frozen=True)
class Frames:
    """Pictures, one for each combination of the controls' values; a notebook shows it as a figure with controls.

    >>> from atexlib import show
    >>> show.Frames({"beta": ["1", "10"]}, frozenset(["beta"]), [0], [b"", b""], ["", ""], "A bar.", "A bar.")
    2 pictures by beta: 1, 10
    """

    controls: Mapping[str, Sequence[str]]
    sliders: frozenset[str]
    start: Sequence[int]
    pictures: Sequence[bytes]
    texts: Sequence[str]
    alt: str
    caption: str

    def __repr__(self) -> str:
        values = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in self.controls.items())
        return f"{len(self.pictures)} pictures by {values}"

    def _repr_html_(self) -> str:
        name = "frames-" + hashlib.sha256(b"".join(self.pictures)).hexdigest()[:12]
        encoded = (base64.b64encode(picture).decode() for picture in self.pictures)
        frames = [
            {"src": f"data:image/webp;base64,{data}", "alt": f"{self.alt} {text}", "text": text}
            for data, text in zip(encoded, self.texts, strict=True)
        ]
        at = 0
        for labels, index in zip(self.controls.values(), self.start, strict=True):
            at = at * len(labels) + index
        return PAGE.substitute(
            id=name,
            controls="\n".join(self._control(name, number) for number in range(len(self.controls))),
            src=frames[at]["src"],
            alt=html.escape(frames[at]["alt"]),
            text=html.escape(frames[at]["text"]),
            caption=html.escape(self.caption),
            frames=json.dumps(frames).replace("</", "<\\/"),
        )

    def _control(self, place: str, number: int) -> str:
        name, labels = list(self.controls.items())[number]
        at, escaped = self.start[number], [html.escape(label) for label in labels]
        common = {"name": html.escape(name), "count": len(labels)}
        if name not in self.sliders:
            marks = ["" if i != at else " selected" for i in range(len(labels))]
            pairs = enumerate(zip(marks, escaped, strict=True))
            options = "".join(f'<option value="{i}"{mark}>{label}</option>' for i, (mark, label) in pairs)
            return CHOICE.substitute(options=options, **common)
        options = "".join(f'<option value="{i}" label="{label}">' for i, label in enumerate(escaped))
        where = {"id": f"{place}-{number}", "at": at, "last": len(labels) - 1, "shown": escaped[at]}
        return SLIDER.substitute(options=options, **where, **common)


def frames(
    controls: Mapping[str, Sequence[float] | Sequence[str]],
    draw: Callable[..., Figure],
    say: Callable[..., str],
    *,
    alt: str,
    caption: str,
    start: Mapping[str, float | str] | None = None,
    dpi: int = 100,
    quality: int | None = None,
) -> Frames:
    """Draw a figure for every combination of the controls' values.

    >>> import matplotlib.pyplot as plt
    >>> from atexlib import show
    >>> def draw(beta):
    ...     figure, ax = plt.subplots(figsize=(1, 1))
    ...     ax.bar(0, beta)
    ...     return figure
    >>> show.frames({"beta": [1, 10]}, draw, "beta is {}".format, alt="A bar.", caption="A bar as high as beta.")
    2 pictures by beta: 1, 10

    Args:
        controls: name -> values, one control or two; numbers become a slider, texts a list to choose from.
        draw: takes one value of each control, in order, and returns a figure, which is closed; all of one size.
        say: takes the same and returns what the picture shows, in words and numbers.
        alt: what all pictures have in common; the alternative text of each is this and what `say` returns.
        caption: as under any figure.
        start: the values shown first, by name; the first of each where none is given.
        dpi: pixels an inch.
        quality: of the pictures, from 0 to 100, where they show photographs; without loss if None.

    Raises:
        ValueError: a control without two values, more than two controls, a start that is no value, pictures that
            weigh more than a megabyte together.
    """
    if not 1 <= len(controls) <= 2:
        raise ValueError(f"there are {len(controls)} controls; pass one or two.")
    for name, values in controls.items():
        if len(values) < 2:
            raise ValueError(f"the control {name!r} has {len(values)} values; pass two or more.")
    start = start or {}
    for name, value in start.items():
        checks.one_of("a control of start", name, controls)
        if value not in controls[name]:
            raise ValueError(f"start is {value!r} for {name!r}; pass one of {list(controls[name])}.")
    combinations = list(itertools.product(*controls.values()))
    pictures = [
        plotting.webp(draw(*values), dpi=dpi, quality=quality)
        for values in tqdm(combinations, desc="pictures", leave=False)
    ]
    weight = sum(map(len, pictures))
    if weight > LIMIT:
        raise ValueError(f"{len(pictures)} pictures weigh {weight} bytes; draw fewer or smaller ones: {LIMIT} at most.")
    return Frames(
        controls={name: [f"{v:g}" if _number(v) else v for v in values] for name, values in controls.items()},  # type: ignore[misc]
        sliders=frozenset(name for name, values in controls.items() if all(map(_number, values))),
        start=[list(values).index(start.get(name, values[0])) for name, values in controls.items()],
        pictures=pictures,
        texts=[say(*values) for values in combinations],
        alt=alt,
        caption=caption,
    )


def _number(value: float | str) -> bool:
    return not isinstance(value, str) and math.isfinite(value)
