"""Where an audit's numbers come from: the net, the images and the packages."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable

import torch
from torch import Tensor, nn

PACKAGES = ("atexlib", "torch", "torchvision", "numpy")


def weights(model: nn.Module) -> int:
    """How many weights a net has."""
    return sum(weight.numel() for weight in model.parameters())


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Sixteen hex digits that change with any value."""
    digest = hashlib.sha256()
    for tensor in (value for value in tensors if isinstance(value, Tensor)):  # a net may keep other things, too
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())  # type: ignore[arg-type]
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of the packages; where the library was installed from a repository also its commit."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        origin = json.loads(importlib.metadata.distribution("atexlib").read_text("direct_url.json") or "{}")
        if "vcs_info" in origin:
            found["commit of atexlib"] = origin["vcs_info"]["commit_id"]
    return found
