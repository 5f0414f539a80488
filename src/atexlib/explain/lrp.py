"""Layer-wise relevance propagation, differentiable by the input and by the weights: epsilon rule and z+ rule.

A net is traced into its layers. A forward pass keeps what flows between them, then relevance flows back, layer by
layer, by the rule of each. Nothing is detached, so relevance has a gradient by x and by every weight.
"""

import operator
import weakref
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .. import checks
from ..nets.convolution import FixedWeights, transpose
from ..nets.running import evaluating, logits_of
from ..nets.softplus import SoftplusReLU6
from .gradients import Target, target_logits
from .registry import explainer


@explainer(label="LRP", signed=True, reads_layer=True)
def lrp(
    model: nn.Module, x: Tensor, target: Target = None, *, create_graph: bool = False, layer: str | None = None
) -> Tensor:
    """Layer-wise relevance propagation: the class's relevance, one at its logit, passed back to the pixels.

    >>> import torch
    >>> from atexlib import explain, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> explain.lrp(net, x).shape, explain.lrp(net, x, layer="conv1").shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2, 4, 8, 8]))

    Args:
        model: net that returns logits (B, C), made of the layers for which `relevance` has a rule.
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated by x and by the weights.
        layer: read relevance at the output of the module of this name, at the input if None.

    Returns:
        Raw signed map, shape of x, or of that module's output.

    Raises:
        ValueError: x of a wrong shape, dtype or with nan; a target out of range; a layer without a rule.

    Source: Bach et al. 2015; the rules are those of `relevance`.
    """
    checks.batch("x", x)

    def start(logits: Tensor) -> Tensor:
        z = logits.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(target_logits(z, target).sum(), z)[0]

    with torch.set_grad_enabled(create_graph), nullcontext() if create_graph else FixedWeights():
        return relevance(model, x, start, layer=layer)


STABILIZER = 1e-6
UNITS = (nn.ReLU, nn.ReLU6, nn.Softplus, SoftplusReLU6)
UNIT_FUNCTIONS = {F.relu, torch.relu, F.softplus, "relu"}
PASS = (*UNITS, nn.Dropout, nn.Identity, nn.Flatten)
PASS_FUNCTIONS = {*UNIT_FUNCTIONS, F.dropout, torch.flatten, "flatten", "view", "reshape"}
ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
POOLS = {F.adaptive_avg_pool2d, F.avg_pool2d}
Values = dict[fx.Node, Tensor]


def relevance(model: nn.Module, x: Tensor, start: Callable[[Tensor], Tensor], *, layer: str | None = None) -> Tensor:
    """Relevance at the input, or at a named layer's output, that starts as `start(logits)` at the logits.

    Linear layers follow the epsilon rule, convolutions z+ (alpha 1, beta 0), with a batch norm that follows folded in.
    Averages and additions share relevance in proportion, a max-pool gives all of it to the winner, concatenations take
    it apart. Units, dropout, reshapes, and a batch norm that follows no convolution, pass it on unchanged.

    Args:
        model: net that torch.fx can trace and that returns logits (B, C); it is looked at in eval mode.
        x: images (B, C, H, W).
        start: logits (B, C) -> relevance (B, C).
        layer: name of the module at whose output relevance is read; the input if None.

    Raises:
        ValueError: a net that cannot be traced, a layer without a rule (by its name), an unknown name of a layer.

    Source: Bach et al. 2015; Montavon et al. 2019 for the composite of rules.
    """
    with evaluating(model):
        return _relevance(model, x, start, layer)


def _relevance(model: nn.Module, x: Tensor, start: Callable[[Tensor], Tensor], layer: str | None) -> Tensor:
    net = _traced(model, x)
    if layer is not None:
        checks.one_of("layer", layer, net.outputs)
    place = net.input if layer is None else net.outputs[layer]
    with checks.takes(model, x):
        values = _forward(net, x)
    flows: Values = defaultdict(float)  # type: ignore[arg-type]
    flows[net.logits] = start(values[net.logits])
    for node in reversed(net.graph.nodes):
        if node is place and node in flows:
            return flows[node]
        if node in flows and node.op.startswith("call"):
            for source, share in net.rule(node)(values, flows.pop(node)):
                flows[source] = flows[source] + share
    raise ValueError(f"no relevance reaches the layer {layer!r}; pass one that lies between the images and the logits.")


class _Tracer(fx.Tracer):
    """Notes which node is the output of each module, containers too."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, fx.Node] = {}

    def is_leaf_module(self, m: nn.Module, qualname: str) -> bool:
        return isinstance(m, PASS) or super().is_leaf_module(m, qualname)

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> fx.Proxy:
        found = super().call_module(m, forward, args, kwargs)
        if isinstance(found, fx.Proxy):
            self.outputs[self.path_of_module(m)] = found.node
        return found


def _trace(model: nn.Module) -> tuple[fx.Graph, dict[str, fx.Node]]:
    tracer = _Tracer()
    try:
        return tracer.trace(model), tracer.outputs
    except Exception as error:  # tracing runs the net's own code, which may fail in any way
        raise ValueError(
            f"{type(model).__name__} cannot be traced ({error}); LRP needs a net without control flow by data."
        ) from error


class _Net:
    """A traced net: its graph, the node of each module's output, and the rule of each node."""

    def __init__(self, modules: dict[str, nn.Module], graph: fx.Graph, outputs: dict[str, fx.Node]) -> None:
        self.modules, self.graph, self.outputs = modules, graph, outputs
        nodes = list(graph.nodes)
        self.input = nodes[0]
        self.logits = nodes[-1].args[0]

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def norm_after(self, node: fx.Node) -> fx.Node | None:
        """The batch norm that a convolution's output goes to, if it goes nowhere else."""
        users = list(node.users)
        norm = self.module(users[0]) if len(users) == 1 else None
        return users[0] if isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats else None

    def is_positive(self, node: fx.Node) -> bool:
        """Whether what a node gives cannot be below zero: a unit's output, pooled or not."""
        module = self.module(node)
        if isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            return self.is_positive(cast("fx.Node", node.args[0]))
        return isinstance(module, UNITS) or node.target in UNIT_FUNCTIONS

    def rule(self, node: fx.Node) -> Callable[[Values, Tensor], list[tuple[fx.Node, Tensor]]]:
        """How a node's relevance is divided among the nodes it comes from; a ValueError if there is no rule."""
        module = self.module(node)
        source: Any = node.args[0] if node.args else None
        function: Any = node.target
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            after = self.norm_after(node)
            norm = cast("nn.BatchNorm2d | None", self.module(after) if after else None)
            signed = not self.is_positive(source)
            return lambda v, r: [(source, z_plus(v[source], r, module, norm, signed=signed))]
        if isinstance(module, nn.Linear):
            return lambda v, r: [(source, epsilon(v[source], v[node], r, module))]
        if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d) or node.target in POOLS:
            pool = module or (lambda x: function(x, *node.args[1:], **node.kwargs))
            return lambda v, r: [(source, proportional(v[source], r, pool))]
        if isinstance(module, nn.MaxPool2d):
            return lambda v, r: [(source, winner(v[source], r, module))]
        if node.target in ADDITIONS and len(node.args) == 2 and not node.kwargs:
            return lambda v, r: _added(node.args, v, r)
        if node.target is torch.cat:
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            sizes = lambda v: [v[part].shape[axis] for part in source]  # noqa: E731
            return lambda v, r: list(zip(source, r.split(sizes(v), axis), strict=True))
        if isinstance(module, (*PASS, nn.BatchNorm2d)) or node.target in PASS_FUNCTIONS:
            return lambda v, r: [(source, r.reshape(v[source].shape))]
        what = f"{node.target} ({type(module).__name__})" if module else str(node.target)
        raise ValueError(f"LRP has no rule for {what}; it knows convolutions, linear layers, pooling, units and sums.")


_GRAPHS: weakref.WeakKeyDictionary[nn.Module, tuple] = weakref.WeakKeyDictionary()


def _traced(model: nn.Module, x: Tensor) -> _Net:
    """The traced net; tracing is slow, so the graph is kept for as long as the net has the same modules."""
    modules = dict(model.named_modules())
    kinds = [(name, type(module)) for name, module in modules.items()]
    if model not in _GRAPHS or _GRAPHS[model][0] != kinds:
        with torch.no_grad():
            logits = logits_of(model, x)
            net = _Net(modules, *_trace(model))
            if not torch.allclose(_forward(net, x)[net.logits], logits, rtol=1e-3, atol=1e-3):
                raise ValueError(f"{type(model).__name__} gives other logits when it is traced; avoid layers in place.")
        _GRAPHS[model] = kinds, (net.graph, net.outputs)
    return _Net(modules, *_GRAPHS[model][1])


def _forward(net: _Net, x: Tensor) -> Values:
    """What each node gives for these images; no layer works in place, since the rules need what went into it."""
    values: Values = {}
    look = lambda a: fx.node.map_arg(a, lambda node: values[node])  # noqa: E731
    for node in net.graph.nodes:
        args, kwargs = look(node.args), {k: v for k, v in look(node.kwargs).items() if k != "inplace"}
        if node.op == "placeholder" and node is net.input:
            values[node] = x
        elif node.op in ("placeholder", "get_attr"):
            raise ValueError(
                f"LRP has no rule for {node.target}: a net takes images alone, and adds no constant to them. To "
                "normalise images, begin with nn.BatchNorm2d(channels, affine=False, eps=0)."
            )
        elif node.op == "call_module":
            module: Any = net.module(node)
            if len(args) != 1 or kwargs:
                raise ValueError(f"LRP has no rule for {node.target} ({type(module).__name__}): it takes more than x.")
            values[node] = module(args[0].clone() if getattr(module, "inplace", False) else args[0])
        elif node.op == "call_function":
            function = torch.add if node.target in ADDITIONS else node.target
            values[node] = function(*args, **kwargs)
        elif node.op == "call_method":
            values[node] = getattr(args[0], node.target.rstrip("_"))(*args[1:], **kwargs)
    return values


def epsilon(x: Tensor, z: Tensor, out: Tensor, layer: nn.Linear) -> Tensor:
    """Epsilon rule: relevance in proportion to x_j w_jk of the whole sum z, bias included."""
    return x * F.linear(out / _stable(z), layer.weight.T)


def z_plus(
    x: Tensor, out: Tensor, layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None, *, signed: bool = True
) -> Tensor:
    """Rule z+ (alpha 1, beta 0): relevance in proportion to the positive x_j w_jk; `norm` is folded in.

    Unless x is `signed` there is nothing below zero in it, and half of the work.
    """
    weight, bias = _folded(layer, norm)

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    parts = [(x.clamp(min=0) if signed else x, weight.clamp(min=0))]
    z = conv(*parts[0], None if bias is None else bias.clamp(min=0))
    if signed:
        parts.append((x.clamp(max=0), weight.clamp(max=0)))
        z = z + conv(*parts[1])
    s = out / (z + STABILIZER)  # nothing in z is below zero
    return cast("Tensor", sum(a * transpose(s, w, x.shape, layer) for a, w in parts))


def proportional(x: Tensor, out: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """A mean's relevance, divided among its terms in proportion to them."""
    return x * _transposed(pool, x, out / _stable(pool(x)))


def winner(x: Tensor, out: Tensor, pool: nn.MaxPool2d) -> Tensor:
    """A maximum's relevance, all of it to the entry that won."""
    return _transposed(pool, x, out)


def _added(terms: tuple, values: Values, out: Tensor) -> list[tuple[fx.Node, Tensor]]:
    """A sum's relevance, divided between the two terms in proportion to them; what is a number keeps its share."""
    given = [values[term] if isinstance(term, fx.Node) else term for term in terms]
    s = out / _stable(given[0] + given[1])
    pairs = zip(terms, given, strict=True)
    return [(term, (value * s).sum_to_size(value.shape)) for term, value in pairs if isinstance(term, fx.Node)]


def _folded(layer: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution and of the batch norm after it, as one convolution."""
    if norm is None:
        return layer.weight, layer.bias
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = (variance + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    bias = -mean if layer.bias is None else layer.bias - mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    return layer.weight * scale.view(-1, 1, 1, 1), bias


def _transposed(linear: Callable[[Tensor], Tensor], like: Tensor, s: Tensor) -> Tensor:
    """The transpose of a linear function, applied to s: differentiable by s and by the function's weights."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        point = like.detach().requires_grad_()
        return torch.autograd.grad(linear(point), point, s, create_graph=keep)[0]


def _stable(z: Tensor) -> Tensor:
    """z, moved away from zero by STABILIZER, upwards at zero itself."""
    return z + STABILIZER * (2 * (z >= 0).to(z) - 1)
