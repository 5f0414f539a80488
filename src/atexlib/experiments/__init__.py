"""Experiments: nets and result cards at the sizes of the presets, where they come from, and what they say."""

from .nets import DEFENSES, largest_committed, load_net, net_facts, net_name, save_net, train, trained
from .presets import PRESETS, Preset
from .runs import EXPERIMENTS, grid, load, run_all, run_or_load, status

__all__ = [
    "DEFENSES",
    "EXPERIMENTS",
    "PRESETS",
    "Preset",
    "grid",
    "largest_committed",
    "load",
    "load_net",
    "net_facts",
    "net_name",
    "run_all",
    "run_or_load",
    "save_net",
    "status",
    "train",
    "trained",
]
