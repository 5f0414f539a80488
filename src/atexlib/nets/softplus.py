"""Softplus units in place of every ReLU of any net: beta-smoothing."""

import copy
import operator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .. import checks


class SoftplusReLU6(nn.Module):
    """The smooth counterpart of ReLU6: the difference of two softplus units, six apart.

    >>> import torch
    >>> from atexlib import nets
    >>> nets.SoftplusReLU6(beta=20)(torch.tensor([-3.0, 3.0, 9.0])).round()
    tensor([0., 3., 6.])
    """

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

    >>> from torch import nn
    >>> from atexlib import nets
    >>> nets.with_softplus(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), beta=10)[1]
    Softplus(beta=10, threshold=20.0)

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
                setattr(parent, name, unit(beta) if isinstance(child, nn.ReLU) else SoftplusReLU6(beta))
    if isinstance(twin, nn.ReLU | nn.ReLU6):
        return unit(beta) if isinstance(twin, nn.ReLU) else SoftplusReLU6(beta)
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


def unit(beta: float | None) -> nn.Module:
    """A softplus unit, or for None a ReLU."""
    return nn.ReLU() if beta is None else nn.Softplus(beta)
