"""Stability as the papers define it, and faithfulness beside its control: maps that rank the pixels at random."""

import torch

from ...data import DATASETS
from ...explain import gradient
from ...judge import area, average_case, deletion, insertion, max_min, min_max
from ...nets import predict
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import measure, nets
from .worst import DECIMALS

IMAGES = 64
ROUNDS = 2  # in which the attacker answers a scale, and the scale the attacker
SAMPLES = 32  # random neighbours of an image
SETTINGS = {"images": IMAGES, "rounds": ROUNDS, "samples": SAMPLES, "decimals": DECIMALS}


@kind(
    "definitions",
    keys={"dataset": DATASETS, "defense": nets.TREATED, "eps": float},
    history=("first",),
    needs=nets.needs_net,
    settings=SETTINGS,
    sizes="images steps starts",
    canary=[{"dataset": "digits", "defense": "none", "eps": 0.1, "seed": 0}],
)
def definitions(spec: Spec, place: Place) -> Metrics:
    """Average case and Definition 1, each over the length of the clean map; deletion and insertion, and by chance.

    `max min` lets the scale answer each shift, `min max` holds one scale against all shifts, as printed; a search finds
    lower bounds of both. `deletion` and `insertion` are areas; `by chance` are those of a random order of the pixels.
    """
    model = nets.net_at(place, spec["defense"])
    images = place.images("test", min(IMAGES, place.size.images)).images.to(place.device)
    generator = place.generator()
    worst = {"eps": spec["eps"], "steps": place.size.steps, "starts": place.size.starts, "generator": generator}
    few = average_case(model, images, radius=spec["eps"], samples=SAMPLES, generator=generator)
    batches = images.split(measure.BATCH)
    found = {"average case": few.relative}
    found["max min"] = torch.cat([max_min(model, x, **worst).relative for x in batches])
    found["min max"] = torch.cat([min_max(model, x, rounds=ROUNDS, **worst).relative for x in batches])
    target = predict(model, images).argmax(1)
    maps = gradient(model, images, target)
    chance = torch.rand(maps.shape, generator=generator).to(maps)
    for curve in (deletion, insertion):
        for title, ranked in {"": maps, ", by chance": chance}.items():
            found[f"{curve.__name__}{title}"] = area(curve(model, images, ranked, target))
    return {name: summary(plain(values), decimals=DECIMALS) for name, values in found.items()}
