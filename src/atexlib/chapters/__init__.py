"""What the chapters share: their first cells, the hint that an answer gets, the nets of a blind challenge, an exam.

>>> from atexlib import chapters
>>> chapters.begin(preset="smoke", dataset="digits", device="cpu", seed=0).test.name
'digits'
"""

from .challenge import Deal, challenge, deal
from .examination import Grade, exam, grade, nets_of, sit
from .hints import hint
from .real import RealSetting, begin_real
from .setting import Setting, begin

__all__ = [
    "Deal",
    "Grade",
    "RealSetting",
    "Setting",
    "begin",
    "begin_real",
    "challenge",
    "deal",
    "exam",
    "grade",
    "hint",
    "nets_of",
    "sit",
]
