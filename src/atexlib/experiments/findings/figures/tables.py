"""What the pages' tables have in common: a note of origin under each; verdicts; which cards the pages rest on."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from ....nets import MODELS
from .. import claims, claims_detection, claims_fooling, claims_ours, claims_predictions, report, verdicts, words

CLAIMS = claims.CLAIMS | claims_predictions.CLAIMS | claims_fooling.CLAIMS
ALL = CLAIMS | claims_detection.CLAIMS | claims_ours.CLAIMS  # with our own
OF_PAPER = ("none", "naive", "atex")  # the defences that the claims compare
OF_TABLES = (*OF_PAPER, "atex_ascent")
SENTENCE = 40  # letters: a cell that has more is read as a sentence


class Table(pd.DataFrame):
    """A table of a page, shown whole: under it what it says in words, and a note of origin.

    What is cut out of it is an ordinary table.
    """

    _metadata = ("note", "said", "labelled", "sortable")
    note: str = ""
    said: words.Said = words.Said()
    labelled: bool = True
    sortable: bool = False

    def __repr__(self) -> str:
        lines = [self.to_string(index=self.labelled), repr(self.said), self.note]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            body = self.to_html(notebook=True, index=self.labelled, classes=self._class())
        body += self.said._repr_html_()
        lines = "<br>".join(html.escape(line) for line in self.note.splitlines())
        return f'{body}\n<p class="note"><small>{lines}</small></p>' if lines else body

    def _class(self) -> str | None:
        """What the style sheet calls the table: cells with sentences in them need room on a phone."""
        worded = bool(self.map(lambda cell: len(str(cell)) > SENTENCE).any(axis=None))
        return "sortable" if self.sortable else "worded" if worded else None


def noted(
    body: object, note: str = "", said: Iterable[str] = (), *, labelled: bool = True, sortable: bool = False
) -> Table:
    """A table with a note and with sentences; `body` is what a DataFrame is made of."""
    table = Table(body)
    table.note, table.said, table.labelled, table.sortable = note, words.Said(*said), labelled, sortable
    return table


def origins(specs: Iterable[Mapping[str, Any]], metric: str | None = None) -> str:
    """The lines of origin of those specs that have a card, each once."""
    lines = [report.origin(metric=metric, **spec) for spec in specs if verdicts.found(**spec)]
    return "; ".join(dict.fromkeys(lines)) or report.MISSING


def verdict_table(*names: str, defense: str = "atex") -> Table:
    """The verdicts on the claims of these names, for one kind of ATEX where they speak of it."""
    found = report.verdict_table({name: ALL[name] for name in names}, defense)
    return noted(found, "from the cards, by the rule of the page of claims", labelled=False)


def claim_cells(name: str, *, defense: str = "atex") -> Table:
    """Every cell of a claim that was run, with its interval."""
    cells = ALL[name].cells(defense)
    known = {label: str(cell) for label, cell in cells.items() if cell is not None}
    return noted(pd.Series(known, name="difference").to_frame(), f"{len(known)} of {len(cells)} cells were run")


def cards_of_stability(
    *,
    datasets: Sequence[str] = claims.PAPER_DATA,
    attacks: Sequence[str] = claims.TABLE_ATTACKS,
    defenses: Sequence[str] = OF_PAPER,
) -> Table:
    """The origin of Tables 1 to 4, for each data set, attack and defence."""
    lines = {
        (dataset, attack, report.label(defense)): report.origin(
            kind="table", dataset=dataset, attack=attack, defense=defense, eps=claims.TABLE_EPS[-1]
        )
        for dataset in datasets
        for attack in attacks
        for defense in defenses
    }
    return noted(pd.Series(lines, name="cards").to_frame())


def cards_of_claims(*, dataset: str = claims.PAPER_DATA[0], defense: str = "atex") -> Table:
    """The origin of the other claims on images and predictions."""
    most = claims_predictions.MOST
    nets = {name: claims_predictions.maps(name, defense, most) for name in claims.PAPER_DATA}
    trained = {name: claims_predictions.efficacy(name, defense, most) for name in claims.PAPER_DATA}
    theorem = {name: {"kind": "theorem1", "dataset": name, "defense": "none"} for name in claims.PAPER_DATA}
    explained: dict[str, Any] = {
        "kind": "explainers",
        "explainer": "smoothgrad",
        "eps": claims.EXPLAINER_EPS,
        "defense": defense,
    }
    lines = {
        "T4 and T5 (time)": report.origin(kind="cost", side="28"),
        "T6 (neighbours)": report.origin(kind="variants", dataset=dataset, variant="naive: SmoothGrad target"),
        "T7 and T8 (smoother maps)": _origins("ssim max", nets),
        "T9 to T11 (adversarial training)": _origins("fgsm", trained),
        "T12 (stability)": _origins("spearman", nets),
        "T13 (other explainers)": report.origin(dataset=dataset, **explained),
        "T14 (Theorem 1)": _origins("probability", theorem),
    }
    return noted(pd.Series(lines, name="cards").to_frame())


def _origins(metric: str, specs: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(report.origin(metric=metric, **spec) for spec in specs.values())


def cards_of_fooling(*, models: Iterable[str] = MODELS) -> Table:
    """How many cells of the grid of fooled nets were run, for each net."""
    rows = {}
    for model in models:
        specs = [spec for _, spec in claims_fooling.grid(claims_fooling.LOSSES) if spec["model"] == model]
        known = [spec for spec in specs if verdicts.found(**spec)]
        rows[model] = f"{len(known)} of {len(specs)} cells{report.seeds(known)}"
    return noted(pd.Series(rows, name="cards").to_frame())


def legend(ax: Axes, **options: Any) -> None:
    """A legend, if there is anything to name."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**options)


def treated(defenses: Sequence[str] | None) -> list[str]:
    """These defences, or those of Tables 1 to 4."""
    return list(OF_TABLES if defenses is None else defenses)
