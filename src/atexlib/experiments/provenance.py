"""Where a number comes from: hashes of the code that made it, the commit, the machine, the versions."""

import ast
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[1]
CODE, EQUAL, _MOVED = (
    tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text()) for name in ("code", "equal", "moved")
)
MOVED = {
    f"{old}.{name}": f"{new}.{name}"
    for old, places in _MOVED.items()
    for new, names in places.items()
    for name in names.split()
}
PACKAGES = ("atexlib", "torch", "numpy", "scikit-image")


def declared(*groups: str) -> tuple[str, ...]:
    """The names, as `module.name`, of the code in some groups of `code.toml`."""
    modules = [item for group in groups for item in CODE[group].items()]
    return tuple(sorted({f"{module}.{name}" for module, names in modules for name in names.split()}))


def code_hashes(names: Iterable[str]) -> dict[str, str]:
    """A hash for each function, class or constant, named as `module.name`, that a result rests on.

    It is taken of the syntax tree without docstrings, so comments and layout do not count.

    Raises:
        ValueError: a name that the package does not hold.
    """
    return {name: _hash(name) for name in sorted(names)}


def changed(recorded: dict[str, str]) -> list[str]:
    """The names whose code is no longer what it was, or is gone.

    Changes that `equal.toml` lists do not count; what `moved.toml` lists is looked for at its new place.
    """
    return sorted(name for name, was in recorded.items() if not _is_same(MOVED.get(name, name), was))


def facts(*, device: str | torch.device, seconds: float) -> dict[str, object]:
    """What to write beside a result: commit, versions, machine, device, wall time, date, command."""
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--", ":(top)src", ":(top,exclude)src/atexlib/results"))
        if commit
        else None,
        "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else str(device),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "seconds": round(seconds, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(Path(part).name if index == 0 else part for index, part in enumerate(sys.argv[:40])),
    }


def file_hash(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _is_same(name: str, was: str) -> bool:
    now, equal = _hash(name, missing=""), EQUAL.get(name)
    return was == now or (equal is not None and equal["is"] == now and was in equal["was"])


@functools.cache
def _hash(name: str, missing: str | None = None) -> str:
    module, _, top = name.rpartition(".")
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    node = _definitions(path).get(top) if path.exists() else None
    if node is None:
        if missing is not None:
            return missing
        raise ValueError(f"atexlib holds no {name}; correct the list of code that the experiment declares.")
    return hashlib.sha256(ast.unparse(node).encode()).hexdigest()[:12]


@functools.cache
def _definitions(path: Path) -> dict[str, ast.AST]:
    """The top-level functions, classes and constants of a module, without docstrings."""
    found: dict[str, ast.AST] = {}
    for node in ast.parse(path.read_text()).body:
        _drop_docstrings(node)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _drop_docstrings(node: ast.AST) -> None:
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            # A bare string is a docstring, of the function or (after a field) of the attribute.
            inner.body = [line for line in inner.body if not _is_text(line)] or [ast.Pass()]


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


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
