"""Measures the library against its peers and makes the cards of the page "How fast"; see `kinds/speed.py`.

Run: `OMP_NUM_THREADS=1 python benchmarks/how_fast.py [cpu|cuda]` on a machine that does nothing else. It prints the
page's tables and exits with an error where a bar is missed.
"""

import sys

from atexlib import experiments
from atexlib.experiments.findings import figures
from atexlib.experiments.kinds.speed import SIDES


def main() -> None:
    """Make the cards anew and print what the page shows."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    specs = experiments.grid(kind="speed", side=list(SIDES), seed=0, preset="reduced")
    experiments.run_all(specs, recompute=True, device=device)
    missed = figures.missed_bars()
    tables = (figures.speed_table(), figures.step_table(), figures.growth_table(), figures.roofline_table(), missed)
    print(*tables, sep="\n\n")
    sys.exit(f"{len(missed)} bars are missed" if len(missed) else 0)


if __name__ == "__main__":
    main()
