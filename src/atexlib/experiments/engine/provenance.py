"""Where a number comes from: the commit, the machine, the versions, fingerprints of files."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

PACKAGE = Path(__file__).parents[2]
WEIGHTS = "fingerprint"  # of the weights, in the header of a net's file
SUM = "sum"  # of all else in a card, in its provenance
PACKAGES = ("atexlib", "torch", "numpy", "scikit-image")


def facts(*, device: str | torch.device, seconds: float) -> dict[str, Any]:
    """What to write beside a result: commit, versions, machine, device, wall time, date, command."""
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", ":(top)src", ":(top,exclude)src/atexlib/results"))
        if commit
        else None,
        "package versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else str(device),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(Path(part).name if index == 0 else part for index, part in enumerate(sys.argv[:40])),
    }


def fingerprint(path: Path) -> str:
    """Sixteen digits that change with a result's numbers: of a net its weights, not what the header says of them.

    A net that was left out of a package has no weights, and its header says what theirs was.
    """
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        start = 8 + int.from_bytes(content[:8], "little")
        if len(content) == start and WEIGHTS in (header := json.loads(content[8:])["__metadata__"]):
            return str(header[WEIGHTS])
        content = content[start:]
    return _digest(content)


def fingerprint_of(state: dict[str, Tensor]) -> str:
    """The fingerprint that the file of these weights will have."""
    content = save(state)
    return _digest(content[8 + int.from_bytes(content[:8], "little") :])


def sum_of(card: Mapping[str, Mapping[str, Any]]) -> str:
    """Sixteen digits of all else that a card holds: one that was damaged does not pass for another."""
    made = {key: value for key, value in card["provenance"].items() if key != SUM}
    return _digest(json.dumps([card["spec"], card["metrics"], made], separators=(",", ":")).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
