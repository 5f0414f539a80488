"""Does the map outlive a little training that knows nothing of it?"""

from .accused import Suspect
from .registry import sign


@sign("retraining", label="maps that a little retraining changes")
def retraining(suspect: Suspect) -> float:
    """How far the maps move when a copy of the net is trained on for some steps, on its own predictions."""
    return suspect.moved(suspect.of(suspect.accused.retrained, suspect.accused.x)).mean().item()
