"""What `pip install atexlib` brings: the package, every card, the nets of seed 0, a command; and nothing else."""

import os
import subprocess
import sys
import tomllib
import zlib
from collections import Counter
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from safetensors import safe_open

from atexlib import __main__ as command_line
from atexlib import experiments, nets
from atexlib.experiments.engine import provenance, results, store

sys.path.insert(0, str(Path(__file__).parents[1] / "book"))
import package

PROJECT = tomllib.loads((package.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    return package.stage(tmp_path_factory.mktemp("staged"))


# In a process of its own: setuptools puts what it brings along on the path of imports.
PACKED = """
from pathlib import Path
from setuptools import Distribution

distribution = Distribution({"script_name": "setup.py"})
distribution.parse_config_files()
command = distribution.get_command_obj("build_py")
command.ensure_finalized()
modules = [Path(file) for _, _, file in command.find_all_modules()]
data = [Path(place) / name for _, place, _, names in command.data_files for name in names]
print(*sorted({path.relative_to("src").as_posix() for path in [*modules, *data]}), sep="\\n")
"""


def packed(folder):
    """The files that setuptools puts into a wheel of what lies in a folder, below `src`."""
    run = [sys.executable, "-c", PACKED]
    return subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_wheel_holds_what_is_committed_below_src_and_nothing_else(staged):
    found = packed(staged)
    files = [path for path in (staged / "src/atexlib").rglob("*") if path.is_file()]
    assert found == sorted(path.relative_to(staged / "src").as_posix() for path in files)
    assert {"atexlib/py.typed", "atexlib/presets.toml", "atexlib/experiments/canaries.json"} <= {*found}
    kinds = Counter(Path(name).suffix for name in found if not name.startswith("atexlib/results/"))
    assert set(kinds) == {".py", ".typed", ".toml", ".json"}


def test_what_a_run_leaves_beside_the_results_is_not_packed(tmp_path):
    (tmp_path / "pyproject.toml").write_bytes((package.ROOT / "pyproject.toml").read_bytes())
    for name in ("__init__.py", "results/table/a.json", "results/scratch/iterated/b.safetensors", "results/.locks/c"):
        path = tmp_path / "src/atexlib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    assert packed(tmp_path) == ["atexlib/__init__.py", "atexlib/results/table/a.json"]


def test_every_result_is_there_and_nets_above_seed_0_as_cards(staged):
    folder = staged / package.RESULTS
    paths = list(folder.glob("*/*"))
    assert {path.parent.name for path in paths} <= {*experiments.KINDS}
    assert {path.suffix for path in paths} == {".json", ".safetensors"}
    for path in paths:
        mine = store.COMMITTED / path.relative_to(folder)
        assert results.read(path) == results.read(mine)
        assert provenance.fingerprint(path) == provenance.fingerprint(mine)
        if path.suffix == ".json" or "-seed0-" in path.name:
            assert path.read_bytes() == mine.read_bytes()
        else:
            assert path.stat().st_size < 10_000
            with safe_open(path, framework="pt") as file:
                assert list(file.keys()) == []


def test_nothing_is_stale_for_want_of_weights_and_who_wants_them_is_told(staged, monkeypatch):
    monkeypatch.setattr(store, "COMMITTED", staged / package.RESULTS)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(staged / "own"))
    spec = {"kind": "table", "dataset": "fashion-mnist", "attack": "untargeted", "defense": "none", "eps": 0.1}
    path = experiments.ensure({**spec, "seed": 1, "preset": "reduced"})
    assert path.is_relative_to(staged)
    assert results.stale_since(path) == []
    net = store.COMMITTED / "undefended/fashion-mnist-seed1-reduced.safetensors"
    with pytest.raises(ValueError, match=r"leaves out the weights of nets above seed 0\. Install .* or train"):
        results.load_net(net, nets.ConvNet())
    assert not experiments.trained(dataset="fashion-mnist").training
    package.save_file(
        {}, net, metadata={"result": "{}"}
    )  # a file cut off after its header is not one that was left out
    assert results.stale_since(path) == ["the net fashion-mnist-seed1-reduced"]


def test_a_wheel_is_light(staged):
    """Compressed file by file, as in a wheel; `make dist` weighs the files themselves."""
    files = [path for path in (staged / "src").rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes(), 1)) for path in files) < package.MOST


def test_the_start_page_leads_into_the_repository():
    text = "![a](book/a.webp) [b](LICENSE) [c](#d) [e](https://f.org/)"
    told = "![a](https://g/raw/main/book/a.webp) [b](https://g/blob/main/LICENSE) [c](#d) [e](https://f.org/)"
    assert package.with_addresses(text, "https://g") == told


def test_a_file_too_many_or_too_few_is_a_fault(tmp_path):
    (tmp_path / "src/atexlib").mkdir(parents=True)
    for name in ("a.py", "b.py"):
        (tmp_path / "src/atexlib" / name).touch()
    wheel = tmp_path / "atexlib.whl"
    with package.zipfile.ZipFile(wheel, "w") as file:
        for name in ("atexlib/a.py", "atexlib/c.py", "atexlib-0.1.0.dist-info/RECORD"):
            file.writestr(name, "")
    wrong = ["atexlib.whl lacks atexlib/b.py", "atexlib.whl holds atexlib/c.py, which is not of the package"]
    assert list(package.faults(wheel, tmp_path)) == wrong


def test_atexlib_is_a_command(monkeypatch, capsys):
    point = EntryPoint("atexlib", PROJECT["scripts"]["atexlib"], "console_scripts")
    assert point.load() is command_line.command
    for given in (["judge", "nowhere.py:net", "--name", "x"], ["judge", "nowhere", "--name", "x"]):
        monkeypatch.setattr(sys, "argv", ["atexlib", *given])
        with pytest.raises(SystemExit, match=r"^error: .*nowhere"):
            command_line.command()
    monkeypatch.setattr(sys, "argv", ["atexlib", "--help"])
    with pytest.raises(SystemExit):
        command_line.command()
    assert capsys.readouterr().out.startswith("usage: atexlib ")


def test_a_reader_that_closes_the_pipe_is_no_fault():
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    run = [sys.executable, "-m", "atexlib", "list"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
