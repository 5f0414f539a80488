"""What an attack leaves of the map of a logit, and of the part of it that a prediction can see."""

from ...data import DATASETS
from ...explain import gradient
from ...nets import Centred, predict
from ..engine.kinds import Metrics, Spec, kind
from ..engine.numbers import plain, summary
from ..engine.place import Place
from ..subjects import attacks, measure, nets
from .worst import DECIMALS, IMAGES

READINGS = {"": attacks.TWO, "noise ": ("noise",)}
SETTINGS = {"attacks": list(attacks.TWO), "k": measure.K, "decimals": DECIMALS, "images": IMAGES}


@kind(
    "centred",
    keys={"dataset": DATASETS, "defense": nets.TREATED, "eps": float},
    history=("first",),
    needs=nets.needs_net,
    settings=SETTINGS,
    sizes="images steps starts",
    canary=[{"dataset": "digits", "defense": "none", "eps": 0.1, "seed": 0}],
)
def centred(spec: Spec, place: Place) -> Metrics:
    """Each image's lowest value over two attacks, on the map of the logit and on that of the centred logit.

    Each map is attacked by itself: nothing is said of the other one's. `unseen` is the length of the part of the
    logit's gradient that all classes share, over the length of the whole.
    """
    model = nets.net_at(place, spec["defense"])
    images = place.images("test", min(IMAGES, place.size.images)).images.to(place.device)
    target = predict(model, images).argmax(1)
    whole, seen = (gradient(net, images, target).flatten(1) for net in (model, Centred(model)))
    unseen = (whole - seen).norm(dim=1) / whole.norm(dim=1)
    found: Metrics = {"unseen": summary(plain(unseen), decimals=DECIMALS)}
    for title, net in (("logit", model), ("centred logit", Centred(model))):
        each = attacks.each(net, images, place, eps=spec["eps"], names=(*attacks.TWO, "noise"))
        for reading, names in READINGS.items():
            for measured in ("spearman", "topk"):
                values = plain(attacks.lowest(each, names, measured))
                found[f"{title}, {reading}{measured}"] = summary(values, decimals=DECIMALS)
    return found
