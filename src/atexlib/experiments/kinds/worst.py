"""The worst case of seven attacks, image by image; what noise alone does beside it."""

from ...data import DATASETS
from ...nets import accuracy
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets

IMAGES = 128
DECIMALS = 3  # of the values in a card
READINGS = {"": attacks.SEVEN, "two ": attacks.TWO, "noise ": ("noise",)}
SETTINGS = {
    **attacks.SETTINGS,
    "dither": measure.DITHER,
    "decimals": DECIMALS,
    "images": IMAGES,
    "readings": {name: list(names) for name, names in READINGS.items()},
}


@kind(
    "worst",
    keys={"dataset": DATASETS, "defense": nets.TREATED, "eps": float},
    history=("first", "the attack on ranks joined the six"),
    needs=nets.needs_net,
    settings=SETTINGS,
    sizes="images steps starts",
    canary=[{"dataset": "digits", "defense": "none", "eps": 0.1, "seed": 0}],
)
def worst(spec: Spec, place: Place) -> Metrics:
    """Each image's lowest value over seven attacks, for each measure by itself, and over two of them; noise beside it.

    `means` holds the mean of each attack alone.
    """
    model = nets.net_at(place, spec["defense"])
    images = place.images("test", min(IMAGES, place.size.images)).images.to(place.device)
    test = place.images("test")
    each = attacks.each(model, images, place, eps=spec["eps"], names=(*attacks.SEVEN, "noise"))
    found: Metrics = {"accuracy": accuracy(model, test.images, test.labels), "furthest": each["furthest"]}
    for reading, names in READINGS.items():
        for measured in ("spearman", "topk") if reading else attacks.COMPARED:
            values = plain(attacks.lowest(each, names, measured))
            found[f"{reading}{measured}"] = summary(values, decimals=DECIMALS)
    means = {name: {m: each[name][m].nanmean().item() for m in ("spearman", "topk")} for name in attacks.SEVEN}
    return found | {"means": means}
