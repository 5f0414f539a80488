"""The nets of the fooling experiment: small VGG19, ResNet50 and DenseNet121, on squares and on canvases."""

import torch
from torch import Tensor, nn

from ...data import DATASETS, padded, singles
from ...nets import MODELS, accuracy, fit, small
from ..engine import results
from ..engine.kinds import Metrics, Spec, kind, need
from ..engine.place import Place

DIVISOR = 8
BATCH = 64
LR = {"vgg19": 1e-3, "resnet50": 3e-3, "densenet121": 3e-3}  # batch norm takes larger steps
CANVAS_LR = 4  # the learning rate on canvases is one in so many of that on squares
CANVAS_EPOCHS = 1  # a net that knows single squares learns quickly that objects may lie left or right
SCENES = ("squares", "canvases")


def build(spec: Spec) -> nn.Module:
    """A family net of the right shape, its weights not drawn by a seed."""
    return small(spec["model"], channels=DATASETS[spec["dataset"]].shape[0], divisor=DIVISOR)


@kind(
    "family",
    keys={"model": MODELS, "scene": SCENES, "dataset": DATASETS},
    history=("first",),
    needs=lambda spec: [need({**spec, "kind": "family", "scene": "squares"})] if spec["scene"] == "canvases" else [],
    settings=lambda spec: (
        {"divisor": DIVISOR, "batch": BATCH, "lr": LR[spec["model"]]}
        | ({"canvas lr": CANVAS_LR, "canvas epochs": CANVAS_EPOCHS} if spec["scene"] == "canvases" else {})
    ),
    sizes="family_images family_epochs",
    canary=[
        {"model": "vgg19", "scene": "canvases", "dataset": "digits", "seed": 0},
        {"model": "vgg19", "scene": "squares", "dataset": "cifar10-jpeg", "seed": 0},
        *({"model": name, "scene": "squares", "dataset": "digits", "seed": 0} for name in ("resnet50", "densenet121")),
    ],
    build=build,
)
def family(spec: Spec, place: Place) -> tuple[nn.Module, Metrics]:
    """Train a net on squares, or train the one for squares on with single objects on canvases."""
    wide, generator = spec["scene"] == "canvases", place.generator()
    images, labels = scene(place, "train", spec["scene"])
    if wide:
        net = net_at(place, spec["model"], "squares")
    else:
        channels = images.shape[1]
        net = small(spec["model"], channels=channels, divisor=DIVISOR, generator=generator).to(place.dtype)
        net.to(memory_format=torch.channels_last)
    net = fit(
        net,
        (images[: place.size.family_images], labels[: place.size.family_images]),
        validation=scene(place, "validation", spec["scene"]),
        epochs=CANVAS_EPOCHS if wide else place.size.family_epochs,
        batch_size=BATCH,
        lr=LR[spec["model"]] / CANVAS_LR if wide else LR[spec["model"]],
        device=place.device,
        generator=generator,
        progress=place.progress,
    ).model
    return net, {
        f"{split} accuracy": accuracy(net, *scene(place, split, spec["scene"])) for split in ("validation", "test")
    }


def net_at(place: Place, model: str, scene: str) -> nn.Module:
    """A net of `nets.MODELS` at an eighth of its width, for squares or for canvases; made if it is not there."""
    return results.net_of({"kind": "family", "model": model, "scene": scene, **place.spec}, place)


def scene(place: Place, split: str, name: str) -> tuple[Tensor, Tensor]:
    """Images (N, C, 32, 32) of a split, or canvases (N, C, 32, 64) with one object each, and their labels."""

    def make() -> tuple[Tensor, Tensor]:
        images = place.images(split)
        squares = padded(images.images)
        wide = name == "canvases"
        return (singles(squares, generator=torch.Generator().manual_seed(0)) if wide else squares), images.labels

    return place.keep(("scene", split, name), make)
