"""What nbval computed is kept for the book: each notebook runs once.

nbval runs a notebook cell by cell and fails where one raises. Once all
cells of a notebook have passed, the notebook with its outputs goes into
the execution cache in the folder NOTEBOOK_CACHE, if that is set, from
which jupyter-book takes it instead of running it again.
"""

import os
import time
from pathlib import Path

import pytest
from jupyter_cache import get_cache
from jupyter_cache.cache.main import CacheBundleIn
from nbval.plugin import IPyNbCell

STARTED = pytest.StashKey[float]()
FAILED = pytest.StashKey[bool]()


def pytest_runtest_setup(item):
    """Note when the first cell of a notebook begins."""
    if isinstance(item, IPyNbCell):
        item.parent.stash.setdefault(STARTED, time.perf_counter())


def pytest_runtest_makereport(item, call):
    """Note a cell that did not pass."""
    if isinstance(item, IPyNbCell) and call.excinfo is not None:
        item.parent.stash[FAILED] = True


def pytest_runtest_teardown(item, nextitem):
    """After the last cell keep the notebook, if all of its cells passed."""
    folder = os.environ.get("NOTEBOOK_CACHE")
    if (
        not folder
        or not isinstance(item, IPyNbCell)
        or (nextitem is not None and nextitem.parent is item.parent)
    ):
        return
    notebook = item.parent
    cells = [
        other for other in item.session.items if other.parent is notebook
    ]
    code = [cell for cell in notebook.nb.cells if cell.cell_type == "code"]
    if notebook.stash.get(FAILED, False) or len(cells) < len(code):
        return
    for number, cell in enumerate(cells, 1):
        cell.cell.outputs, cell.cell.execution_count = (
            cell.test_outputs or [],
            number,
        )
        for output in cell.cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number
    seconds = time.perf_counter() - notebook.stash[STARTED]
    bundle = CacheBundleIn(
        notebook.nb,
        str(Path(notebook.fspath)),
        data={"execution_seconds": seconds},
    )
    get_cache(folder).cache_notebook_bundle(
        bundle, check_validity=False, overwrite=True
    )
