"""Files written all or nothing: what a killed process leaves half-written is never taken for a result."""

import os
from collections.abc import Callable
from pathlib import Path


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
