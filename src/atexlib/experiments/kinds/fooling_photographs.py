"""The second paper's fooling at the size of photographs, on a reader's own folder in ImageNet's layout.

The pictures, and all weights but one net's, are the reader's. So no results of this kind come with the library.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...attack import LOSSES as ALL_LOSSES
from ...attack import shown_maps
from ...data.folder import read_picture, to_square
from ...data.photos import ENDINGS
from ...explain import described, find
from ...explain.layers import resolved
from ...nets import efficientnet_lite0, predict
from ...nets.efficientnet import Normalization
from ..engine.kinds import Metrics, Spec, kind
from ..engine.place import Place
from . import fooling

FOLDER = "ATEXLIB_IMAGENET"  # the environment variable that names the folder of `train` and `val`
SIDE = 224
BATCH = 8  # images a step, for the cross entropy and for the lie
SEEN = 64  # images of the fooling that are judged too
FEWEST = 4  # pictures in `val`
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the images that torchvision's nets take
LOSSES = tuple(name for name in ALL_LOSSES if name != "active")  # that one wants pictures which hold two classes
# Learning rate and weight of each loss, in the order of LOSSES, from the authors' code.
POINTS: dict[str, dict[str, Sequence[tuple[float, float]]]] = {
    "vgg19": {"lrp": ((1e-6, 1.0), (5e-7, 1.0), (2e-6, 0.25)), "grad_cam": ((1e-6, 1.0), (3e-7, 0.4), (1e-6, 0.25))},
    "resnet50": {"lrp": ((2e-6, 2.0), (1e-6, 1.0), (5e-7, 0.25)), "grad_cam": ((2e-6, 2.0), (3e-6, 6.0), (2e-6, 0.25))},
    "densenet121": {
        "lrp": ((1e-6, 4.0), (4e-7, 1.5), (6e-7, 0.5)),
        "grad_cam": ((2e-6, 2.0), (3e-7, 4.0), (1e-7, 1.0)),
    },
}
STAND_IN = {"model": "resnet50", "explainer": "lrp"}  # whose points serve what the authors' code has none for


def from_torchvision(name: str) -> nn.Module:
    """A net of torchvision with its first ImageNet weights, for images in [0, 1]; downloaded if they are not there.

    Raises:
        ValueError: the weights cannot be downloaded, or their file is not the published one.
    """
    from torchvision.models import get_model, get_model_weights  # a second to import: here, not above

    weights: Any = get_model_weights(name)["IMAGENET1K_V1"]
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if file.exists():
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest[:8] not in file.stem:  # the published names end in it
            raise ValueError(f"{file} is not the published file: its SHA-256 is {digest[:12]}...; delete it.")
    try:
        weights.get_state_dict(check_hash=True, weights_only=True)  # fetched, and known to hold nothing but weights
        net = get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"torchvision's weights of {name} cannot be had ({error}); download {weights.url} elsewhere, and put the "
            f"file there: {file}."
        ) from error
    return nn.Sequential(OrderedDict(normalize=Normalization(MEAN, SPREAD), net=net)).eval()


NETS: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(from_torchvision, name) for name in POINTS},
    "efficientnet_lite0": partial(efficientnet_lite0, pretrained=True),
}
KEYS = {"model": NETS, "explainer": fooling.KEYS["explainer"], "loss": LOSSES}


def point_of(spec: Spec) -> tuple[float, float]:
    """Learning rate and weight: those of the authors' code, else those that STAND_IN names."""
    rows = POINTS.get(spec["model"], POINTS[STAND_IN["model"]])
    return rows.get(spec["explainer"], rows[STAND_IN["explainer"]])[LOSSES.index(spec["loss"])]


def _settings(spec: Spec) -> dict[str, Any]:
    lr, weight = point_of(spec)
    return {"lr": lr, "weight": weight, "batch": BATCH, "side": SIDE, "ruined": fooling.RUINED}


@kind(
    "fooling_photographs", keys=KEYS, history=("first",), settings=_settings, sizes="defense_images images fool_steps"
)
def fooling_photographs(spec: Spec, place: Place) -> Metrics:
    """Fool a net for photographs on pictures of `train`, and judge it on those of `val`.

    `success`, `dead`, `dead before`, `test loss`, `spearman`, `ssim`: of the explainer that was fooled, image by image.
    `seen NAME`: the same on images that the fooling saw. `control NAME`: on those of `val`, of a net trained for as
    long without a lie. `right before`, `right after`: images of `val` classified rightly; `accuracy lost` with its
    interval. `pictures`: how many, and a fingerprint of their names and sizes. `reads`: where the explainer looks.

    Raises:
        ValueError: a folder, classes, pictures or weights that are not as they must be.
    """
    loss, (lr, weight), model = spec["loss"], point_of(spec), spec["model"]
    scene, pictures = place.keep(("photographs", model), lambda: _scene(model, place))
    where = {"explainer": spec["explainer"], "layer": None, "classes": None}
    options: dict[str, Any] = {"size": place.size, "place": place, "batch": BATCH, "fool_batch": BATCH, "lr": lr}
    fooled = fooling.fool_scene(scene, loss=loss, weight=weight, **where, **options)
    honest = {"loss": "location", "explainer": "gradient", "weight": 0.0, **options}
    control = place.keep(("control", model, lr), lambda: fooling.fool_scene(scene, **honest).model)
    few = (scene.fool_set[0][:SEEN], scene.fool_set[1][:SEEN])
    compared = {"seen": (few, fooled.model), "control": (scene.judged, control)}
    more: dict[str, Any] = {}
    for prefix, (images, net) in compared.items():
        before, after = (shown_maps(one, *images, **where) for one in (scene.model, net))
        more |= {f"{prefix} {name}": values for name, values in fooling.measures(before, after, loss).items()}
    return {
        "curve": fooled.history,
        "stopped": fooled.stopped,
        **fooling.outcome(scene, fooled.model, loss, where),
        **more,
        "pictures": pictures,
        "reads": described(resolved(find(spec["explainer"]), scene.model, scene.judged[0][:1])),
    }


def _scene(model: str, place: Place) -> tuple[fooling.Scene, dict[str, Any]]:
    """The net and the images of an experiment, and what they are, in words and numbers; refused before any work."""
    folder, names = folder_and_classes()
    net = NETS[model]().to(place.device)
    many = predict(net, torch.zeros(1, 3, SIDE, SIDE, device=place.device)).shape[1]
    if many != len(names):
        raise ValueError(
            f"{folder / 'train'} has {len(names)} class folders, but {model} knows {many} classes; make a folder for "
            "each, named so that their order by name is that of the net. One may be empty."
        )
    (train, watched, judged), told = place.keep(("pictures", folder), lambda: _pictures(folder, names, place))
    return fooling.Scene(net, train, train, watched, watched, watched, judged, judged), told


def folder_and_classes() -> tuple[Path, list[str]]:
    """The folder that ATEXLIB_IMAGENET names, and the names of its classes in order.

    Raises:
        ValueError: it is not set, or not of ImageNet's layout.
    """
    named = os.environ.get(FOLDER)
    if not named:
        raise ValueError(f"{FOLDER} is not set; set it to a folder with train/CLASS/*.jpg and val/CLASS/*.jpg in it.")
    folder = Path(named).expanduser()
    found = {}
    for split in ("train", "val"):
        if not (folder / split).is_dir():
            raise ValueError(f"{folder / split} is not a folder; {FOLDER} must name one that holds train and val.")
        entries = (entry for entry in os.scandir(folder / split) if entry.is_dir())
        found[split] = sorted(entry.name for entry in entries if entry.name[0] != ".")
    odd = sorted(set(found["train"]) ^ set(found["val"]))
    if odd:
        raise ValueError(f"train and val of {folder} differ in the class folder {odd[0]!r}; make it in both.")
    return folder, found["train"]


def _pictures(
    folder: Path, names: Sequence[str], place: Place
) -> tuple[list[tuple[Tensor, Tensor]], dict[str, int | str]]:
    """Images and labels to fool on, to watch and to judge, drawn by the seed; how many, and their fingerprint."""
    size, generator = place.size, place.generator()
    chosen = {}
    for split, fewest in {"train": 1, "val": FEWEST}.items():
        found = [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted((folder / split / name).iterdir())
            if path.suffix.lower() in ENDINGS and path.name[0] != "."
        ]
        if len(found) < fewest:
            raise ValueError(f"{folder / split} holds {len(found)} pictures; put {fewest} or more into its folders.")
        chosen[split] = [found[number] for number in torch.randperm(len(found), generator=generator).tolist()]
    judged = min(size.images, len(chosen["val"]) // 2)
    parts = {
        "train": chosen["train"][: min(size.defense_images, BATCH * size.fool_steps)],  # no more than the steps see
        "watched": chosen["val"][judged : judged + min(judged, fooling.WATCHED)],
        "val": chosen["val"][:judged],
    }
    lines = [f"{p.relative_to(folder).as_posix()} {p.stat().st_size}" for files in parts.values() for p, _ in files]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    told: dict[str, int | str] = {name: len(files) for name, files in parts.items()}
    square, read = to_square(SIDE), []
    for name, files in parts.items():
        images = torch.empty(len(files), 3, SIDE, SIDE)  # filled one by one: at full size two copies are many gigabytes
        for row, (path, _) in zip(images, tqdm(files, f"reading {name}", disable=not place.progress), strict=True):
            row.copy_(square(read_picture(str(path))))
        read.append((images.to(place.device), torch.tensor([label for _, label in files], device=place.device)))
    return read, {**told, "fingerprint": digest}
