"""What detectors may know at a place: a net, its sibling of another seed, validation images."""

from collections.abc import Collection

from ...data import DATASETS
from ...detect import Scene
from ...explain import gradient
from ..engine import results
from ..engine.kinds import Need, Spec, need
from ..engine.place import Place
from . import nets

KNOWN = 512  # validation images on which detectors are fitted, or a sixth of them
CLEAN = 128  # further ones that set the thresholds
STEPS = 20  # of the attack from which detectors learn
SETTINGS = {"known": KNOWN, "clean": CLEAN, "learning steps": STEPS}
KEYS: dict[str, Collection[str] | type] = {"dataset": DATASETS, "defense": nets.TREATED}


def sibling(spec: Spec) -> dict[str, object]:
    """The net of another seed that a spec's detectors may ask, as a spec."""
    return nets.net_spec({**spec, "seed": (spec["seed"] + 1) % 3})


def needs_both(spec: Spec) -> list[Need]:
    """A spec's net and its sibling."""
    return [*nets.needs_net(spec), need(sibling(spec))]


def scene(spec: Spec, place: Place) -> Scene:
    """The scene of a spec; what was fitted in it is kept at the place."""

    def make() -> Scene:
        images = place.images("validation").images.to(place.device)
        known = min(KNOWN, len(images) // 6)
        return Scene(
            nets.net_at(place, spec["defense"]),
            gradient,
            known=images[:known],
            clean=images[known : known + CLEAN],
            sibling=results.net_of(sibling({**spec, **place.spec}), place),
            eps=spec["eps"],
            steps=min(STEPS, place.size.steps),
        )

    return place.keep(("scene", spec["defense"], spec["eps"]), make)
