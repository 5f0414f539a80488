"""A chapter opened in Colab installs the book and runs: its first cell as it stands, in a runtime built here.

The runtime is an environment of its own. Like Colab's it has torch, numpy, a kernel and so on (the packages of this
environment, through links), but no atexlib, and `google.colab` is imported before the chapter starts. Git is told that
the book's address is a clone on this disk, so nothing is fetched from elsewhere.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
import torch
import yaml

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTER = ROOT / "notebooks" / "00_start.ipynb"  # the quickest
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]

# What this environment has and Colab has not: the package itself, and tools of the tests and of the book.
NOT_IN_COLAB = [
    "atexlib*", "__editable__*", "__pycache__", "*.pth", "captum*", "hypothesis*", "jupyter_book*", "myst_nb*",
    "nbval*", "snakemake*", "sphinx*", "zennit*",
]  # fmt: skip

# A last cell for the chapter, which says where things came from.
REPORT = """
import json
import sys
from importlib import metadata

import torch

import atexlib
from atexlib import experiments
from atexlib.experiments.engine import store

found = {
    "colab": "google.colab" in sys.modules,
    "package": atexlib.__file__,
    "commit": json.loads(metadata.distribution("atexlib").read_text("direct_url.json"))["vcs_info"]["commit_id"],
    "net": experiments.trained(dataset="fashion-mnist") is not None,
    "cards": len(list(store.COMMITTED.rglob("*.json"))),
    "torch": [torch.__version__, torch.__file__],
}
print("FOUND", json.dumps(found))
"""


def run(*command, **options):
    done = subprocess.run(command, text=True, capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def git(folder, *command):
    return run("git", "-C", folder, "-c", "user.name=test", "-c", "user.email=test@example.org", *command)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone of the repository, with a commit more if what is packaged differs from HEAD."""
    if git(ROOT, "rev-parse", "--is-shallow-repository").strip() == "true":
        # pip's git, which asks for a part, would ask a clone of it for the missing history without end
        pytest.skip("this clone is shallow: run `git fetch --unshallow` first")
    folder = tmp_path_factory.mktemp("git") / "clone"
    git(ROOT, "clone", "--quiet", ROOT, folder)
    packaged = ["--", "src", "pyproject.toml", "README.md", "LICENSE", ".gitignore"]
    changed = git(ROOT, "diff", "HEAD", "--name-only", "-z", "--no-renames", *packaged)
    changed += git(ROOT, "ls-files", "--others", "--exclude-standard", "-z", *packaged)
    for name in filter(None, changed.split("\0")):
        (folder / name).unlink(missing_ok=True)
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "what the tests see")
    return folder


def runtime(folder):
    """A new environment that sees what Colab's has; its Python, its site-packages, and where the rest lies."""
    venv.create(folder / "venv")
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    given = folder / "given"
    given.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not any(fnmatch.fnmatch(entry.name.lower(), pattern) for pattern in NOT_IN_COLAB):
            (given / entry.name).symlink_to(entry)
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()
    (site / "given.pth").write_text(f"{given}\nimport google.colab\n", encoding="utf-8")
    return folder / "venv" / "bin" / "python", site, given


def variables(clone):
    """This shell's, less the book's own and git's; git finds the book's address in the clone, and pip asks no index."""
    kept = {name: value for name, value in os.environ.items() if not re.match("ATEXLIB_|PYTHON|GIT_", name)}
    kept |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{clone}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }
    # No build isolation (pip reads this variable as "isolation: false"): torch requires the setuptools that
    # pyproject.toml asks for, so that none need be fetched.
    return kept | {"PIP_NO_BUILD_ISOLATION": "false", "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"}


def check_found(found, site, given, commit):
    """What is wrong with a runtime after the chapter, by the words of REPORT."""
    wanted = {
        "colab": True,
        "package": str(site / "atexlib" / "__init__.py"),
        "commit": commit,
        "torch": [torch.__version__, str(given / "torch" / "__init__.py")],
    }
    problems = [f"{key}: {found[key]}, not {value}" for key, value in wanted.items() if found[key] != value]
    return problems + [f"no {key} came along" for key in ("net", "cards") if not found[key]]


def test_a_chapter_installs_the_book_in_colab_and_runs(clone, tmp_path):
    python, site, given = runtime(tmp_path)
    env = variables(clone)
    before = subprocess.run([python, "-c", "import atexlib"], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert b"No module named 'atexlib'" in before.stderr
    nb = nbformat.read(CHAPTER, as_version=4)
    nb.cells.append(nbformat.v4.new_code_cell(REPORT))
    nbformat.write(nb, tmp_path / "chapter.ipynb")
    parameters = ["-p", "preset", "smoke", "-p", "dataset", "digits", "-p", "device", "cpu"]
    papermill = [python, "-m", "papermill", "chapter.ipynb", "out.ipynb", "--kernel", "python3", "--log-output"]
    run(*papermill, *parameters, cwd=tmp_path, env=env)
    text = "".join(output.get("text", "") for output in nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs)
    found = json.loads(re.search("FOUND (.*)", text)[1])
    assert check_found(found, site, given, git(clone, "rev-parse", "HEAD").strip()) == []
    assert [path.name.partition("-")[0] for path in site.glob("*.dist-info")] == ["atexlib"]


# What a wrong runtime would say: one that reads the repository, brings no results, or got a torch of its own.
SPOILED = {
    "not in Colab": {"colab": False},
    "the repository's package": {"package": str(ROOT / "src/atexlib/__init__.py")},
    "another commit": {"commit": "0000000"},
    "no net": {"net": None},
    "no cards": {"cards": 0},
    "another torch": {"torch": ["2.0.0", "/given/torch/__init__.py"]},
    "a second torch": {"torch": [torch.__version__, "/site/torch/__init__.py"]},
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_a_wrong_runtime_is_caught(change):
    good = {"colab": True, "package": "/site/atexlib/__init__.py", "commit": "abc", "net": True, "cards": 9}
    good["torch"] = [torch.__version__, "/given/torch/__init__.py"]
    assert check_found(good, Path("/site"), Path("/given"), "abc") == []
    assert len(check_found(good | change, Path("/site"), Path("/given"), "abc")) == 1


# The wheel


def check_wheel(names, tracked):
    """The files of the package that a wheel with these names lacks."""
    return sorted({name.removeprefix("src/") for name in tracked} - set(names))


def test_the_wheel_holds_every_file_of_the_package(clone, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, clone, env=variables(clone))
    (wheel,) = tmp_path.glob("atexlib-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tracked = git(clone, "ls-files", "-z", "src/atexlib").strip("\0").split("\0")
    assert check_wheel(names, tracked) == []
    needed = {"atexlib/presets.toml", "atexlib/experiments/canaries.json", "atexlib/py.typed"}
    assert needed <= set(names)
    for pattern in ("atexlib/results/undefended/*.safetensors", "atexlib/results/table/*.json"):
        assert fnmatch.filter(names, pattern)
    assert check_wheel(set(names) - needed, tracked) == sorted(needed)


# The buttons


def test_buttons_are_hidden_until_an_address_is_set():
    """The style sheet hides what leads to a repository of OWNER; `make address` changes the links and not the sheet."""
    sheet = (ROOT / "book" / "_static" / "custom.css").read_text(encoding="utf-8")
    rule = re.search(r"^(a\[href.*?) \{ display: none; \}$", sheet, re.M)[1]
    assert rule.count('[href*="/OWNER/"]') == 3
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\naddress:")[2].partition("\n\n")[0]
    assert "custom.css" not in recipe
    for path in CHAPTERS:
        (badge,) = re.findall(r"\]\((https://colab[^)\s]*)\)", path.read_text(encoding="utf-8"))
        assert ADDRESS.removeprefix("https://github.com") in badge
        assert ("/OWNER/" in badge) == ("/OWNER/" in ADDRESS)


# The parameters


def default_preset(nb):
    """What the parameters cell takes for `preset` in an environment that says nothing of it."""
    (cell,) = (cell for cell in nb["cells"] if "parameters" in cell["metadata"].get("tags", []))
    names = {}
    exec("".join(cell["source"]), names)
    return names["preset"]


@pytest.fixture
def no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("ATEXLIB_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_preset_is_quick_unless_told_otherwise(path, no_variables):
    assert default_preset(json.loads(path.read_text(encoding="utf-8"))) == "quick"


def test_another_default_preset_is_seen(no_variables):
    cell = {"metadata": {"tags": ["parameters"]}, "source": ["import os\n", "preset = os.environ.get('X', 'smoke')"]}
    assert default_preset({"cells": [cell]}) == "smoke"
