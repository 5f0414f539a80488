"""VGG19, ResNet50 and DenseNet121 for small images: the published depths and blocks, a fraction of the widths.

Their full-size siblings, with or without pretrained weights, are `torchvision.models.vgg19` and so on.
"""

from collections import OrderedDict
from collections.abc import Callable

import lazy_loader
import torch
from torch import nn

from .. import checks

torchvision = lazy_loader.load("torchvision")  # it takes a second to import

STAGES_VGG19: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
STAGES_RESNET50 = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride of the first block
STAGES_DENSENET121 = (6, 12, 24, 16)  # dense layers in each block
GROWTH = 32  # channels that a layer of DenseNet121 adds
STEM = 64  # channels of the first convolution

# The modules to read LRP and Grad-CAM at: the deepest stage whose map has a quarter of the image's side.
LAYERS = {"vgg19": "features.17", "resnet50": "features.layer3", "densenet121": "features.denseblock3"}


def small(
    name: str,
    *,
    channels: int = 1,
    classes: int = 10,
    divisor: int = 8,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """A net of the published depth and block structure, its widths divided, for images of about 32 pixels.

    The stem has stride one and no pooling, and a global average comes before the last linear layer.

    >>> import torch
    >>> from atexlib import nets
    >>> nets.small("vgg19", channels=3, divisor=32).eval()(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Args:
        name: one of MODELS.
        channels: channels of the images.
        classes: number of logits.
        divisor: all widths are divided by this; a divisor of 32.
        generator: CPU generator of the initial weights (He et al. 2015); a new one with seed 0 if None.

    Returns:
        A net that takes images (B, channels, H, W), H and W at least 32, and returns logits (B, classes).

    Raises:
        ValueError: an unknown name; a width that would not be whole; a count below one.

    Source: Simonyan & Zisserman 2015; He et al. 2016; Huang et al. 2017.
    """
    checks.one_of("name", name, MODELS)
    for what, value in {"channels": channels, "classes": classes, "divisor": divisor}.items():
        checks.count(what, value)
    if GROWTH % divisor:
        raise ValueError(f"divisor is {divisor}; pass one by which {GROWTH} can be divided: 1, 2, 4, 8, 16 or 32.")
    net = MODELS[name](channels, classes, divisor)
    initialize(net, checks.generator(generator))
    return net


def vgg19(channels: int, classes: int, divisor: int) -> nn.Module:
    """Sixteen convolutions in five stages."""
    widths = [width // divisor if isinstance(width, int) else width for width in STAGES_VGG19]
    features = torchvision.models.vgg.make_layers(widths)
    features[0] = nn.Conv2d(channels, int(widths[0]), 3, padding=1)
    return _with_head(features, int(widths[-2]), classes)


def resnet50(channels: int, classes: int, divisor: int) -> nn.Module:
    """A stem and sixteen bottleneck blocks in four stages."""
    resnet, width = torchvision.models.resnet, STEM // divisor
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    stages: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    for number, (full, blocks, stride) in enumerate(STAGES_RESNET50, start=1):
        planes = full // divisor
        out = planes * resnet.Bottleneck.expansion
        shortcut = nn.Sequential(resnet.conv1x1(width, out, stride), nn.BatchNorm2d(out))
        first = resnet.Bottleneck(width, planes, stride, shortcut)
        stages[f"layer{number}"] = nn.Sequential(first, *(resnet.Bottleneck(out, planes) for _ in range(blocks - 1)))
        width = out
    return _with_head(nn.Sequential(stages), width, classes)


def densenet121(channels: int, classes: int, divisor: int) -> nn.Module:
    """A stem and 58 dense layers in four blocks."""
    stem = STEM // divisor
    sizes = {"growth_rate": GROWTH // divisor, "block_config": STAGES_DENSENET121, "num_init_features": stem}
    net = torchvision.models.DenseNet(**sizes, num_classes=classes)
    net.features.conv0 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
    net.features.pool0 = nn.Identity()
    return net


MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "vgg19": vgg19,
    "resnet50": resnet50,
    "densenet121": densenet121,
}


def _with_head(features: nn.Module, width: int, classes: int) -> nn.Module:
    parts = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(parts, head=nn.Linear(width, classes)))


def initialize(net: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of convolutions and linear layers anew (He et al. 2015); biases are zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
