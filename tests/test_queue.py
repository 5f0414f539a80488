"""Many results until a deadline: what they rest on first, nothing half-made, what failed and what is left said."""

import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from atexlib import __main__ as command_line
from atexlib import experiments
from atexlib.experiments.engine import queue, store
from atexlib.experiments.findings import plan

CELL = {"kind": "table", "dataset": "digits", "attack": "untargeted", "seed": 7, "preset": "smoke"}


@pytest.fixture(autouse=True)
def own_results(tmp_path, monkeypatch):
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_what_results_rest_on_comes_before_them_once():
    names = list(queue.missing(experiments.grid(**CELL, defense=["naive", "none"], eps=[0.05, 0.1])))
    undefended, naive = "undefended/digits-seed7-smoke.safetensors", "defended/digits-naive-seed7-smoke.safetensors"
    assert names[:2] == [undefended, naive]
    assert len(names) == len(set(names)) == 6


def test_a_queue_makes_all_packs_it_and_goes_on_where_it_was(tmp_path):
    specs = experiments.grid(**CELL, defense="none", eps=[0.05, 0.1])
    outcome = queue.run(specs, seconds=300, device="cpu", workers=2)
    assert outcome.made[0] == "undefended/digits-seed7-smoke.safetensors"
    assert len(outcome.made) == 3
    assert not outcome.failed
    assert not outcome.left
    queue.pack(outcome.made, tmp_path / "all.tar")
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert tar.getnames() == outcome.made
    assert queue.run(specs, seconds=300, device="cpu") == queue.Outcome()


def test_a_worker_ends_with_the_process_that_started_it():
    code = (
        "import time; from atexlib.experiments.engine import queue\n"
        "if __name__ == '__main__':\n"
        "    with queue._Workers(1, 'cpu') as pool: print(pool.processes[0].pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and Path(f"/proc/{worker}/stat").exists():
        if Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.2)
    else:
        assert not Path(f"/proc/{worker}").exists()


def test_no_time_makes_nothing_and_says_what_is_left():
    specs = experiments.grid(**CELL, defense="none", eps=0.1)
    outcome = queue.run(specs, seconds=0.01, device="cpu", workers=1)
    assert sorted(outcome.left) == sorted(queue.missing(specs))
    assert not store.names("table", ".json") or all("seed7" not in name for name in store.names("table", ".json"))


def test_what_rests_on_a_failure_is_left_and_the_failure_is_told(monkeypatch):
    monkeypatch.setenv("ATEXLIB_DATA", "/nowhere")
    specs = [{**CELL, "dataset": "cifar10-jpeg", "defense": "none", "eps": 0.1}]
    outcome = queue.run(specs, seconds=300, device="cpu", workers=1)
    assert list(outcome.failed) == ["undefended/cifar10-jpeg-seed7-smoke.safetensors"]
    assert "/nowhere" in next(iter(outcome.failed.values()))
    assert outcome.left == ["table/cifar10-jpeg-untargeted-none-eps0.1-seed7-smoke.json"]


def test_the_tables_come_first_seed_by_seed():
    specs = plan.by_worth("smoke", datasets=["digits"], seeds=[0, 1])
    tables = [spec["kind"] == "table" for spec in specs]
    assert tables == sorted(tables, reverse=True)
    seeds = [spec["seed"] for spec in specs if spec["kind"] == "table"]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1}
    for spec in specs:
        experiments.KINDS[spec["kind"]].check(spec)


def test_the_command_line_runs_for_some_time_and_writes_one_file(tmp_path, capsys, monkeypatch):
    """A table is known to take longer than the twenty minutes, so of a net and two tables on it the net is made."""
    best = plan.by_worth
    monkeypatch.setattr(plan, "by_worth", lambda *given, **options: best(*given, **options)[:2])
    monkeypatch.setattr(queue, "_times_before", lambda *_: {"table": [1300.0]})
    options = ["--preset", "smoke", "--dataset", "digits", "--seed", "7", "--device", "cpu", "--workers", "2"]
    command_line.main(["run", "--all", "--minutes", "20", *options, "--tar", str(tmp_path / "all.tar")])
    assert "1 results made, 0 failed, 2 left for the next run" in capsys.readouterr().out
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert tar.getnames() == ["undefended/digits-seed7-smoke.safetensors"]


def test_a_command_that_says_too_little_names_the_remedy():
    with pytest.raises(ValueError, match="pass --all --minutes M"):
        command_line.main(["run"])
    with pytest.raises(ValueError, match="say how long"):
        command_line.main(["run", "--all"])
    with pytest.raises(ValueError, match="--minutes is -1"):
        command_line.main(["run", "--all", "--minutes", "-1"])


def test_a_wall_time_is_that_of_the_longest_chain_or_of_the_work():
    jobs = {"net": (10.0, []), "card": (30.0, ["net"]), **{f"alone {i}": (5.0, ["elsewhere"]) for i in range(8)}}
    assert plan.wall_time(jobs, 1) == 80
    assert plan.wall_time(jobs, 2) == 40
    assert plan.wall_time(jobs, 100) == 40
    assert plan.wall_time(jobs, 100, start=1.0) == 42
    recorded = plan.recorded()
    assert len(recorded) > 500
    work = sum(seconds for seconds, _ in recorded.values())
    assert plan.wall_time(recorded, 1) == pytest.approx(work)
    assert work / 10 <= plan.wall_time(recorded, 10) <= work
