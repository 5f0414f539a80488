"""What the defences cost: time and memory of a training step, side by side in one run, at three image sizes."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from ...defend import atex, naive
from ...nets import ConvNet, fit
from ..engine.kinds import Metrics, Spec, kind
from ..engine.place import Place

Watch = contextlib.AbstractContextManager[dict[str, int]]
SIDES = ("14", "28", "56")
BATCHES = 2  # in a timing
REPEATS = {"canary": 1, "smoke": 2, "quick": 3, "reduced": 5, "paper": 10}
SAMPLES = (1, 8)  # samples or neighbours of an image


@kind(
    "cost",
    keys={"side": SIDES},
    history=("first", "the ConvNet pools before its units, so that less is kept and a step is faster"),
    settings=lambda spec: {"batches": BATCHES, "repeats": REPEATS[spec["preset"]], "samples": list(SAMPLES)},
    sizes="batch_size",
    canary=[{"side": "14", "seed": 0}],
    varies=frozenset(["seconds"]),
)
def cost(spec: Spec, place: Place) -> Metrics:
    """Seconds a batch and bytes kept for the backward pass, for plain training, ATEX and Naive.

    The methods take turns, so that a slow moment of the machine hits all of them.
    """
    side, size = int(spec["side"]), place.size.batch_size
    generator = place.generator()
    images = torch.rand(BATCHES * size, 1, side, side, generator=generator)
    labels = torch.randint(10, (len(images),), generator=generator)
    model = ConvNet(side=side, generator=generator).to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    methods = _methods(model, images, labels, batch_size=size)
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    kept: dict[str, int] = {}
    repeats = REPEATS[spec["preset"]]
    bar = tqdm(total=(repeats + 1) * len(methods), desc="timing", disable=not place.progress)
    for repeat in range(repeats + 1):
        for name, train in methods.items():
            watch: Watch = saved_bytes() if repeat == 0 else contextlib.nullcontext({})
            with watch as largest:
                start = time.perf_counter()
                train()
                if torch.device(place.device).type == "cuda":
                    torch.cuda.synchronize()
                spent = (time.perf_counter() - start) / BATCHES
            if repeat == 0:  # the first round warms up, and weighs
                kept[name] = largest["bytes"]
            else:
                seconds[name].append(round(spent, 5))
            bar.update()
    bar.close()
    return {"batch_size": size, "seconds": seconds, "bytes": kept}


@contextlib.contextmanager
def saved_bytes() -> Iterator[dict[str, int]]:
    """The most bytes that were kept at one time for backward passes, each storage counted once.

    Unlike a process's peak memory this does not depend on the allocator or the machine.
    """
    alive: dict[int, tuple[int, int]] = {}
    largest = {"bytes": 0}

    class Kept:
        """Holds a tensor for the backward pass, and counts it as long as it does."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.key = tensor.detach() if tensor.is_leaf else tensor, tensor.untyped_storage().data_ptr()
            number, size = alive.get(self.key, (0, tensor.untyped_storage().nbytes()))
            alive[self.key] = (number + 1, size)
            largest["bytes"] = max(largest["bytes"], sum(size for _, size in alive.values()))

        def __del__(self) -> None:
            number, size = alive.pop(self.key)
            if number > 1:
                alive[self.key] = (number - 1, size)

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda held: held.tensor):
        yield largest


def _methods(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, batch_size: int
) -> dict[str, Callable[[], object]]:
    options: dict[str, Any] = {"epochs": 1, "batch_size": batch_size}
    data = (images, labels)
    eps = {"eps": 0.1, **options}
    found: dict[str, Callable[[], object]] = {"plain": lambda: fit(model, data, **options)}
    for count in SAMPLES:
        samples = {"maps": images, "orthogonal_samples": count, **eps}  # any maps do: only the time counts
        found[f"atex, {count}"] = functools.partial(atex, model, data, **samples)
        found[f"atex_ascent, {count}"] = functools.partial(atex, model, data, directions="ascent", **samples)
        found[f"naive, {count}"] = functools.partial(naive, model, data, samples=count, **eps)
    return found
