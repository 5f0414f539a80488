"""How strong each later defence may be: what its trials cost in accuracy, on validation images."""

from ...data import DATASETS
from ...defend import DEFENSES
from ...nets import accuracy
from ..engine.kinds import Metrics, Spec, kind
from ..engine.place import Place
from ..subjects import nets

TRIED = {name: chosen for name, chosen in DEFENSES.items() if chosen.strength}


def of_strength(defense: str, strength: float) -> dict[str, float]:
    """The setting that says how strong a defence is, at a value."""
    return {str(TRIED[defense].strength): strength}


@kind(
    "trial",
    keys={"dataset": DATASETS, "defense": TRIED, "strength": float},
    history=("first",),
    needs=lambda spec: [("undefended", nets.undefended_spec(spec))],
    settings=lambda spec: nets.made_by(spec["defense"], of_strength(spec["defense"], spec["strength"])),
    sizes="defense_images batch_size",
    canary=[{"dataset": "digits", "defense": "gradient_norm", "strength": 1.0, "seed": 0}],
)
def trial(spec: Spec, place: Place) -> Metrics:
    """Accuracy on validation images of the undefended net, and of one that was defended at this strength."""
    base, held = nets.base_net(place), place.images("validation")
    settings = {**TRIED[spec["defense"]].settings, **of_strength(spec["defense"], spec["strength"])}
    nets_by_name = {"undefended": base, "accuracy": nets.defend(base, spec["defense"], settings, place)}
    return {name: accuracy(net, held.images, held.labels) for name, net in nets_by_name.items()}
