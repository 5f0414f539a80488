"""Where results lie, and locks on their names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

COMMITTED = Path(__file__).parents[2] / "results"


def find(name: str) -> Path | None:
    """The file of this name (such as `table/a.json`) among one's own results, else the committed ones.

    Raises:
        ValueError: a name that leads out of the results, as one in a forged card might.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name!r} leads out of the folder of results; a name is like 'table/a.json'.")
    return next((path for path in (place(name), COMMITTED / name) if path.exists()), None)


def place(name: str) -> Path:
    """Where a file of this name is written: in the folder ATEXLIB_RESULTS, else beside the committed ones.

    Where the package may not be written to, as in some installations, it is the user's data folder.
    """
    chosen = os.environ.get("ATEXLIB_RESULTS")
    if chosen:
        return Path(chosen).expanduser() / name
    return (COMMITTED if os.access(COMMITTED, os.W_OK) else platformdirs.user_data_path("atexlib")) / name


def names(folder: str, suffix: str) -> list[str]:
    """The names of all files in a folder of results, own and committed, in order."""
    roots = {place(""), COMMITTED}
    return sorted({path.relative_to(root).as_posix() for root in roots for path in (root / folder).glob(f"*{suffix}")})


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Wait until no other process makes the file of this name, and keep the others waiting meanwhile.

    The lock goes with the process that holds it, however that ends. The files of locks stay; they are empty.
    """
    lock = place(f".locks/{name.replace('/', '-')}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield
