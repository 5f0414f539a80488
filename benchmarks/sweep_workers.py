"""Times one sweep with one worker and with two, each job on one thread: how much of the second worker is gained?

Run: `python benchmarks/sweep_workers.py`, on a machine with two idle cores (about three minutes). Both sweeps make the
same cards, which is checked first. It exits with an error where the efficiency, t1 / (2 t2), is below 0.85.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from atexlib.experiments.engine import results

ROOT = Path(__file__).parents[1]
EPS = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]  # the first is made beforehand
CELL = {"kind": "table", "dataset": "digits", "attack": "untargeted", "defense": "none", "seed": 0}
ENOUGH = 0.85
ROUNDS = 2


def seconds(workers: int, eps: list[float], folder: Path) -> float:
    """The wall time of a sweep over some eps, with so many workers, into a folder."""
    config = folder / "sweep.yaml"
    config.write_text(yaml.safe_dump({"preset": "quick", "sweep": [{**CELL, "eps": eps}]}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow/Snakefile"), "--quiet"]
    command += ["--directory", str(folder), "--configfile", str(config), "--cores", str(workers)]
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, "ATEXLIB_RESULTS": str(folder / "results")}, check=True)
    return time.perf_counter() - start


def made(folder: Path) -> dict[str, object]:
    """The metrics of the cards in a folder."""
    return {path.name: results.read(path)["metrics"] for path in folder.glob("results/table/*.json")}


def main() -> None:
    """Print the times and the efficiency of each round, and the best."""
    found = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            folders = {1: Path(one), 2: Path(two)}
            for folder in folders.values():
                seconds(1, EPS[:1], folder)  # the net, and the start of everything
            times = {workers: seconds(workers, EPS, folder) for workers, folder in folders.items()}
            if made(folders[1]) != made(folders[2]):
                sys.exit("the two sweeps made different cards")
        found.append(times[1] / (2 * times[2]))
        print(f"one worker {times[1]:.1f} s, two workers {times[2]:.1f} s: efficiency {found[-1]:.2f}")
    if max(found) < ENOUGH:
        sys.exit(f"the efficiency is {max(found):.2f}, below {ENOUGH}")


if __name__ == "__main__":
    main()
