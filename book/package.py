"""Builds the wheel and the sdist and checks them: `make dist`, or `python book/package.py [FOLDER [PYTHON]]`.

FOLDER gets them; PYTHON is one that has the packages build and twine.
They hold what is committed, and every result card. Of the nets they hold the weights at seed 0, which the chapters draw
with; of a further seed the card alone, with the fingerprint of the weights, so that what rests on it stays fresh.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from atexlib.experiments.engine import provenance

ROOT = Path(__file__).parents[1]
TAKEN = ("pyproject.toml", "README.md", "LICENSE", "src")
RESULTS = Path("src/atexlib/results")
KEPT = re.compile(r"-seed0-")  # nets whose weights are in the package
MOST = 25_000_000  # bytes of a file
LINK = re.compile(r"(!?)(\[[^]]*\])\((?!https?:|#)([^)]+)\)")


def stage(folder: Path) -> Path:
    """Fill a folder with what is packed: the last commit without tests and book, nets of further seeds as cards."""
    archive = subprocess.run(["git", "archive", "HEAD", *TAKEN], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as file:
        file.extractall(folder, filter="data")
    for net in sorted((folder / RESULTS).glob("*/*.safetensors")):
        if not KEPT.search(net.name):
            leave_out(net)
    readme = folder / "README.md"
    readme.write_text(with_addresses(readme.read_text(encoding="utf-8"), address()), encoding="utf-8")
    return folder


def leave_out(net: Path) -> None:
    """Take the weights out of a net's file; its card and their fingerprint stay."""
    with safe_open(net, framework="pt") as file:
        card = file.metadata()
    save_file({}, net, metadata={**card, provenance.WEIGHTS: provenance.fingerprint(net)})


def address() -> str:
    """Where the repository lives."""
    found = re.search(r"^  url: (\S+)$", (ROOT / "_config.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def with_addresses(text: str, url: str) -> str:
    """Markdown whose relative links lead into the repository: a package index shows the start page alone."""
    return LINK.sub(lambda link: f"{link[1]}{link[2]}({url}/{'raw' if link[1] else 'blob'}/main/{link[3]})", text)


def names(file: Path) -> list[str]:
    """The files in a wheel or sdist, without the folder that an sdist packs them in."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            return sorted(wheel.namelist())
    with tarfile.open(file) as sdist:
        return sorted(member.name.partition("/")[2] for member in sdist if member.isfile())


def faults(file: Path, staged: Path) -> Iterator[str]:
    """What is wrong with a wheel or sdist: too large, a file of the package that it lacks, one that is not of it."""
    if file.stat().st_size > MOST:
        yield f"{file.name} has {file.stat().st_size / 1e6:.1f} MB, more than {MOST / 1e6:.0f}"
    root = staged / "src" if file.suffix == ".whl" else staged
    wanted = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    found = {name for name in names(file) if not re.search(r"\.(dist|egg)-info/|^(PKG-INFO|setup\.cfg)$", name)}
    wanted = {name for name in wanted if ".egg-info/" not in name}
    yield from (f"{file.name} lacks {name}" for name in sorted(wanted - found))
    yield from (f"{file.name} holds {name}, which is not of the package" for name in sorted(found - wanted))


def main(folder: str = str(ROOT / "_build" / "dist"), python: str = sys.executable) -> None:
    """Build both, check them, and say what they weigh."""
    place = Path(folder).resolve()
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        staged = stage(Path(temporary))
        subprocess.run([python, "-m", "build", "--outdir", place, staged], check=True, stdout=subprocess.DEVNULL)
        built = sorted(place.iterdir())
        subprocess.run([python, "-m", "twine", "check", "--strict", *built], check=True)
        wrong = [fault for file in built for fault in faults(file, staged)]
    for file in built:
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {len(names(file))} files")
    if wrong:
        sys.exit("\n".join(wrong))
    if "/OWNER/" in address():
        print("The start page leads to no repository yet: run `make address` before you publish.")


if __name__ == "__main__":
    main(*sys.argv[1:])
