"""Judging a net's explanations: an audit by attacks, faithfulness, average and worst-case stability.

>>> import torch
>>> from atexlib import judge, nets
>>> judge.average_case(nets.ConvNet(), torch.rand(2, 1, 28, 28), radius=0.1, samples=2).value.shape
torch.Size([2])
"""

from .audit import audit
from .card import Audit, Subject, load_card, save_card
from .entry import Entry, check_entry, read_entry
from .faithfulness import area, blurred_gradient, deletion, insertion
from .judging import Judgement, judge, load_judgement
from .likeness import likeness
from .outsider import made_by
from .signs import SIGNS, suspicion
from .stability import Stability, average_case, max_min, min_max
from .suite import SUITES
from .verdict import Verdict, verdicts

__all__ = [
    "SIGNS",
    "SUITES",
    "Audit",
    "Entry",
    "Judgement",
    "Stability",
    "Subject",
    "Verdict",
    "area",
    "audit",
    "average_case",
    "blurred_gradient",
    "check_entry",
    "deletion",
    "insertion",
    "judge",
    "likeness",
    "load_card",
    "load_judgement",
    "made_by",
    "max_min",
    "min_max",
    "read_entry",
    "save_card",
    "suspicion",
    "verdicts",
]
