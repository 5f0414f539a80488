"""What a detector may know, and a batch of images as it sees it."""

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attack.objectives import Distance
from ..explain.registry import Explainer
from ..nets.running import logits_of


@dataclass(frozen=True, eq=False)
class Scene:
    """What a detector may know: a net, how its maps are made, clean images, and how an attacker may come.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(8, 1, 8, 8)
    >>> detect.Scene(net, explain.gradient, known=x[:4], clean=x[4:]).eps
    0.1
    """

    model: nn.Module
    explainer: Explainer
    known: Tensor
    """Clean images (N, C, H, W) on which detectors are fitted."""
    clean: Tensor
    """Other clean images, on which thresholds are set."""
    sibling: nn.Module | None = None
    """Another net of the same kind."""
    eps: float = 0.1
    """Radius of the attack from which a learnt detector learns."""
    steps: int = 20
    """Steps of that attack."""
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """What was made of this before, by name."""

    def keep(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """What was kept under this name; `make()` makes it the first time."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]


class Look:
    """A batch of images as detectors see it: what several of them need is computed once, with a graph if x wants one.

    >>> import torch
    >>> from atexlib import detect, explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8).eval(), torch.rand(8, 1, 8, 8)
    >>> look = detect.Look(detect.Scene(net, explain.gradient, known=x[:4], clean=x[4:]), x[:2])
    >>> look.map.shape, look.target.shape, look.features.shape, [gaps.shape for gaps in look.gaps]
    (torch.Size([2, 1, 8, 8]), torch.Size([2]), torch.Size([2, 8]), [torch.Size([2, 64]), torch.Size([2, 16])])
    """

    def __init__(self, scene: Scene, x: Tensor) -> None:
        self.scene, self.x = scene, x

    @cached_property
    def _run(self) -> tuple[Tensor, list[Tensor], list[tuple[nn.MaxPool2d, Tensor]]]:
        """Logits, and what the linear layers and the max-poolings were given on the way to them."""
        given: list[Tensor] = []
        pooled: list[tuple[nn.MaxPool2d, Tensor]] = []

        def linear(_module: nn.Module, inputs: tuple) -> None:
            given.append(inputs[0])

        def pooling(module: nn.Module, inputs: tuple) -> None:
            pooled.append((module, inputs[0]))  # type: ignore[arg-type]

        with ExitStack() as stack, torch.set_grad_enabled(self.x.requires_grad):
            for module in self.scene.model.modules():
                hook = {nn.Linear: linear, nn.MaxPool2d: pooling}.get(type(module))
                if hook is not None:
                    stack.callback(module.register_forward_pre_hook(hook).remove)
            logits = logits_of(self.scene.model, self.x)
        return logits, given, pooled

    @property
    def logits(self) -> Tensor:
        """Of the net (B, classes)."""
        return self._run[0]

    @property
    def target(self) -> Tensor:
        """The predicted classes (B,), which are explained."""
        return self._run[0].detach().argmax(1)

    @property
    def features(self) -> Tensor:
        """What the last linear layer is given, or the logits of a net without one (B, F)."""
        logits, given, _ = self._run
        return given[-1].flatten(1) if given else logits

    @property
    def gaps(self) -> list[Tensor]:
        """For each max-pooling, by how much the largest entry of each window leads the next one (B, windows)."""
        return [_gaps(module, entries) for module, entries in self._run[2]]

    @cached_property
    def map(self) -> Tensor:
        """The map that is shown (B, C, H, W)."""
        return self.of(self.x)

    def of(self, z: Tensor, *, explainer: Explainer | None = None, model: nn.Module | None = None) -> Tensor:
        """The map of the predicted classes at images z, by another explainer or of another net if one is named."""
        explain = self.scene.explainer if explainer is None else explainer
        return explain(self.scene.model if model is None else model, z, self.target, create_graph=z.requires_grad)


def _gaps(module: nn.MaxPool2d, entries: Tensor) -> Tensor:
    size, step, edge = (value if isinstance(value, int) else value[0] for value in
                        (module.kernel_size, module.stride, module.padding))  # fmt: skip
    entries = F.pad(entries, (edge,) * 4, value=torch.finfo(entries.dtype).min / 4) if edge else entries
    windows = entries.unfold(2, size, step).unfold(3, size, step).flatten(4)
    first, second = windows.topk(2, dim=-1).values.unbind(-1)
    return (first - second).flatten(1)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """How unlike two batches of maps are: one minus the correlation of their absolute values, in [0, 2], (B,).

    >>> import torch
    >>> from atexlib import detect
    >>> maps = torch.eye(3)[:2, None, None]  # two maps of one row, each with one pixel
    >>> detect.apart(maps, maps.flip(0))
    tensor([1.5000, 1.5000])
    """
    return Distance()(a)(b)
