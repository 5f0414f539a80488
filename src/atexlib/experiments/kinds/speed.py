"""How fast the library is: side by side in one process with what a user would take instead, equality first."""

import copy
import functools
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from tqdm import tqdm

from ... import attack, explain, maps
from ...nets import ConvNet, predict
from ..engine.kinds import Metrics, Spec, kind
from ..engine.place import Place

SIDES = {"28": (1, 256), "224": (3, 8)}  # channels and images
FEWER = {"canary": 64, "smoke": 16, "quick": 4}  # at these presets a part of the images
ROUNDS = {"canary": 1, "smoke": 1, "quick": 3, "reduced": 5, "paper": 15}
SAMPLES, POINTS = 25, 32  # of SmoothGrad, of integrated gradients
EPS, STEPS = 0.1, 20  # of FGSM and PGD
SIZES = (1, 2, 4, 8)  # memory and time at these parts of the images
K = 50
FEW = 4  # images whose values are compared in float64
ATTACKED = 64  # at once, as in the tables


@dataclass(frozen=True)
class Work:
    """The same thing done by the library and by a peer, and how far apart their values may be."""

    peer: str
    ours: Callable[[Tensor], Any]
    theirs: Callable[[Tensor], Any]
    equal: Callable[[Tensor], float]
    """How far apart the two are: the largest difference over the largest value, or a share of images."""


@kind(
    "speed",
    keys={"side": SIDES},
    history=("first",),
    settings=lambda spec: {
        "images": SIDES[spec["side"]][1] // FEWER.get(spec["preset"], 1),
        "rounds": ROUNDS[spec["preset"]],
        "samples": SAMPLES,
        "points": POINTS,
        "steps": STEPS,
        "parts": list(SIZES),
    },
    canary=[{"side": "28", "seed": 0}],
    varies=frozenset(["difference", "seconds", "roofline", "machine", "parts", "step"]),
)
def speed(spec: Spec, place: Place) -> Metrics:
    """Seconds of both, round by round, and how far apart their values are; memory, growth, share of the machine.

    Both take turns, so that a slow moment of the machine hits both. The net is the ConvNet with random weights.
    """
    channels, count = SIDES[spec["side"]]
    side = int(spec["side"])
    generator = place.generator()
    net = ConvNet(side=side, channels=channels, generator=generator).to(place.device).eval()
    x = torch.rand(max(1, count // FEWER.get(spec["preset"], 1)), channels, side, side, generator=generator)
    try:
        works, x = _works(net), x.to(place.device)
    except ImportError as error:
        wanted = "pip install captum zennit foolbox scipy scikit-image"
        raise ValueError(f"{error.name} is missing, against which the library is timed; {wanted}.") from error
    machine = _machine(place.device)
    rounds = ROUNDS[spec["preset"]]
    found: Metrics = {"difference": {}, "peer": {}, "seconds": {}, "parts": {}, "roofline": {}, "machine": machine}
    bar = tqdm(total=len(works), desc="speed", disable=not place.progress)
    for name, work in works.items():
        gc.collect()
        found["peer"][name] = work.peer
        found["difference"][name] = work.equal(x)
        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(rounds + 1):  # the first warms up
            for who, run in (("ours", work.ours), ("theirs", work.theirs)):
                spent = _seconds(run, x)
                times[who] += [round(spent, 6)] if turn else []
        found["seconds"][name] = times
        found["roofline"][name] = _roofline(work.ours, x, min(times["ours"]), machine)
        found["parts"][name] = _parts(work.ours, x)
        bar.update()
    bar.close()
    names = tqdm(explain.available(), desc="steps", disable=not place.progress)
    found["step"] = {name: _step(net, x, name, rounds) for name in names}
    return found


def _works(net: nn.Module) -> dict[str, Work]:
    return _explainers(net, compared=copy.deepcopy(net).double()) | _attacks(net) | _measures()


def _explainers(net: nn.Module, *, compared: nn.Module | None = None) -> dict[str, Work]:
    """Explainers of a net; their values are those of `compared`, a twin of it in float64, on a few images."""
    from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, NoiseTunnel, Saliency
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonPlus

    def classes(x: Tensor) -> Tensor:
        return _classes(net, x)

    def work(name: str, peer: str, ours: Callable[..., Tensor], theirs: Callable[..., Tensor], **exact: Any) -> Work:
        """With the options `exact` both give the same numbers: captum draws noise of its own."""

        def equal(x: Tensor) -> float:
            if twins is not None:  # in float32 rounding may decide which of four pixels is the largest
                return twins[name].equal(x[:FEW].double())
            return _difference(ours(net, x, classes(x), **exact), theirs(x, classes(x), **exact))

        return Work(peer, lambda x: ours(net, x, classes(x)), lambda x: theirs(x, classes(x)), equal)

    twins = None if compared is None else _explainers(compared)
    saliency, line, cam = Saliency(net), IntegratedGradients(net), LayerGradCam(net, net.conv2)
    tunnel = NoiseTunnel(saliency)

    def noisy(x: Tensor, y: Tensor, *, sigma: float = 0.1) -> Tensor:
        options = {"nt_type": "smoothgrad", "nt_samples": SAMPLES, "stdevs": sigma}
        return tunnel.attribute(x.detach().requires_grad_(), target=y, abs=False, **options)

    def enlarged(x: Tensor, y: Tensor) -> Tensor:
        return LayerAttribution.interpolate(cam.attribute(x, target=y), tuple(x.shape[2:]), "bilinear")

    def relevance(x: Tensor, y: Tensor) -> Tensor:
        with Gradient(model=net, composite=EpsilonPlus()) as attribution:
            return attribution(x.clone(), torch.eye(10, device=x.device, dtype=x.dtype)[y])[1].detach()

    def slope(x: Tensor, y: Tensor) -> Tensor:
        return saliency.attribute(x.detach().requires_grad_(), target=y, abs=False)

    def integral(x: Tensor, y: Tensor) -> Tensor:
        return line.attribute(x, target=y, n_steps=POINTS, method="gausslegendre")

    smooth = functools.partial(explain.smoothgrad, samples=SAMPLES)
    integrated = functools.partial(explain.integrated_gradients, steps=POINTS)
    return {
        "gradient": work("gradient", "captum", explain.gradient, slope),
        "smoothgrad": work("smoothgrad", "captum", smooth, noisy, sigma=0.0),
        "integrated_gradients": work("integrated_gradients", "captum", integrated, integral),
        "grad_cam": work("grad_cam", "captum", explain.grad_cam, enlarged),
        "lrp": work("lrp", "zennit", explain.lrp, relevance),
    }


def _attacks(net: nn.Module) -> dict[str, Work]:
    import foolbox

    wrapped = foolbox.PyTorchModel(net, bounds=(0, 1), device=next(net.parameters()).device)
    step = 2.5 * EPS / STEPS
    signs = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    steps = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=step, random_start=False)

    def theirs(which: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: which.run(wrapped, x, _classes(net, x), epsilon=EPS)

    def ours(run: Callable[..., Tensor], **options: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: run(net, x, _classes(net, x), eps=EPS, **options)

    def weaker(run: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor) -> float:
        """The share of images that the peer fools and the library does not: it returns another iterate."""
        y = _classes(net, x)
        resisted, fooled = (predict(net, found(x)).argmax(1) for found in (run, other))
        return ((resisted == y) & (fooled != y)).double().mean().item()

    pairs = {
        "fgsm": (ours(attack.fgsm), theirs(signs)),
        "pgd": (ours(attack.pgd, steps=STEPS), theirs(steps)),
    }
    return {name: Work("foolbox", *pair, functools.partial(weaker, *pair)) for name, pair in pairs.items()}


def _measures() -> dict[str, Work]:
    """Each pair is an image and a mixture of it with the next one, with many ties."""
    from scipy.stats import spearmanr
    from skimage.metrics import structural_similarity

    def pair(x: Tensor) -> tuple[Tensor, Tensor]:
        a = x[:, :1]
        return a, (0.5 * a + 0.5 * a.roll(1, 0).flip(2)).clamp_min(0.3)

    def work(peer: str, ours: Callable[..., Tensor], one: Callable[[Any, Any], float]) -> Work:
        def loop(x: Tensor) -> Tensor:
            arrays = [values[:, 0].double().cpu().numpy() for values in pair(x)]
            return torch.tensor([one(a, b) for a, b in zip(*arrays, strict=True)])

        return Work(peer, lambda x: ours(*pair(x)), loop, lambda x: _difference(ours(*pair(x)).cpu(), loop(x)))

    def common(a: Any, b: Any) -> float:
        return len(np.intersect1d(np.argsort(a.ravel())[-K:], np.argsort(b.ravel())[-K:])) / K

    return {
        "spearman": work("SciPy", maps.spearman, lambda a, b: spearmanr(a.ravel(), b.ravel()).statistic),
        "ssim": work("scikit-image", maps.ssim, lambda a, b: structural_similarity(a, b, data_range=1.0)),
        "topk_intersection": work("NumPy", maps.topk_intersection, common),
    }


def _classes(net: nn.Module, x: Tensor) -> Tensor:
    """Labels that cost nothing to find: every image is taken for one of the first class."""
    return torch.zeros(len(x), dtype=torch.long, device=x.device)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def _seconds(run: Callable[[Tensor], object], x: Tensor) -> float:
    _wait(x.device)
    start = time.perf_counter()
    run(x)
    _wait(x.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _step(net: nn.Module, x: Tensor, name: str, rounds: int) -> list[float]:
    """A step of the attack on an explainer, in explanations of the same images, round by round."""
    few = {"smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 2}}.get(name, {})
    explainer, y = functools.partial(explain.find(name), **few), _classes(net, x)

    def run(steps: int) -> Callable[[Tensor], object]:
        aim = attack.Distance()
        effort: dict[str, Any] = {"steps": steps, "batch_size": ATTACKED}
        return lambda x: attack.manipulate(net, x, aim, eps=EPS, explainer=explainer, **effort)

    def explained(x: Tensor) -> None:
        for _ in range(4):
            explainer(net, x, y)

    turns = [[_seconds(part, x) for part in (run(2), explained, run(6))] for _ in range(rounds + 1)][1:]
    return [(long - short) / spent for short, spent, long in turns]


def _parts(run: Callable[[Tensor], object], x: Tensor) -> dict[str, list[float]]:
    """Images, seconds and the most bytes allocated at parts of the images: do both grow in line with them?"""
    sizes = sorted({max(1, len(x) // part) for part in SIZES})
    found: dict[str, list[float]] = {"images": list(sizes), "seconds": [], "bytes": []}
    for size in sizes:
        few = x[:size]
        run(few)
        found["seconds"].append(min(_seconds(run, few) for _ in range(3)))
        found["bytes"].append(_most_bytes(run, few))
    return found


def _most_bytes(run: Callable[[Tensor], object], x: Tensor) -> float:
    """The most memory that a run held at one time, beyond what was there before."""
    if x.is_cuda:
        before = torch.cuda.memory_allocated(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        run(x)
        return torch.cuda.max_memory_allocated(x.device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run(x)
    changes = [event.nbytes() for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return float(max(np.cumsum(changes), default=0.0))


class _Counted(TorchDispatchMode):
    """Counts the operations of products and convolutions, and the bytes that go into and come out of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.bytes = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=found)
        if not func.is_view:
            tensors = (*args, *(found if isinstance(found, tuple) else (found,)))
            self.bytes += sum(value.nbytes for value in tensors if isinstance(value, Tensor))
        return found


def _roofline(
    run: Callable[[Tensor], object], x: Tensor, seconds: float, machine: dict[str, float]
) -> dict[str, float]:
    """Operations and bytes of a run, and the share of the machine's throughput and bandwidth that it reached."""
    with _Counted() as counted:
        run(x)
    return {
        "flops": float(counted.flops),
        "bytes": float(counted.bytes),
        "throughput": counted.flops / seconds / machine["flops a second"],
        "bandwidth": counted.bytes / seconds / machine["bytes a second"],
    }


def _machine(device: str) -> dict[str, float]:
    """What the machine can do: a matrix product in float32, and a copy of what no cache holds."""
    a = torch.rand(2048, 2048, device=device)
    big = torch.rand(2**26, device=device)
    target = torch.empty_like(big)
    product = min(_seconds(lambda a: a @ a, a) for _ in range(5))
    copy = min(_seconds(target.copy_, big) for _ in range(5))
    return {"flops a second": 2 * 2048**3 / product, "bytes a second": 2 * big.nbytes / copy}
