"""Signs that a net was made to show false maps: each a function of net, images and explainer -> one number."""

from . import copies, faith, manifold, shown, weights
from .accused import Accused, Suspect
from .reading import Reading, read
from .registry import SIGNS, Sign, sign, suspicion

__all__ = [
    "SIGNS",
    "Accused",
    "Reading",
    "Sign",
    "Suspect",
    "copies",
    "faith",
    "manifold",
    "read",
    "shown",
    "sign",
    "suspicion",
    "weights",
]
