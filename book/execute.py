"""Run every notebook that is not in the book's execution cache yet, several at a time.

    python book/execute.py CACHE [WORKERS]

jupyter-book runs notebooks one after the other. What fails here it runs again, and reports.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
TIMEOUT = 900  # seconds a cell, as in _config.yml


def execute(cache: str, path: Path) -> None:
    """Run one notebook of the project and keep its outputs."""
    load_executor("local-serial", get_cache(cache)).run_and_cache(filter_uris=[str(path)], timeout=TIMEOUT)


def main(cache: str, workers: str = "2") -> None:
    """Run the chapters and their solutions."""
    paths = sorted((ROOT / "notebooks").glob("**/[0-9]*.ipynb"))
    for path in paths:
        get_cache(cache).add_nb_to_project(str(path))
    with ProcessPoolExecutor(int(workers)) as pool:
        list(tqdm(pool.map(partial(execute, cache), paths), total=len(paths), desc="notebooks"))


if __name__ == "__main__":
    main(*sys.argv[1:])
