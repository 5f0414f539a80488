"""Layer-wise relevance propagation, differentiable by the input and by the weights: epsilon rule and z+ rule.

A net is traced into its layers. A forward pass keeps what flows between them, then relevance flows back, layer by
layer, by the rule of each. Nothing is detached, so relevance has a gradient by x and by every weight.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .. import checks
from ..nets.convolution import FixedWeights, transpose
from ..nets.running import evaluating
from .gradients import Target, target_logits
from .graphs import Net, Values, followed
from .inside import BatchNorm, Call, ending_call, held
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

    Each step divides its relevance among what it takes, by one rule for all spellings (module, function, method):

    - linear layers: epsilon rule, in proportion to x_j w_jk;
    - convolutions: z+ (alpha 1, beta 0), with a batch norm that follows folded in;
    - sums, differences, means, average pools: in proportion to the terms;
    - max-pools and maxima: all to the winner;
    - reshapes, parts, concatenations, padding: back to the place it came from;
    - units, dropout, a batch norm that follows no convolution, a constant factor: passed on unchanged;
    - layer, group and instance norms: their standard deviation held fixed, then the epsilon rule;
    - a product of two signals: all to the signal, none to the gate, which is what comes out of a sigmoid or softmax, or
      else out of a bounded unit (ReLU6, tanh); a quotient: all to the numerator. Two gates, or none, are refused.

    Biases, and constants that are added or subtracted, absorb the share of relevance that is theirs.

    Args:
        model: net that returns logits (B, C), made of layers for which there is a rule.
        x: images (B, C, H, W), floats.
        target: class or classes to explain; the predicted class if None.
        create_graph: keep the graph, so that the map can be differentiated by x and by the weights.
        layer: read relevance at the output of the module of this name, at the input if None.

    Returns:
        Raw signed map, shape of x, or of that module's output.

    Raises:
        ValueError: x of a wrong shape, dtype or with nan; a target out of range; a net that cannot be traced; a layer
            without a rule, by its name, such as attention.

    Source: Bach et al. 2015; Montavon et al. 2019 for the composite of rules; Arras et al. 2019 for products
    (signal takes it all); Ali et al. 2022 for layer norms.
    """
    checks.batch("x", x)

    def start(logits: Tensor) -> Tensor:
        z = logits.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(target_logits(z, target).sum(), z)[0]

    with torch.set_grad_enabled(create_graph), nullcontext() if create_graph else FixedWeights():
        return relevance(model, x, start, layer=layer)


STABILIZER = 1e-6


def _words(text: str) -> set[str]:
    """The words by which `Net.word` calls steps of one kind."""
    return set(text.split())


UNITS = _words(
    "relu relu6 leakyrelu prelu rrelu elu selu celu gelu silu mish hardswish hardtanh hardsigmoid sigmoid softplus "
    "softplusrelu6 softsign tanh tanhshrink hardshrink softshrink threshold logsigmoid clamp abs erf neg"
)
DROPOUTS = _words(
    "identity dropout dropout1d dropout2d dropout3d alphadropout featurealphadropout dropblock2d stochasticdepth"
)
SHAPES = _words("flatten view viewas reshape reshapeas squeeze unsqueeze unflatten contiguous clone detach data")
NORMS = _words("batchnorm batchnorm1d batchnorm2d batchnorm3d syncbatchnorm rmsnorm")
PASSED = UNITS | DROPOUTS | SHAPES | NORMS
ROUTES = _words(
    "maxpool1d maxpool2d maxpool3d adaptivemaxpool1d adaptivemaxpool2d adaptivemaxpool3d amax amin max min maximum "
    "minimum values where permute transpose swapaxes swapdims movedim moveaxis t mt chunk split tensorsplit unbind "
    "getitem narrow select indexselect flip roll rot90 unfold pad constantpad2d zeropad2d reflectionpad2d "
    "replicationpad2d circularpad2d cat stack hstack vstack expand expandas repeat repeatinterleave tile broadcastto "
    "pixelshuffle pixelunshuffle channelshuffle to float double half bfloat16 type typeas"
)
SUMS = _words(
    "add sub rsub sum mean avgpool1d avgpool2d avgpool3d adaptiveavgpool1d adaptiveavgpool2d adaptiveavgpool3d "
    "interpolate upsample upsamplingnearest2d upsamplingbilinear2d fold cumsum"
)
MAPS = _words("linear matmul imatmul mm bmm einsum tensordot")  # linear, where one side is constant
HELD = _words("layernorm groupnorm instancenorm instancenorm1d instancenorm2d instancenorm3d")
ATTENTION = _words("multiheadattention scaleddotproductattention shiftedwindowattention")
GATES = _words("sigmoid hardsigmoid softmax softmax2d rsqrt reciprocal")
BOUNDED = _words("relu6 hardtanh tanh clamp erf")  # gates by hand, as relu6(x + 3) / 6
POSITIVE = _words("relu relu6 softplus softplusrelu6 sigmoid hardsigmoid softmax")
KEEPS_SIGN = DROPOUTS | SHAPES | _words("maxpool2d adaptivemaxpool2d avgpool2d adaptiveavgpool2d cat")
Shares = Iterable[tuple[fx.Node, Tensor]]


def relevance(model: nn.Module, x: Tensor, start: Callable[[Tensor], Tensor], *, layer: str | None = None) -> Tensor:
    """Relevance at the input, or at a named layer's output, that starts as `start(logits)` at the logits.

    The rules are those that `lrp` lists; each is found by what a step does, not by how it is spelled.

    Args:
        model: net that torch.fx can trace and that returns logits (B, C); it is looked at in eval mode.
        x: images (B, C, H, W).
        start: logits (B, C) -> relevance (B, C).
        layer: name of the module at whose output relevance is read; the input if None.

    Raises:
        ValueError: a net that cannot be traced, a step without a rule (by its name), such as attention, an unknown name
            of a layer.

    Source: as `lrp`.
    """
    with evaluating(model):
        net, values = followed(model, x)
        if layer is not None:
            checks.one_of("layer", layer, net.outputs)
        place = net.input if layer is None else net.outputs[layer]
        flows = {net.logits: start(values[net.logits])}
        for node in reversed(net.graph.nodes):
            if node is place and node in flows:
                return flows[node]
            if node in flows and node.op.startswith("call"):
                for source, share in _shares(net, node, values, flows.pop(node)):
                    flows[source] = flows[source] + share if source in flows else share
    raise ValueError(f"no relevance reaches the layer {layer!r}; pass one that lies between the images and the logits.")


def _shares(net: Net, node: fx.Node, values: Values, r: Tensor) -> Shares:
    """How a node's relevance is divided among the nodes it comes from; a ValueError if there is no rule."""
    word, terms = net.word(node), _terms(net, node)
    sources = list(dict.fromkeys(terms))
    x = [values[source] for source in sources]
    function = net.function(node, values, sources)
    if word in ("mul", "div"):
        kept = _signal(net, node)
        return [(kept, r.sum_to_size(values[kept].shape))]
    if len(terms) == 1:
        kept = sources[0]
        as_unit = word in ("max", "min", "maximum", "minimum") and values[node].shape == x[0].shape  # by a constant
        if as_unit or word in PASSED:
            return [(kept, r.reshape(x[0].shape))]
        if word == "conv2d":
            return [(kept, _convolved(net, node, values, r))]
        if word == "linear" and type(net.module(node)) is nn.Linear:
            return [(kept, epsilon(x[0], values[node], r, cast("nn.Linear", net.module(node))))]
        if word == "linear" and net.module(node) is not None:
            call = ending_call(function, x[0], F.linear)
            if call is None or call.input is not x[0]:
                raise _refusal(net, node)
        if word in MAPS:
            return zip(sources, proportional(x, r, function), strict=True)
        if word in HELD and (fixed := held(function, x)):
            return zip(sources, proportional(x, r, fixed), strict=True)
    if word in SUMS:
        return zip(sources, proportional(x, r, function), strict=True)
    if word in ROUTES:
        return zip(sources, winner(x, r, function), strict=True)
    raise _refusal(net, node)


def _refusal(net: Net, node: fx.Node, why: str = "") -> ValueError:
    """What to raise for a node without a rule."""
    word = net.word(node)
    if word in ATTENTION or (word in MAPS and len(net.arguments(node)) > 1):
        why = ", which takes more than x: the rule for attention is missing here."
    known = "; it knows convolutions, linear layers, norms, pooling, units, sums and gates."
    return ValueError(f"LRP has no rule for {net.name(node)}{why or known}")


def _terms(net: Net, node: fx.Node) -> list[fx.Node]:
    """The tensors of the image that a node takes, as often as it does; for a tuple those that the tuple was made of."""
    found = []
    for term in net.arguments(node):
        if term in net.tuples and net.word(term) not in ROUTES:
            raise _refusal(net, term)
        found += _terms(net, term) if term in net.tuples else [term]
    return found


def _signal(net: Net, node: fx.Node) -> fx.Node:
    """The factor of a product, or of a quotient, that takes all the relevance."""
    factors = [*node.args, *node.kwargs.values()][:2]
    signals = [factor for factor in factors if isinstance(factor, fx.Node) and factor in net.signals]
    if net.word(node) == "div":
        signals = signals[:1] if signals[0] is factors[0] else []
    for kinds in (GATES, BOUNDED) if len(signals) == 2 else ():
        others = [factor for factor in signals if not _is_gate(net, factor, kinds)]
        if len(others) == 1:
            return others[0]
    if len(signals) != 1:
        product = ": of two factors that depend on the image exactly one must be a gate."
        quotient = ": what divides a constant must not depend on the image."
        raise _refusal(net, node, product if signals else quotient)
    return signals[0]


def _is_gate(net: Net, node: fx.Node, kinds: set[str]) -> bool:
    """Whether a node gives what such a unit lets out, at most reshaped, summed or scaled on its way."""
    word, terms = net.word(node), net.arguments(node)
    passed = word in DROPOUTS | SHAPES | ROUTES | SUMS | {"mul", "div"} and terms
    return word in kinds or bool(passed and all(_is_gate(net, term, kinds) for term in terms))


def _is_positive(net: Net, node: fx.Node) -> bool:
    """Whether what a node gives is certainly not below zero: a unit's output, pooled or not."""
    word = net.word(node)
    low = node.kwargs.get("min", node.args[1] if len(node.args) > 1 else None)
    if word == "clamp" and isinstance(low, int | float):
        return low >= 0
    return word in POSITIVE or (word in KEEPS_SIGN and all(_is_positive(net, term) for term in node.all_input_nodes))


def _convolved(net: Net, node: fx.Node, values: Values, r: Tensor) -> Tensor:
    """A convolution's relevance by z+; what is done to x before it, such as padding, takes it back to its place."""
    (source,) = net.arguments(node)
    x, layer, norm = values[source], net.module(node), _norm_after(net, node, values)
    signed = not _is_positive(net, source)
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return z_plus(x, r, layer, norm, signed=signed)
    function = net.function(node, values, [source])
    call = ending_call(function, x, F.conv2d)
    if call is None:
        raise _refusal(net, node)
    if call.input is x:
        return z_plus(x, r, call, norm, signed=signed)
    found = z_plus(call.input, r, call, norm)
    return winner([x], found, lambda x: cast("Call", ending_call(function, x, F.conv2d)).input)[0]


def _norm_after(net: Net, node: fx.Node, values: Values) -> nn.Module | BatchNorm | None:
    """The batch norm by fixed statistics that a convolution's output goes to, if it goes nowhere else."""
    after, *others = node.users
    module = net.module(after)
    if others or not (isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) or after.target is F.batch_norm):
        return None
    if module is not None:
        return None if getattr(module, "running_mean", None) is None else module
    args, kwargs = cast("Any", fx.node.map_arg((after.args[1:], after.kwargs), values.__getitem__))
    norm = BatchNorm(*args, **{key: value for key, value in kwargs.items() if key != "input"})
    return None if norm.training else norm


def epsilon(x: Tensor, z: Tensor, out: Tensor, layer: nn.Linear) -> Tensor:
    """Epsilon rule: relevance in proportion to x_j w_jk of the whole sum z, bias included."""
    return x * F.linear(out / _stable(z), layer.weight.T)


def z_plus(
    x: Tensor,
    out: Tensor,
    layer: nn.Conv2d | Call,
    norm: nn.Module | BatchNorm | None = None,
    *,
    signed: bool = True,
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
    if isinstance(layer.padding, str):
        return cast("Tensor", sum(a * _transposed(lambda x, w=w: conv(x, w), [a], s)[0] for a, w in parts))
    return cast("Tensor", sum(a * transpose(s, w, x.shape, cast("nn.Conv2d", layer)) for a, w in parts))


def proportional(x: list[Tensor], out: Tensor, pool: Callable[..., Tensor]) -> list[Tensor]:
    """A sum's or a mean's relevance, divided among its terms in proportion to them; constants keep their share."""
    return [a * b for a, b in zip(x, _transposed(pool, x, out / _stable(pool(*x))), strict=True)]


def winner(x: list[Tensor], out: Tensor, pool: Callable[..., Tensor]) -> Sequence[Tensor]:
    """A maximum's relevance, all of it to the entry that won; of what only moves entries, each to its old place."""
    return _transposed(pool, x, out)


def _folded(layer: Any, norm: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution and of the batch norm after it, as one convolution."""
    if norm is None:
        return layer.weight, layer.bias
    mean, scale = norm.running_mean, (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    bias = -mean if layer.bias is None else layer.bias - mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    return layer.weight * scale.view(-1, 1, 1, 1), bias


def _transposed(linear: Callable[..., Tensor], like: list[Tensor], s: Tensor) -> Sequence[Tensor]:
    """The transpose of a linear function, applied to s: differentiable by s and by the function's weights."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        points = [a.detach().requires_grad_() for a in like]
        return torch.autograd.grad(linear(*points), points, s, create_graph=keep)


def _stable(z: Tensor) -> Tensor:
    """z, moved away from zero by STABILIZER, upwards at zero itself."""
    return z + STABILIZER * (2 * (z >= 0).to(z) - 1)
