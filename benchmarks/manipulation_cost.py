"""Times one step of `manipulate` over one explanation of the same batch, for every explainer.

A step is the difference of two runs with different numbers of steps, divided by the difference in steps; both runs and
the explanations take turns, and the median over the turns is shown, in processor time on one thread. The net is the
paper's ConvNet with random weights.

Run: `python benchmarks/manipulation_cost.py`. It exits with an error where a step costs more than three explanations.
"""

import functools
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from atexlib import nets
from atexlib.attack import manipulate, objectives
from atexlib.explain import registry

SHORT, LONG, REPEATS, LIMIT = 2, 6, 9, 3.0
OPTIONS = {"smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 2}}  # few, to be quick


def seconds(run: Callable[[], object]) -> float:
    """Processor time of one run: other programs on the machine do not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


def cost(model: torch.nn.Module, x: torch.Tensor, explainer: registry.Explainer) -> tuple[float, float, float]:
    """Median time of an explanation and of a step, and the median of their ratio turn by turn."""
    target = model(x).argmax(1)

    def attack(steps: int) -> Callable[[], object]:
        return lambda: manipulate(model, x, objectives.Distance(), eps=0.1, explainer=explainer, steps=steps)

    def explain() -> None:
        with nets.frozen(model):
            for _ in range(LONG - SHORT):
                explainer(model, x, target)

    attack(SHORT)(), explain()  # to warm up
    turns = np.array([[seconds(run) for run in (attack(SHORT), explain, attack(LONG))] for _ in range(REPEATS)])
    explanation, step = turns[:, 1], turns[:, 2] - turns[:, 0]
    return tuple(np.median(v) for v in (explanation / (LONG - SHORT), step / (LONG - SHORT), step / explanation))


def main() -> None:
    """Print a table: explainer, times of an explanation and of a step, their ratio."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    model = nets.ConvNet(generator=generator).eval()
    x = torch.rand((64, 1, 28, 28), generator=generator)
    failed = False
    print(f"{'explainer':<22}{'explanation':>13}{'step':>11}{'ratio':>8}")
    for name, explainer in registry.EXPLAINERS.items():
        explanation, step, ratio = cost(model, x, functools.partial(explainer, **OPTIONS.get(name, {})))
        failed |= ratio > LIMIT
        print(f"{name:<22}{1e3 * explanation:>10.1f} ms{1e3 * step:>8.1f} ms{ratio:>7.2f}x")
    sys.exit(f"a step costs more than {LIMIT:g} explanations" if failed else 0)


if __name__ == "__main__":
    main()
