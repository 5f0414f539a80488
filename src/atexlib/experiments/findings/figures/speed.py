"""The page "How fast": times against what a user would take instead, growth, and the share of the machine."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .... import show
from ....explain import EXPLAINERS, traits
from ...kinds.speed import SIDES
from .. import plan, report, verdicts, words
from .tables import Table, legend, noted

# What each shall reach: the share of its peer's time.
BARS = {"smoothgrad": 0.5, "integrated_gradients": 0.5, "lrp": 0.7, "spearman": 0.1, "ssim": 0.1, "pgd": 0.7}
STEP_BARS = {name: 2.0 if name == "gradient" else 2.5 for name in EXPLAINERS}
ROOF = 1 / 3
EQUAL = {"pgd": 0.05, "fgsm": 0.05}  # shares of images; of the others, the largest relative difference
DEFAULT_EQUAL = 1e-3
WORKERS = (1, 2, 10, 100, 1000)
START = 10.0  # seconds from a job's submission to its first line


CPU, GPU = "reduced", "paper"  # the presets of the cards that were made on each


def _cards(preset: str = CPU) -> dict[str, dict[str, Any]]:
    cards = {side: verdicts.found(kind="speed", side=side, preset=preset) for side in SIDES}
    return {side: found[0]["metrics"] for side, found in cards.items() if found}


def _label(name: str) -> str:
    titles = {"fgsm": "FGSM", "pgd": "PGD", "topk_intersection": "top-50 intersection"}
    return traits(name).label if name in EXPLAINERS else titles.get(name, report.label(name))


def _origin(preset: str = CPU) -> str:
    lines = [report.origin(kind="speed", side=side, preset=preset) for side in _cards(preset)]
    return "; ".join(dict.fromkeys(lines)) or report.MISSING


def _ratios(times: dict[str, list[float]]) -> np.ndarray:
    return np.array(times["ours"]) / np.array(times["theirs"])


def speed_table(*, preset: str = CPU) -> Table:
    """Time of the library over that of its peer, round by round, and how equal their values are."""
    rows, said = [], []
    for side, card in _cards(preset).items():
        ratios = {name: _ratios(times) for name, times in card["seconds"].items()}
        medians = {_label(name): float(np.median(ratio)) for name, ratio in ratios.items()}
        less = sum(median < 1 for median in medians.values())
        said.append(f"At {side} pixels the library takes less time than its peer in {less} of {len(medians)} rows.")
        said.append(words.ends(f"The time at {side} pixels, ours over theirs,", medians, decimals=2))
        for name, ratio in ratios.items():
            bar = BARS.get(name)
            rows.append(
                {
                    "side": side,
                    "work": _label(name),
                    "against": card["peer"][name],
                    "time, ours / theirs": f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]",
                    "bar": "" if bar is None else f"{bar:g}",
                    "held": "" if bar is None else ("yes" if np.median(ratio) <= bar else "no"),
                    "difference": f"{card['difference'][name]:.1e}",
                }
            )
    return noted(rows, f"median [smallest, largest] over the rounds; {_origin(preset)}", said, labelled=False)


def missed_bars() -> Table:
    """Each bar of the page that is missed."""
    rows = []
    for side, card in _cards().items():
        ratios = {name: float(np.median(_ratios(card["seconds"][name]))) for name in BARS}
        steps = {name: float(np.median(values)) for name, values in card["step"].items()}
        roofs = {name: max(roof["throughput"], roof["bandwidth"]) for name, roof in card["roofline"].items()}
        kept = {name: EQUAL.get(name, DEFAULT_EQUAL) for name in card["difference"]}
        for what, values, bars in (
            ("time, ours / theirs", ratios, BARS),
            ("a step / an explanation", steps, STEP_BARS),
            ("difference from the peer", card["difference"], kept),
        ):
            rows += [_miss(side, name, what, values[name], bars[name]) for name in bars if values[name] > bars[name]]
        rows += [_miss(side, name, "share of the machine", roofs[name], ROOF) for name in roofs if roofs[name] < ROOF]
    return noted(rows, f"{'the bars that are missed' if rows else 'nothing is missed'}; {_origin()}", labelled=False)


def _miss(side: str, name: str, what: str, value: float, bar: float) -> dict[str, Any]:
    measured = {"what": what, "measured": f"{value:.2g}", "bar": f"{bar:.2g}"}
    return {"side": side, "work": _label(name), **measured}


def step_table(*, preset: str = CPU) -> Table:
    """What a step of the attack costs, in explanations of the same images."""
    rows = {}
    for name in EXPLAINERS:
        row: dict[str, Any] = {}
        for side, card in _cards(preset).items():
            values = np.array(card["step"][name])
            row[f"{side} pixels"] = f"{np.median(values):.2f} [{values.min():.2f}, {values.max():.2f}]"
        rows[_label(name)] = row | {"bar": STEP_BARS[name]}
    return noted(pd.DataFrame.from_dict(rows, orient="index"), f"a step / an explanation; {_origin(preset)}")


def slopes(name: str, side: str) -> dict[str, float]:
    """By which power of the number of images time and memory of some work grow: 1 is in line with them."""
    parts = _cards()[side]["parts"][name]
    sizes = np.log(parts["images"])
    return {what: float(np.polyfit(sizes, np.log(parts[what]), 1)[0]) for what in ("seconds", "bytes")}


def growth_table() -> Table:
    """Powers by which time and memory grow with the images, and time with the pixels of an image."""
    cards = _cards()
    rows: dict[str, dict[str, Any]] = {}
    for side, card in cards.items():
        for name in card["parts"]:
            row = rows.setdefault(_label(name), {})
            for what, power in slopes(name, side).items():
                row[f"{'time' if what == 'seconds' else 'memory'}, images, {side} pixels"] = f"{power:.2f}"
    if len(cards) == len(SIDES):
        small, large = SIDES
        for name in cards[large]["parts"]:
            last = [card["parts"][name] for card in cards.values()]
            each = [parts["seconds"][-1] / parts["images"][-1] for parts in last]
            power = math.log(each[1] / each[0]) / math.log((int(large) / int(small)) ** 2)
            rows[_label(name)]["time, pixels"] = f"{power:.2f}"
    return noted(pd.DataFrame.from_dict(rows, orient="index"), f"powers, 1 is in line; {_origin()}")


def growth_curves() -> Figure:
    """Seconds against the number of images, a panel a size of image, both axes logarithmic."""
    cards = _cards()
    figure, axes = plt.subplots(
        1, max(1, len(cards)), figsize=(8.5, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (side, card) in zip(axes[0], cards.items(), strict=False):
        for name, parts in card["parts"].items():
            ax.plot(parts["images"], parts["seconds"], marker="o", markersize=3, label=_label(name))
        ax.set(xscale="log", yscale="log", xlabel=f"images of {side} pixels a side")
        ax.set_xticks(parts["images"], labels=map(str, parts["images"]))
        ax.minorticks_off()
    axes[0, 0].set_ylabel("seconds")
    legend(axes[0, -1], fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    show.foot(figure, _origin())
    return figure


def roofline_table(*, preset: str = CPU) -> Table:
    """Operations and bytes of each work, and which share of the machine it reached with them."""
    rows = []
    for side, card in _cards(preset).items():
        for name, roof in card["roofline"].items():
            rows.append(
                {
                    "side": side,
                    "work": _label(name),
                    "GFLOP": f"{roof['flops'] / 1e9:.2f}",
                    "GB moved": f"{roof['bytes'] / 1e9:.2f}",
                    "of the throughput": f"{roof['throughput']:.0%}",
                    "of the bandwidth": f"{roof['bandwidth']:.0%}",
                }
            )
    machine = [
        f"{card['machine']['flops a second'] / 1e9:.0f} GFLOP/s and {card['machine']['bytes a second'] / 1e9:.0f} GB/s"
        for card in _cards(preset).values()
    ]
    return noted(rows, f"measured machine: {'; '.join(dict.fromkeys(machine))}; {_origin(preset)}", labelled=False)


def scaling_table(*, preset: str = "reduced") -> Table:
    """Wall time of the whole sweep by simulation from the recorded times, with so many workers."""
    jobs = plan.recorded(preset)
    alone = plan.wall_time(jobs, 1, start=START)
    rows = {}
    for workers in WORKERS:
        spent = plan.wall_time(jobs, workers, start=START)
        rows[workers] = {"hours": f"{spent / 3600:.1f}", "efficiency": f"{alone / spent / workers:.0%}"}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("workers")
    chain = plan.wall_time(jobs, len(jobs), start=START)
    note = f"{len(jobs)} results at {preset}, their recorded times on one thread, and {START:.0f} s a job to start"
    return noted(table, f"{note}; the longest chain takes {chain / 3600:.1f} h")
