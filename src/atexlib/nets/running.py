"""The one place through which nets are called: in eval mode, frozen, batch by batch."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import checks
from . import convolution


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C) of images (B, C, H, W); raise a ValueError if the model returns anything else.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> nets.logits_of(net, x).shape
    torch.Size([2, 10])
    """
    checks.net("model", model)
    with checks.takes(model, x), sdpa_kernel(SDPBackend.MATH):  # the kind of attention that has second derivatives
        logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model returned {shape} for {len(x)} images; it must return logits (B, C).")
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put `model` in eval mode, and give each of its modules its own mode back afterwards, also after an error.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> with nets.evaluating(net.train()):
    ...     inside = net.training
    >>> inside, net.training
    (False, True)
    """
    checks.net("model", model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put `model` in eval mode with no parameter asking for gradients, and give everything back afterwards.

    This makes second derivatives by the input cheaper, as no gradient of a weight is computed. On a GPU convolutions
    use full float32 precision meanwhile: with TF32 a small change of an image would be lost in rounding.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> with nets.frozen(net):
    ...     inside = net.fc1.weight.requires_grad
    >>> inside, net.fc1.weight.requires_grad
    (False, True)
    """
    checks.net("model", model)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    layers = [module for module in model.modules() if type(module) is nn.Conv2d and "forward" not in vars(module)]
    tf32 = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = False
        model.requires_grad_(False)
        for layer in layers:
            layer.forward = functools.partial(convolution.with_fixed_weights, layer)  # type: ignore[method-assign]
        with evaluating(model):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        for layer in layers:
            del layer.forward
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 250) -> float:
    """Share of the images whose predicted class is their label, in [0, 1].

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> nets.accuracy(net, x, nets.predict(net, x).argmax(1))
    1.0
    """
    checks.batch("images", images)
    checks.labels("labels", labels, size=len(images))
    logits = predict(model, images, batch_size=batch_size)
    checks.labels("labels", labels, size=len(images), classes=logits.shape[1])
    return (logits.argmax(1) == labels.to(logits.device)).double().mean().item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, *, batch_size: int = 250) -> Tensor:
    """Logits (N, C) of images (N, C, H, W), in eval mode, batch by batch on the model's device.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> nets.predict(net, x, batch_size=1).shape
    torch.Size([2, 10])
    """
    checks.batch("images", images)
    checks.count("batch_size", batch_size)
    checks.net("model", model)
    device = next(model.parameters(), images).device
    with evaluating(model):
        return torch.cat([logits_of(model, batch.to(device)) for batch in images.split(int(batch_size))])


def of_class(values: Tensor, target: Tensor) -> Tensor:
    """The entry of each row's class: values (B, C) and classes (B,) to (B,).

    >>> import torch
    >>> from atexlib import nets
    >>> nets.of_class(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]))
    tensor([2., 3.])
    """
    return values.gather(1, target.unsqueeze(1))[:, 0]
