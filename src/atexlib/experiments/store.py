"""Where results lie, and how they are written: all or nothing."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

COMMITTED = Path(__file__).parents[1] / "results"


def find(name: str) -> Path | None:
    """The file of this name (such as `nets/a.safetensors`) among one's own results, else the committed ones."""
    return next((path for path in (place(name), COMMITTED / name) if path.exists()), None)


def place(name: str) -> Path:
    """Where a file of this name is written: in the folder ATEXLIB_RESULTS, else beside the committed ones."""
    return Path(os.environ.get("ATEXLIB_RESULTS") or COMMITTED) / name


def names(kind: str, suffix: str) -> list[str]:
    """The names of all files of a kind (`nets`, `cards`), own and committed, in order."""
    folders = {place(""), COMMITTED}
    found = {path.relative_to(folder).as_posix() for folder in folders for path in (folder / kind).rglob(f"*{suffix}")}
    return sorted(found)


def write(path: Path, save: Callable[[str], object]) -> None:
    """Call `save(temporary)`, then move what it wrote to `path`; a failure leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    try:
        save(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
