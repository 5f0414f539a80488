"""The graph of a net, by torch.fx: in eval mode, of the images alone, with the defaults of whatever else it takes."""

import inspect
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from .running import evaluating

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm)  # a subclass of one of these is one layer too


@dataclass(frozen=True)
class Trace:
    """A traced net: its graph, whose one input is the images, the node of each module's output, and its constants."""

    graph: fx.Graph
    outputs: dict[str, fx.Node]
    constants: dict[str, Any]
    """Tensors that the net's forward makes, by the names by which the graph asks for them."""


def trace(model: nn.Module, *, leaves: tuple[type[nn.Module], ...] = ()) -> Trace:
    """Follow an image through a net, without looking at its values.

    Layers of torch.nn and their subclasses, and modules of the types `leaves`, are one node each. What Python decides
    is decided as in eval mode, by the defaults of all arguments but the first: `forward(x, return_features=False)`.

    >>> from atexlib import nets
    >>> from atexlib.nets import tracing
    >>> [node.name for node in tracing.trace(nets.ConvNet()).graph.nodes][:3]
    ['x', 'conv1', 'pool']

    Raises:
        ValueError: a net that decides by the values of the images, or that does anything else that torch.fx cannot see.
    """
    tracer = _Tracer(leaves)
    before = vars(model).keys() | model._buffers.keys()
    try:
        with evaluating(model), _LOCK:
            graph = tracer.trace(model)
    except Exception as error:  # tracing runs the net's own code, which may fail in any way
        reason = re.sub(r" at 0x[0-9a-f]+", "", str(error))
        raise ValueError(f"{type(model).__name__} cannot be traced ({reason}).") from error
    finally:  # torch.fx leaves the tensors that a forward makes on the net, which is not ours
        left = (vars(model).keys() | model._buffers.keys()) - before
        constants = {name: getattr(model, name) for name in left}
        for name in left:
            delattr(model, name)
    return Trace(graph, tracer.outputs, constants)


_LOCK = threading.RLock()  # torch.fx changes nn.Module itself while it traces


class _Tracer(fx.Tracer):
    """Traces the calls of its own thread; the nets of all others run as if nothing were traced."""

    def __init__(self, leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.leaves, self.thread = leaves, threading.get_ident()
        self.outputs: dict[str, fx.Node] = {}

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list]:
        """The net and its images: what else its forward takes keeps the default that Python gives it."""
        name = list(inspect.signature(root_fn).parameters)[1]
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, (*LAYERS, *self.leaves))
        return known or super().is_leaf_module(m, module_qualified_name)

    def create_arg(self, a: Any) -> Any:
        """What an argument, or the net's answer, is in the graph; of an object that holds logits, these alone."""
        return super().create_arg(a if isinstance(a, fx.Proxy) else getattr(a, "logits", a))

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """A module's attribute."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        """A module's call: one node, or those inside; of what `torch.compile` made, those of what was compiled."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        compiled: Any = getattr(m, "_orig_mod", None)
        if compiled is not None:
            return compiled(*args, **kwargs)
        if getattr(m, "_compiled_call_impl", None):
            forward = m.forward
        if isinstance(m, nn.Sequential) and m not in self.root.modules():  # a part that was cut out: net[:4](x)
            return forward(*args, **kwargs)
        found = super().call_module(m, forward, args, kwargs)
        if isinstance(found, fx.Proxy):
            self.outputs[self.path_of_module(m)] = found.node
        return found
