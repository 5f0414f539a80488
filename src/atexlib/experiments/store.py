"""Where results lie, and how they are written: all or nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import platformdirs
from filelock import FileLock

Recompute = bool | Literal["stale"]

COMMITTED = Path(__file__).parents[1] / "results"


def find(name: str) -> Path | None:
    """The file of this name (such as `nets/a.safetensors`) among one's own results, else the committed ones."""
    return next((path for path in (place(name), COMMITTED / name) if path.exists()), None)


def place(name: str) -> Path:
    """Where a file of this name is written: in the folder ATEXLIB_RESULTS, else beside the committed ones.

    Where the package may not be written to, as in some installations, it is the user's data folder.
    """
    chosen = os.environ.get("ATEXLIB_RESULTS")
    if chosen:
        return Path(chosen) / name
    return (COMMITTED if os.access(COMMITTED, os.W_OK) else platformdirs.user_data_path("atexlib")) / name


def names(kind: str, suffix: str) -> list[str]:
    """The names of all files of a kind (`nets`, `cards`), own and committed, in order."""
    folders = {place(""), COMMITTED}
    found = {path.relative_to(folder).as_posix() for folder in folders for path in (folder / kind).rglob(f"*{suffix}")}
    return sorted(found)


def make_once(name: str, make: Callable[[], object], *, recompute: Recompute, is_stale: Callable[[Path], bool]) -> Path:
    """The file of this name; if it is missing, or to be made anew, `make()` writes it, in one process at a time.

    Args:
        name: of the file.
        make: writes it.
        recompute: make it in any case, or `"stale"`: if it is stale.
        is_stale: whether a file that is there is out of date or cannot be read.
    """

    def wanted() -> bool:
        path = find(name)
        return path is None or recompute is True or (recompute == "stale" and is_stale(path))

    if wanted():
        with locked(name):
            if wanted():  # another process may have made it while this one waited
                make()
    return find(name)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Wait until no other process makes the file of this name, and keep the others waiting meanwhile.

    The lock goes with the process that holds it, however that ends. The files of locks stay; they are empty.
    """
    lock = place(f".locks/{name.replace('/', '-')}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def write(path: Path, save: Callable[[str], object]) -> None:
    """Call `save(temporary)`, then move what it wrote to `path`; a failure leaves what was there before.

    What a killed process left half-written under a temporary name is removed by the next one that writes the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(f".{path.name}.*.part"):
        if not _is_running(int(old.suffixes[-2][1:])):
            old.unlink(missing_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        save(str(temporary))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as somebody else's
    return True
