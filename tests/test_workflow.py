"""The sweep under Snakemake: what it plans, and what is left of it when it is killed, disturbed or doubled."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from atexlib import data, experiments
from atexlib.experiments.engine import results
from atexlib.experiments.engine.kinds import check

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "workflow"
RESULTS = ROOT / "src/atexlib/results"
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), "--cores", "2"]
CELL = {
    "kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "eps": 0.1, "seed": 0,
}  # fmt: skip
LIMIT = 300  # seconds after which something hangs


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """Two sweeps at once that begin with nothing, so both want the net as well: results, ends, every writing seen."""
    place, seen, both = tmp_path_factory.mktemp("twice"), set(), []
    kept = place / "results"
    for name in ("one", "two"):
        (place / name).mkdir()
        run = command(place / name, eps=[0.1, 0.05, 0.02])
        both.append(subprocess.Popen(run, env=environment(kept), stderr=subprocess.PIPE, text=True))

    def ended():
        for path in [*kept.glob("table/[!.]*"), *kept.glob("undefended/[!.]*")]:
            seen.add((path.name, path.stat().st_ino))
        return all(run.poll() is not None for run in both)

    wait_for(ended)
    return kept, [(run.returncode, run.stderr.read()) for run in both], seen


@pytest.fixture
def whole(tmp_path, twice):
    """A folder to sweep in, whose results are a net and all three cards on it."""
    shutil.copytree(twice[0], tmp_path / "results", ignore=shutil.ignore_patterns(".locks"))
    return tmp_path


@pytest.fixture
def folder(whole):
    """A folder to sweep in, whose results begin with the net and the card of the largest eps."""
    for eps in (0.05, 0.02):
        (whole / card(eps)).unlink()
    return whole


def card(eps):
    return f"results/table/digits-untargeted-none-eps{eps}-seed0-smoke.json"


def command(folder, *options, eps, stale=True, **cell):
    """A sweep over some eps at the preset smoke."""
    chosen = {"preset": "smoke", "retries": 0, "stale": stale, "sweep": [{**CELL, **cell, "eps": eps}]}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(chosen))
    place = ["--directory", str(folder), "--configfile", str(folder / "sweep.yaml")]
    return [*SNAKEMAKE, *place, "--workflow-profile", str(WORKFLOW / "profiles/cpu"), *options]


def environment(results):
    return {
        **os.environ,
        "ATEXLIB_RESULTS": str(results),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(results.parent),
    }


def sweep(folder, *options, eps, results=None, **cell):
    where = environment(results or folder / "results")
    run = command(folder, *options, eps=eps, **cell)
    return subprocess.run(run, env=where, capture_output=True, text=True, timeout=LIMIT, check=False)


def plan(folder, *, eps, **cell):
    """How many jobs of each rule a sweep would run."""
    told = sweep(folder, "--dry-run", eps=eps, **cell)
    assert told.returncode == 0, told.stderr
    counts = re.findall(r"^(result|chapter) +(\d+)$", told.stdout + told.stderr, flags=re.M)
    return {rule: int(count) for rule, count in counts}


def made(folder):
    """The cards that are there, whole, each with what tells one writing of it from the next."""
    found = {}
    for path in folder.glob("table/*"):
        assert results.read(path)["metrics"]["spearman"]["mean"] <= 1
        found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def wait_for(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def half_written(results):
    return [path.name for path in results.rglob("*.part")]


def test_what_is_there_is_not_planned_and_another_eps_plans_its_own_cells(folder):
    assert plan(folder, eps=[0.1, 0.05, 0.02]) == {"result": 2}
    assert plan(folder, eps=[0.1], seed=[0, 1], defense=["none", "atex"]) == {"result": 6}  # and of them three nets


def test_the_whole_sweep_can_be_planned(tmp_path):
    """At a preset of which nothing is committed, so that everything is still to be made."""
    run = [*SNAKEMAKE, "--directory", str(tmp_path), "--dry-run", "--config", "preset=smoke"]
    told = subprocess.run(run, env=environment(tmp_path / "results"), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    counts = dict(re.findall(r"^(\w+) +(\d+)$", told.stdout + told.stderr, flags=re.M))
    config = yaml.safe_load((WORKFLOW / "sweep.yaml").read_text())
    cells = sum(len(experiments.grid(**axes)) for axes in config["sweep"])
    # Undefended nets of two data sets, five seeds; defended ones of three seeds, two on MNIST and 22 on Fashion-MNIST,
    # and ATEX with ascent once; of the families three nets, two seeds, squares and canvases, and two nets for colours.
    # The two cards of a GPU are there.
    assert int(counts["result"]) == cells + 2 * 5 + (2 + 22) * 3 + 1 + 14 - 2


def test_the_sweep_makes_every_card_that_is_committed():
    config = yaml.safe_load((WORKFLOW / "sweep.yaml").read_text())
    specs = (spec for axes in config["sweep"] for spec in experiments.grid(**{"preset": config["preset"], **axes}))
    planned = {kind.file(spec) for kind, spec in map(check, specs)}
    committed = {path.relative_to(RESULTS).as_posix() for path in RESULTS.glob("[a-z]*/*-reduced.json")}
    assert len(committed) > 600
    assert committed <= planned


def test_a_wrong_sweep_stops_before_any_work_and_names_what_is_known(tmp_path):
    told = sweep(tmp_path, eps=[0.1], defense="naiv")
    assert told.returncode != 0
    assert re.search("defense.*naiv.*naive", told.stderr)
    assert not list(tmp_path.glob("results/*"))


def test_a_sweep_that_is_killed_goes_on_where_it_was(folder):
    eps, kept = [0.1, 0.05, 0.02], folder / "results"
    before = made(kept)
    run = subprocess.Popen(
        command(folder, "--cores", "1", eps=eps), env=environment(kept), stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: len(list(kept.glob("table/*.json"))) == 2 or run.poll() is not None)
    os.killpg(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    left = made(kept)
    assert len(left) == 2
    assert before.items() <= left.items()
    assert sweep(folder, "--unlock", eps=eps).returncode == 0
    done = sweep(folder, eps=eps)
    assert done.returncode == 0, done.stderr
    assert len(made(kept)) == 3
    assert left.items() <= made(kept).items()
    assert half_written(kept) == []


def test_a_full_disk_loses_nothing(folder):
    kept = folder / "results"
    before = made(kept)
    run = [sys.executable, "-m", "atexlib", "run", "table", "--preset", "smoke"]
    cell = {**CELL, "eps": 0.05}
    run += [part for key, value in cell.items() if key != "kind" for part in (f"--{key}", str(value))]
    told = subprocess.run(
        run, env=environment(kept), capture_output=True, text=True, timeout=LIMIT, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )  # fmt: skip
    assert told.returncode != 0
    assert "File too large" in told.stderr
    assert made(kept) == before
    assert half_written(kept) == []
    assert subprocess.run(run, env=environment(kept), capture_output=True, check=True, timeout=LIMIT)
    assert len(made(kept)) == 2


def test_a_corrupt_card_and_a_stale_one_are_made_anew_and_no_other(whole):
    """Unless that is not wanted."""
    eps, corrupt, stale, good = [0.1, 0.05, 0.02], whole / card(0.1), whole / card(0.05), whole / card(0.02)
    corrupt.write_text("{")
    changed = results.read(stale)
    changed["provenance"]["settings"]["k"] = 49
    stale.write_text(json.dumps(changed))
    untouched = good.stat()
    assert plan(whole, eps=eps, stale=False) == {}
    assert plan(whole, eps=eps) == {"result": 2}
    assert sweep(whole, eps=eps).returncode == 0
    assert len(made(whole / "results")) == 3
    assert results.read(stale)["provenance"]["settings"]["k"] == 50
    assert (good.stat().st_ino, good.stat().st_mtime_ns) == (untouched.st_ino, untouched.st_mtime_ns)
    assert plan(whole, eps=eps) == {}


def test_a_stale_net_is_trained_anew_and_the_cards_on_it_are_made_anew(folder):
    (path,) = (folder / "results/undefended").iterdir()
    net = results.read(path)
    net["provenance"]["version"] = 0
    save_file(load_file(path), path, metadata={"result": json.dumps(net)})
    assert plan(folder, eps=[0.1, 0.05], defense=["none", "naive"]) == {"result": 6}
    assert sweep(folder, eps=[0.1]).returncode == 0
    assert plan(folder, eps=[0.1]) == {}


def test_two_sweeps_at_once_run_nothing_twice(twice):
    kept, ends, seen = twice
    assert [code for code, _ in ends] == [0, 0], ends
    assert len(made(kept)) == 3
    assert len(seen) == 4  # three cards and the net, each written once


SUBMIT = """#!/bin/sh
# What a cluster's submit command does: take a script, run it some time later, print a number.
nohup sh "$1" > "$1.log" 2>&1 &
echo "$1" >> {log}
echo $!
"""


def test_jobs_can_be_submitted_to_a_cluster(folder):
    submit, log = folder / "submit.sh", folder / "submitted"
    submit.write_text(SUBMIT.format(log=log))
    submit.chmod(0o755)
    options = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit), "--jobs", "2"]
    told = sweep(folder, *options, "--seconds-between-status-checks", "1", eps=[0.1, 0.05, 0.02])
    assert told.returncode == 0, told.stderr
    assert len(made(folder / "results")) == 3
    assert len(log.read_text().splitlines()) == 2


OF_CHAPTERS = sorted({*WORKFLOW.glob("*.yaml")} - {WORKFLOW / "kubernetes.yaml"})


@pytest.mark.parametrize("path", OF_CHAPTERS, ids=lambda path: path.stem)
def test_parameter_files_hold_what_a_chapter_takes(path):
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "sweep":
        assert set(parameters) == {"preset", "device", "threads", "retries", "stale", "sweep"}
        assert set(yaml.safe_load((WORKFLOW / "profiles/gpu/sweep.yaml").read_text())) <= set(parameters)
        return
    assert set(parameters) <= {"preset", "dataset", "device", "seed", "recompute"}
    assert parameters["preset"] in experiments.PRESETS
    assert parameters.get("dataset", "auto") in ("auto", *data.DATASETS)
