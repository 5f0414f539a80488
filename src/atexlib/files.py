"""Files written all or nothing: what a killed process leaves half-written is never taken for a result."""

import glob
import os
import platform
from collections.abc import Callable
from pathlib import Path


def write(path: Path, save: Callable[[str], object]) -> None:
    """Call `save(temporary)`, then move what it wrote to `path`; a failure leaves what was there before.

    What it wrote is on the disk before it gets its name, so that a power cut leaves no empty file of that name. What a
    killed process left half-written under a temporary name is removed by the next one on that machine that writes the
    same file: of another machine's processes nobody here knows which still run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = f".{path.name}.{platform.node()}"
    for old in path.parent.glob(f"{glob.escape(ours)}.*.part"):
        process = old.suffixes[-2][1:]
        if process.isdigit() and not _is_running(int(process)):
            old.unlink(missing_ok=True)
    temporary = path.parent / f"{ours}.{os.getpid()}.part"
    try:
        save(str(temporary))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
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
