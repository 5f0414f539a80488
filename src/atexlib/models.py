"""The nets: the paper's ConvNet with softplus units, and softplus in place of every ReLU of any other net."""

import copy
import functools
import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import checks, convolution


class ConvNet(nn.Module):
    """Two convolutions and two linear layers with softplus units; returns logits (B, classes).

    Convolutions 3x3 with padding 1 and `width` channels, each followed by softplus and 2x2 max-pooling; then `hidden`
    softplus units and the logits. `beta=None` puts ReLU units in place of softplus.

    Source: Tang et al. 2022, section 5 (the sizes are those of their published code).
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        side: int = 28,
        classes: int = 10,
        width: int = 32,
        hidden: int = 120,
        beta: float | None = 10.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"channels": channels, "classes": classes, "width": width, "hidden": hidden}.items():
            checks.count(name, value)
        checks.count("side", side, low=4)
        if beta is not None:
            checks.number("beta", beta, open_low=True)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.act1 = _unit(beta)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.act2 = _unit(beta)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(width * (side // 4) ** 2, hidden)
        self.act3 = _unit(beta)
        self.fc2 = nn.Linear(hidden, classes)
        if generator is not None:
            _reset(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, channels, side, side)."""
        x = self.pool(self.act1(self.conv1(x)))
        x = self.pool(self.act2(self.conv2(x)))
        return self.fc2(self.act3(self.fc1(x.flatten(1))))


class SoftplusReLU6(nn.Module):
    """The smooth counterpart of ReLU6: the difference of two softplus units, six apart."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Values in (0, 6), of x's shape."""
        return F.softplus(x, self.beta) - F.softplus(x - 6, self.beta)


def with_softplus(model: nn.Module, beta: float) -> nn.Module:
    """A copy of `model` with softplus(beta) in place of every ReLU and ReLU6; the original stays untouched.

    Modules are swapped on the copy. Functional ReLUs (`F.relu(x)`, `torch.relu(x)`, `x.relu_()`) are found by tracing
    the copy with `torch.fx`; only where there are some is the copy a `torch.fx.GraphModule`. Parameters keep their
    names.

    Args:
        model: any net; what contains functional ReLUs must be traceable.
        beta: sharpness of softplus(z) = log(1 + exp(beta z)) / beta, above 0; large is near to ReLU.

    Raises:
        ValueError: beta not above 0; a net that cannot be traced, so that functional ReLUs might be hidden in it.

    Source: Dombrowski et al. 2019, beta-smoothing.
    """
    checks.net("model", model)
    checks.number("beta", beta, open_low=True)
    try:
        twin = copy.deepcopy(model)
    except RuntimeError as error:  # as torch raises where a module keeps a tensor that has a graph
        raise ValueError(
            f"{type(model).__name__} cannot be copied ({error}); let its forward keep no tensors on the module."
        ) from error
    for parent in list(twin.modules()):
        for name, child in parent._modules.items():  # named_children leaves out the second use of one unit
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(parent, name, _unit(beta) if isinstance(child, nn.ReLU) else SoftplusReLU6(beta))
    if isinstance(twin, nn.ReLU | nn.ReLU6):
        return _unit(beta) if isinstance(twin, nn.ReLU) else SoftplusReLU6(beta)
    try:
        graph = _Tracer().trace(twin)
    except Exception as error:  # tracing runs the net's own code, which may fail in any way
        raise ValueError(
            f"{type(model).__name__} cannot be traced ({error}), so functional ReLUs may be hidden in it. Write its "
            "ReLUs as nn.ReLU modules in a net without data-dependent control flow."
        ) from error
    return _without_functional_relus(model, twin, graph, beta)


_FUNCTIONAL = {F.relu: 0, F.relu_: 0, torch.relu: 0, torch.relu_: 0, F.relu6: 6}
_METHODS = {"relu": 0, "relu_": 0}
_IN_PLACE = {F.relu_, torch.relu_, "relu_"}


class _Tracer(fx.Tracer):
    """Stops at softplus units; torch.fx already stops at every other layer of torch.nn."""

    def is_leaf_module(self, m: nn.Module, qualname: str) -> bool:
        return isinstance(m, SoftplusReLU6) or super().is_leaf_module(m, qualname)


def _without_functional_relus(model: nn.Module, twin: nn.Module, graph: fx.Graph, beta: float) -> nn.Module:
    """The twin of a model, with softplus in place of functional ReLUs too, and of what ReLUs do in place."""
    found = False
    order = {node: place for place, node in enumerate(graph.nodes)}

    def hand_on(node: fx.Node, value: fx.Node, new: fx.Node) -> bool:
        """Where what comes after a unit that works in place reads the unit's input: let it read the output instead."""
        return bool(value.replace_all_uses_with(new, lambda user: order.get(user, -1) > order[node]))

    for node in list(graph.nodes):
        unit = model.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(unit, nn.ReLU | nn.ReLU6) and unit.inplace:
            found |= hand_on(node, node.args[0], node)
        cap = _FUNCTIONAL.get(node.target) if node.op == "call_function" else None
        if node.op == "call_method":
            cap = _METHODS.get(node.target)
        if cap is None:
            continue
        found = True
        value = node.args[0] if node.args else node.kwargs["input"]
        with graph.inserting_before(node):
            smooth = graph.call_function(F.softplus, (value, beta))
            if cap:
                shifted = graph.call_function(F.softplus, (graph.call_function(operator.sub, (value, cap)), beta))
                smooth = graph.call_function(operator.sub, (smooth, shifted))
        node.replace_all_uses_with(smooth)
        if node.target in _IN_PLACE or node.kwargs.get("inplace", len(node.args) > 1 and node.args[1]):
            hand_on(node, value, smooth)
        graph.erase_node(node)
    return fx.GraphModule(twin, graph, type(twin).__name__) if found else twin


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C) of images (B, C, H, W); raise a ValueError if the model returns anything else."""
    checks.net("model", model)
    with checks.takes(model, x), sdpa_kernel(SDPBackend.MATH):  # the kind of attention that has second derivatives
        logits = model(x)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model returned {shape} for {len(x)} images; it must return logits (B, C).")
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put `model` in eval mode, and give each of its modules its own mode back afterwards, also after an error."""
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
    """
    checks.net("model", model)
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    layers = [module for module in model.modules() if type(module) is nn.Conv2d and "forward" not in vars(module)]
    tf32 = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = False
        model.requires_grad_(False)
        for layer in layers:
            layer.forward = functools.partial(convolution.with_fixed_weights, layer)
        with evaluating(model):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        for layer in layers:
            del layer.forward
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _unit(beta: float | None) -> nn.Module:
    return nn.ReLU() if beta is None else nn.Softplus(beta)


def _reset(model: nn.Module, generator: torch.Generator) -> None:
    """Draw torch's default initial values from `generator` rather than from the global one."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
