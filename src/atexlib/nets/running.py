"""The one place through which nets are called: in eval mode, frozen, batch by batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import checks
from .convolution import FixedWeights

PIXELS = 204_800  # of the images in a net at once on a CPU: 261 images of 28 x 28
BYTES = 2**14  # of a GPU's memory for a pixel


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C) of images (B, C, H, W), at least two an image; a ValueError if the model returns anything else.

    An object that holds them as `logits`, as those of Hugging Face do, will do.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> nets.logits_of(net, x).shape
    torch.Size([2, 10])
    """
    checks.net("model", model)
    with checks.takes(model, x), sdpa_kernel(SDPBackend.MATH):  # the kind of attention that has second derivatives
        logits = model(x)
    logits = getattr(logits, "logits", logits)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model returned {shape} for {len(x)} images; it must return logits (B, C).")
    if logits.shape[1] < 2:
        raise ValueError(
            "the model returned one logit an image; a map explains one class against others, so return two: "
            "torch.cat([-z, z], 1)."
        )
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put `model` in eval mode, and give each of its modules its own mode back afterwards, also after an error.

    On a GPU convolutions use full float32 precision meanwhile: with TF32 a small change of an image would be lost in
    rounding, and maps and labels be judged at ten bits.

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
    tf32 = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = False
        yield model.eval()
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        for module, mode in modes:
            module.training = mode


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Look at `model` in eval mode with its weights, and those of all other nets, as constants.

    This makes second derivatives by the input cheaper, as no gradient of a weight is computed. The modes are given back
    afterwards; nothing else of the net is touched.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> with nets.frozen(net):
    ...     inside = net(x).requires_grad
    >>> inside, net(x).requires_grad
    (False, True)
    """
    with evaluating(model), FixedWeights():
        yield


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int | None = None) -> float:
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
def predict(model: nn.Module, images: Tensor, *, batch_size: int | None = None) -> Tensor:
    """Logits (N, C) of images (N, C, H, W), in eval mode, batch by batch on the model's device.

    Unless a batch size is given, a batch holds as many images as `that_fit`.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> nets.predict(net, x, batch_size=1).shape
    torch.Size([2, 10])
    """
    checks.batch("images", images)
    if batch_size is not None:
        checks.count("batch_size", batch_size)
    checks.net("model", model)
    device = next(model.parameters(), images).device
    batches = images.split(int(batch_size or that_fit(images, device)))
    with frozen(model):
        # A copy of each batch: some nets write on the images that they are given.
        logits = torch.cat([logits_of(model, batch.to(device, copy=True)) for batch in batches])
    checks.logits(logits)
    return logits


def that_fit(images: Tensor, device: torch.device) -> int:
    """How many of such images a net should see at once on a device.

    On a CPU about 200,000 pixels: of more, what a wide layer makes no longer fits a cache, and is given back to the
    system after each use. On a GPU as many as its free memory holds, at 16 KB a pixel.

    >>> import torch
    >>> from atexlib.nets import running
    >>> running.that_fit(torch.rand(1, 3, 224, 224), torch.device("cpu"))
    4
    """
    pixels = images[0, 0].numel()
    if device.type == "cuda":
        return max(1, int(torch.cuda.mem_get_info(device)[0] // (BYTES * pixels)))
    return max(1, PIXELS // pixels)


def of_class(values: Tensor, target: Tensor) -> Tensor:
    """The entry of each row's class: values (B, C) and classes (B,) to (B,).

    >>> import torch
    >>> from atexlib import nets
    >>> nets.of_class(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0]))
    tensor([2., 3.])
    """
    return values.gather(1, target.unsqueeze(1))[:, 0]
