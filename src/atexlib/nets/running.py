"""The one place through which nets are called: in eval mode, frozen, batch by batch."""

import itertools
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import checks
from .convolution import FixedWeights

PIXELS = 204_800  # of the images in a net at once on a CPU: 261 images of 28 x 28
BYTES = 2**14  # of a GPU's memory for a pixel
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
STEADY = 1e-4  # of the largest logit, by which rounding may move one


def plain(model: nn.Module, *, name: str = "model") -> nn.Module:
    """The net itself, out of what `torch.compile` or `nn.DataParallel` put around it.

    >>> from torch import nn
    >>> from atexlib import nets
    >>> net = nets.ConvNet()
    >>> nets.plain(nn.DataParallel(net)) is net
    True

    Raises:
        ValueError: what is no net; a net that holds parts made by torch.jit, in which no hook can read.
    """
    checks.net(name, model)
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        inner = getattr(model, "_orig_mod", None) or model.module
        model = cast("nn.Module", inner)
    for part, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"the part {part!r} of the {name}" if part else f"the {name}"
            raise ValueError(
                f"{where} was made by torch.jit, which nothing can look into; pass the net it was made of."
            )
    return model


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C) of images (B, C, H, W), at least two an image: the place through which every net is called.

    An object or a dict that holds them as `logits`, as those of Hugging Face do, will do. The net is given a copy of
    the images, on which it may write.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> nets.logits_of(net, x).shape
    torch.Size([2, 10])

    Raises:
        ValueError: images that the net cannot take; what is no logits (B, C), is not finite, or is probabilities.
    """
    checks.net("model", model)
    with checks.takes(model, x), sdpa_kernel(SDPBackend.MATH):  # the kind of attention that has second derivatives
        logits = model(x.clone())
    if isinstance(logits, tuple):  # before `.logits`, which such a tuple may have too
        raise ValueError(
            f"the model returned {type(logits).__name__} for {len(x)} images; it must return logits (B, C) alone. "
            "GoogLeNet and Inception have auxiliary outputs in train mode: build them with aux_logits=False, or set "
            "net.aux_logits = False."
        )
    if isinstance(logits, Mapping):
        logits = logits.get("logits", logits)
    logits = getattr(logits, "logits", logits)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model returned {shape} for {len(x)} images; it must return logits (B, C).")
    if logits.shape[1] < 2:
        raise ValueError(
            "the model returned one logit an image; a map explains one class against others, so return two: "
            "torch.cat([-z, z], 1)."
        )
    checks.logits(logits.detach())
    watched = _WATCHED.get()
    if watched is not None and watched[0] is model and watched[1] is x:
        watched[2].append(logits)
    return logits


@contextmanager
def watching(model: nn.Module, x: Tensor) -> Iterator[list[Tensor]]:
    """What `logits_of` returns for this net and these very images while this is entered, so that none come twice.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> from atexlib.nets import running
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8).requires_grad_()
    >>> with running.watching(net, x) as seen:
    ...     maps = explain.gradient(net, x, create_graph=True)
    >>> [logits.shape for logits in seen]
    [torch.Size([2, 10])]
    """
    seen: list[Tensor] = []
    outside = _WATCHED.set((model, x, seen))
    try:
        yield seen
    finally:
        _WATCHED.reset(outside)


_WATCHED: ContextVar[tuple[nn.Module, Tensor, list[Tensor]] | None] = ContextVar("watched", default=None)
_LOCK = threading.RLock()
_HELD: "weakref.WeakKeyDictionary[nn.Module, list]" = weakref.WeakKeyDictionary()  # by how many, and its own mode
_TF32: list[bool] = []  # what was set before, once for each that wants it off
_STANCES: list[Any] = []  # likewise of torch.compile


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put `model` in eval mode, and give each of its modules its own mode back afterwards, also after an error.

    Several may look at one net at once, from several threads: the last one gives the modes back. Autocast is off
    meanwhile, and compiled parts run as they were written. On a GPU convolutions use full float32 precision: with TF32
    a small change of an image would be lost in rounding, and maps and labels be judged at ten bits.

    >>> import torch
    >>> from atexlib import nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> with nets.evaluating(net.train()):
    ...     inside = net.training
    >>> inside, net.training
    (False, True)

    Raises:
        ValueError: what is no net; batch norm that in eval mode, too, lets the images of a batch change each other.
    """
    checks.net("model", model)
    modules = list(model.modules())
    _check_norms(model)
    with ExitStack() as stack:
        _hold(model, modules)
        stack.callback(_release, modules)
        for kind in {"cpu", *(weight.device.type for weight in itertools.islice(model.parameters(), 1))}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if any(hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) for module in modules):
            stack.enter_context(_as_written())
        yield model


@contextmanager
def _as_written() -> Iterator[None]:
    """Compiled parts run as they were written, in all threads, until the last one that asked for it is done."""
    with _LOCK:
        _STANCES.append(_STANCES[-1] if _STANCES else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _LOCK:
            stance = _STANCES.pop()
            if not _STANCES:
                stance.__exit__(None, None, None)


def _hold(model: nn.Module, modules: list[nn.Module]) -> None:
    with _LOCK:
        modes = [(module, module.training) for module in modules]
        if model.training or any(mode for _, mode in modes):
            model.eval()
        for module, mode in modes:
            _HELD.setdefault(module, [0, mode])[0] += 1
        _TF32.append(torch.backends.cudnn.allow_tf32)
        torch.backends.cudnn.allow_tf32 = False


def _release(modules: list[nn.Module]) -> None:
    with _LOCK:
        before = _TF32.pop()
        if not _TF32:
            torch.backends.cudnn.allow_tf32 = before
        for module in modules:
            held = _HELD[module]
            held[0] -= 1
            if not held[0]:
                module.training = held[1]
                del _HELD[module]


def _check_norms(model: nn.Module) -> None:
    """Raise where batch norm has no statistics of its own, so that it takes those of the batch in eval mode too."""
    for name, module in model.named_modules():
        if isinstance(module, NORMS) and module.running_mean is None:
            raise ValueError(
                f"layer {name!r} ({type(module).__name__}) normalises by the statistics of the batch, in eval mode "
                "too, so each image changes its neighbours' maps; build it with track_running_stats=True."
            )


@torch.no_grad()
def check_steady(model: nn.Module, x: Tensor) -> None:
    """Raise unless a net says the same of an image when asked twice, and alone as among others.

    >>> import torch
    >>> from atexlib.nets import running
    >>> running.check_steady(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), torch.rand(2, 1, 2, 2))

    Args:
        model: net that returns logits (B, C).
        x: images (B, C, H, W); two of them are looked at.

    Raises:
        ValueError: logits that are random, or that depend on the other images of a batch.
    """
    if checks.is_trusted():
        return
    few = x[:2] if len(x) > 1 else torch.cat([x, x.flip(-1)])
    with frozen(model), checks.trusted():  # what is wrong with the logits themselves is said of all images, elsewhere
        first, again = logits_of(model, few), logits_of(model, few)
        try:
            alone = torch.cat([logits_of(model, image) for image in few.split(1)])
        except ValueError as error:
            raise ValueError(
                f"{type(model).__name__} takes images together, in eval mode, but none alone: it uses the statistics "
                f"of the batch. Let it look at one image at a time. ({error})"
            ) from error
    allowed = max(STEADY, 64 * torch.finfo(first.dtype).eps) * (1 + first.abs().max())
    if (again - first).abs().max() > allowed:
        raise ValueError(
            f"{type(model).__name__} returns other logits when it is asked again, in eval mode: it draws random "
            "numbers. Let its dropout heed the mode, F.dropout(x, p, training=self.training)."
        )
    if (alone - first).abs().max() > allowed:
        raise ValueError(
            f"{type(model).__name__} returns other logits for an image alone than among others, in eval mode: it uses "
            "the statistics of the batch. Let it look at one image at a time."
        )


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
    return int((logits.argmax(1) == labels.to(logits.device)).sum()) / len(labels)


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
    model = plain(model)
    with frozen(model), checks.trusted():  # all logits are looked at together, so that the error can number the images
        logits = torch.cat([logits_of(model, batch.to(device)) for batch in batches])
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
