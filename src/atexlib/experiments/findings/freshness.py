"""Which results are fresh and which are stale: tables for the status page, and a badge for a chapter."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import pandas as pd

from ... import checks
from ..engine.kinds import KINDS
from ..engine.results import Entry, status

STALE_NAMED = 3  # a badge names no more changes than this


def table(entries: Iterable[Entry]) -> pd.DataFrame:
    """Every result in a row: preset, seed, device, date, wall time, and fresh or stale since which change."""
    rows = {
        entry.name: {
            "preset": entry.preset,
            "seed": entry.seed,
            "device": entry.device,
            "date": entry.date and f"{entry.date:%Y-%m-%d %H:%M}",
            "seconds": entry.seconds,
            "state": entry.state,
        }
        for entry in entries
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("result")


def summary(entries: Iterable[Entry]) -> pd.DataFrame:
    """One row for each kind of result: how many, how many stale, presets, seeds, devices, dates and hours."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.kind, []).append(entry)
    return pd.DataFrame.from_dict({kind: _line(group) for kind, group in groups.items()}, orient="index").rename_axis(
        "kind"
    )


def _line(group: list[Entry]) -> dict[str, Any]:
    known = [entry for entry in group if entry.date is not None]
    line: dict[str, Any] = {"results": len(group), "stale": sum(bool(entry.stale_since) for entry in group)}
    for column in ("preset", "seed", "device"):
        line[column] = ", ".join(map(str, sorted({getattr(entry, column) for entry in known})))
    if known:
        line["made"] = " to ".join(
            sorted({f"{pick(cast('datetime', entry.date) for entry in known):%Y-%m-%d}" for pick in (min, max)})
        )
        line["hours"] = f"{sum(cast('float', entry.seconds) for entry in known) / 3600:.1f}"
    return line


@dataclass(frozen=True)
class Badge:
    """A line that says whether a chapter's numbers are up to date; a notebook shows it in colour."""

    text: str
    fresh: bool

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        kind = "fresh" if self.fresh else "stale"
        return f'<span class="results-badge results-{kind}">{html.escape(self.text)}</span>'


def badge(*kinds: str) -> Badge:
    """Whether the results of some kinds are fresh; put it at the top of a chapter that reads them.

    Raises:
        ValueError: an unknown kind.
    """
    for name in kinds:
        checks.one_of("kind", name, KINDS)
    entries = list(status(*kinds))
    stale = [entry for entry in entries if entry.stale_since]
    if not entries:
        return Badge("Result cards: none yet", fresh=False)
    if not stale:
        return Badge(f"Result cards: {len(entries)}, all fresh", fresh=True)
    since = sorted({change for entry in stale for change in entry.stale_since})
    words = ", ".join(since[:STALE_NAMED]) + (", ..." if len(since) > STALE_NAMED else "")
    return Badge(f"Result cards: {len(entries)}, {len(stale)} stale since a change of {words}", fresh=False)
