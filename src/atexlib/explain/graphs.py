"""A net's graph as rules read it: one word for every spelling of a step, nothing in place, and never out of date."""

import copy
import functools
import inspect
import operator
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from .. import checks
from ..nets.running import logits_of
from ..nets.softplus import InPlaceSoftplus, SoftplusReLU6, as_in
from ..nets.tracing import LAYERS, trace

Values = dict[fx.Node, Any]
FEW = 2  # images on which a kept graph is compared with the net
IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv}
ALIASES = {
    "iadd": "add",
    "inplacesoftplus": "softplus",
    **dict.fromkeys(("isub", "subtract"), "sub"),
    **dict.fromkeys(("imul", "multiply"), "mul"),
    **dict.fromkeys(("truediv", "itruediv", "divide", "truedivide"), "div"),
    **dict.fromkeys(("concat", "concatenate"), "cat"),
    **dict.fromkeys(("clip", "clampmin", "clipmin"), "clamp"),
}
NO_SIGNAL = {"zeroslike", "oneslike", "fulllike", "newzeros", "newones", "newfull"}  # they take of x its shape alone
LIBRARIES = {None, "torch", "_operator", "builtins", "torchvision"}


class Net:
    """A traced net: its steps, what each of them takes of the image (its signals), and the node of each module."""

    def __init__(self, model: nn.Module) -> None:
        traced = trace(model, leaves=(SoftplusReLU6, InPlaceSoftplus))
        self.graph, self.outputs, self.modules = traced.graph, traced.outputs, dict(model.named_modules())
        self.constants = traced.constants
        nodes = list(self.graph.nodes)
        self.input = nodes[0]
        self.in_place = {node for node in nodes if self._works_in_place(node)}
        self.signals: set[fx.Node] = set()
        self.tuples: set[fx.Node] = set()

    def of(self, model: nn.Module | None) -> "Net":
        """The same net with the modules that a model has now; with none, to be kept without keeping the model alive."""
        twin = copy.copy(self)
        twin.modules = {} if model is None else dict(model.named_modules())
        return twin

    @property
    def logits(self) -> fx.Node:
        """The node of the logits, also where the net returns them with other things, as those of Hugging Face do."""
        found: Any = next(iter(reversed(self.graph.nodes))).args[0]
        return found["logits"] if isinstance(found, dict) else getattr(found, "logits", found)

    def module(self, node: fx.Node) -> nn.Module | None:
        """The layer that a node calls, None for functions and methods."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def word(self, node: fx.Node) -> str:
        """What a step does, in one word for all its spellings: "relu" of nn.ReLU, F.relu, x.relu_(); "" if unknown."""
        module, target = self.module(node), node.target
        name = target if node.op == "call_method" else ""
        if module is not None:
            name = next((kind for kind in LAYERS if isinstance(module, kind)), type(module)).__name__
        elif callable(target):
            room = getattr(target, "__module__", None)
            name = getattr(target, "__name__", "") if room is None or room.split(".")[0] in LIBRARIES else ""
        word = str(node.args[1] if name == "getattr" else name).replace("_", "").lower()
        return ALIASES.get(word, word)

    def name(self, node: fx.Node) -> str:
        """A step's name for a reader: a layer's name and type, or the function and the layer that it is in."""
        if node.op == "call_module":
            return f"{node.target} ({type(self.module(node)).__name__})"
        name = (
            node.target
            if isinstance(node.target, str)
            else getattr(node.target, "__name__", type(node.target).__name__)
        )
        *_, (where, kind) = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
        return f"{name} in {where} ({getattr(kind, '__name__', kind)})" if where else str(name)

    def arguments(self, node: fx.Node) -> list[fx.Node]:
        """The signals that a node takes, as often as it takes them."""
        found: list[fx.Node] = []
        shape_alone = self.word(node).endswith("as")  # x.view_as(y) takes of y its shape
        given = node.args[:1] if shape_alone else (node.args, node.kwargs)
        fx.node.map_arg(given, lambda n: found.append(n) if n in self.signals else None)
        return found

    def function(self, node: fx.Node, values: Values, sources: list[fx.Node]) -> Callable[..., Any]:
        """A step as a function of what these nodes give; what is taken out of tuples is a function of their sources."""

        def call(*given: Tensor) -> Any:
            known = dict(zip(sources, given, strict=True))

            def look(n: fx.Node) -> Any:
                if n in known:
                    return known[n]
                return self._run(n, look) if n in self.tuples else values[n]

            return self._run(node, look)

        return call

    def forward(self, x: Tensor) -> Values:
        """What each node gives for these images; nothing is done in place, since rules need what went into a step."""
        values: Values = {self.input: x}
        with as_in(self.modules[""]):
            for node in self.graph.nodes:
                if node.op not in ("placeholder", "output"):
                    values[node] = self._run(node, values.__getitem__)
        return values

    def follow(self, x: Tensor) -> None:
        """Find the signals, by how one batch goes through, and let what reads a value see what was done to it in place.

        Torch lets a value change under those who hold it: after `F.relu(h, True) + h` both terms are the unit's output.
        """
        values = self.forward(x)
        order = {node: place for place, node in enumerate(self.graph.nodes)}
        for node in order:
            value = values.get(node)
            parts = value if isinstance(value, tuple) else (value,)
            floats = any(isinstance(part, Tensor) and part.is_floating_point() for part in parts)
            heard = node is self.input or not self.signals.isdisjoint(node.all_input_nodes)
            if floats and heard and self.word(node) not in NO_SIGNAL:
                self.signals.add(node)
                if isinstance(value, tuple):
                    self.tuples.add(node)
            changed = _first(node)
            if node in self.in_place and isinstance(values.get(changed), Tensor):
                changed.replace_all_uses_with(node, lambda user, own=order[node]: order[user] > own)

    def _run(self, node: fx.Node, look: Callable[[fx.Node], Any]) -> Any:
        """What a node gives, if its arguments give what `look` says."""
        args, kwargs = cast("Any", fx.node.map_arg((node.args, node.kwargs), look))
        if node in self.in_place:
            args = tuple(a.clone() if i == 0 and isinstance(a, Tensor) else a for i, a in enumerate(args))
            kwargs = {k: a.clone() if k == "input" else a for k, a in kwargs.items()}
        target: Any = node.target
        if node.op == "get_attr" and target in self.constants:
            return self.constants[target]
        if node.op == "get_attr":
            return functools.reduce(getattr, target.split("."), self.modules[""])
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return (self.modules[target] if node.op == "call_module" else target)(*args, **kwargs)

    def _works_in_place(self, node: fx.Node) -> bool:
        """Whether a step writes on its first argument."""
        if node.op == "call_module":
            return bool(getattr(self.module(node), "inplace", False))
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.op not in ("call_method", "call_function") or node.target in IN_PLACE:
            return node.target in IN_PLACE
        if name.endswith("_") and not name.endswith("__"):
            return True
        with suppress(TypeError, ValueError):  # what is built in has no signature
            if node.op == "call_function":
                return bool(inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments.get("inplace"))  # type: ignore[arg-type]
        return bool(node.kwargs.get("inplace"))


def followed(model: nn.Module, x: Tensor) -> tuple[Net, Values]:
    """A net's graph, and what each of its nodes gives for these images (B, C, H, W).

    Tracing is slow, so a graph is kept, and what it gives for two of the images is compared with the net's own logits
    at each call: a net may decide otherwise than when it was traced. Only in loops that are `checks.trusted` is it
    taken as it is.

    Raises:
        ValueError: a net that cannot be traced, or that gives other logits when it is; images that it cannot take.
    """
    facts, (known, old) = _facts(model), _GRAPHS.get(model, (None, None))
    kept = old.of(model) if old is not None and known == facts else None
    if kept is not None and checks.is_trusted():
        with checks.takes(model, x):
            return kept, kept.forward(x)
    if kept is not None and _gives_the_same(kept, model, x[:FEW]):
        return kept, kept.forward(x)
    net = Net(model)
    with torch.no_grad():
        logits = logits_of(model, x)
        net.follow(x)
    values = net.forward(x)
    found = values[net.logits].detach()
    apart = torch.finfo(logits.dtype).eps ** 0.5 * logits.abs().max().item()  # of rounding alone
    if found.shape != logits.shape or not torch.allclose(found, logits, rtol=0, atol=apart, equal_nan=True):
        raise ValueError(
            f"{type(model).__name__} gives other logits when it is traced; its forward must not draw at random, nor "
            "change in place what it also holds under another name."
        )
    _GRAPHS[model] = facts, net.of(None)
    return net, values


@torch.no_grad()
def _gives_the_same(kept: Net, model: nn.Module, x: Tensor) -> bool:
    """Whether a kept graph gives the net's own logits bit for bit; an old one may fail in any way."""
    logits = logits_of(model, x)
    with suppress(Exception):
        return torch.equal(kept.forward(x)[kept.logits], logits)
    return False


_GRAPHS: weakref.WeakKeyDictionary[nn.Module, tuple[list, Net]] = weakref.WeakKeyDictionary()


def _facts(model: nn.Module) -> list:
    """What a forward may decide by: the types of a net's modules and their plain attributes."""
    plain = (bool, int, float, str, type(None))
    return [
        (name, type(module), {key: value for key, value in vars(module).items() if isinstance(value, plain)})
        for name, module in model.named_modules()
    ]


def _first(node: fx.Node) -> Any:
    """A node's first argument."""
    return node.args[0] if node.args else node.kwargs.get("input")
