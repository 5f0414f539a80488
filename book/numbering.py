"""Figures, tables and equations are numbered by chapter, as 7.3: the chapters' own numbers begin at 0.

Sphinx numbers a book's chapters from 1 by their place, or does not number by chapter at all. So what it counted is
counted anew here, once all pages are read.
"""

import re
from collections import Counter
from typing import Any

CHAPTER = re.compile(r"notebooks/(solutions/)?(\d+)_")


def by_chapter(_app: Any, env: Any) -> None:
    """Give each number its chapter; `S7.1` in solutions; one count for all other pages."""
    elsewhere: Counter[str] = Counter()
    for page, kinds in env.toc_fignumbers.items():
        found = CHAPTER.match(page)
        for kind, numbers in kinds.items():
            for place, name in enumerate(numbers, 1):
                elsewhere[kind] += found is None
                chapter = (f"{'S' if found[1] else ''}{int(found[2])}", place) if found else (elsewhere[kind],)
                numbers[name] = chapter


def setup(app: Any) -> dict[str, bool]:
    """Enter it in Sphinx."""
    app.connect("env-check-consistency", by_chapter)  # the first event after the count of Sphinx
    return {"parallel_read_safe": True, "parallel_write_safe": True}
