"""No step of an attack or of a training holds up a GPU, or mixes devices: all runs on `meta` tensors.

A GPU works ahead of Python until somebody asks for a value. The `meta` device, whose tensors have no values, stands in
for it: mixing it with the CPU is an error there too, and modes answer those who ask, and count them.
"""

import functools
import importlib

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from atexlib import attack, checks, explain, judge, nets
from atexlib.defend import DEFENSES

META = torch.device("meta")
RANDOM = {torch.ops.aten.rand.generator, torch.ops.aten.randn.generator}
FEW = {"smoothgrad": {"samples": 2}, "integrated_gradients": {"steps": 2}}


class Copies(TorchDispatchMode):
    """Counts copies from the CPU; what only a GPU's answer could go on with is an error."""

    def __init__(self):
        super().__init__()
        self.count, self.drawn = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten.nonzero.default and args[0].device == META:
            raise AssertionError("how large the result is, a GPU must be asked")
        if func is torch.ops.aten._to_copy.default and args[0].device != META == kwargs.get("device"):
            # What was drawn is left out: on a GPU `training.drawing_on` draws there, and `meta` has no generator.
            # A number is no copy: a kernel takes it as an argument.
            self.count += args[0].ndim > 0 and not any(args[0].data_ptr() == drawn.data_ptr() for drawn in self.drawn)
        found = func(*args, **kwargs)
        if func in RANDOM:
            self.drawn.append(found)
        return found


class Questions(TorchFunctionMode):
    """Counts the values that are asked for; the answer is always one."""

    ASKING = (torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.__float__, torch.Tensor.__int__)

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (*self.ASKING, torch.Tensor.cpu, torch.Tensor.tolist) and args[0].device == META:
            self.count += 1
            values = torch.ones(args[0].shape, dtype=args[0].dtype)
            return func(values)
        return func(*args, **(kwargs or {}))


def waits(run):
    """How often a run asks for a value, and copies one."""
    with Copies() as copies, Questions() as questions, checks.trusted():
        run()
    return questions.count, copies.count


@pytest.fixture
def net():
    net = nets.ConvNet(side=8, width=4, hidden=8)
    explain.lrp(net, torch.zeros(1, 1, 8, 8))  # the trace that it keeps is compared with the net, by values
    return net.to(META)


def images(count=4):
    return torch.empty(count, 1, 8, 8, device=META), torch.zeros(count, dtype=torch.long, device=META)


# Either is called by the search alone: no pair can do what neither does with another.
PAIRS = {(name, "gradient") for name in attack.available()} | {("distance", name) for name in explain.available()}


@pytest.mark.parametrize(("objective", "explainer"), sorted(PAIRS))
def test_a_step_of_an_attack_asks_for_nothing(net, objective, explainer):
    x, _ = images()
    chosen = functools.partial(explain.find(explainer), **FEW.get(explainer, {}))

    def run(steps):
        aim = attack.OBJECTIVES[objective](x, 5, torch.Generator())
        attack.manipulate(net, x, aim, eps=0.1, steps=steps, starts=2, explainer=chosen, prediction_tolerance=0.1)

    waits(lambda: run(1))  # what is made once, such as LRP's trace
    assert waits(lambda: run(1)) == waits(lambda: run(3))


def test_a_step_guided_by_a_surrogate_asks_for_nothing(net):
    x, _ = images()

    def run(steps):
        attack.manipulate(net, x, attack.Untargeted(k=5), eps=0.1, steps=steps, surrogate=nets.with_beta(net, 3))

    assert waits(lambda: run(2)) == waits(lambda: run(4))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_of_pgd_asks_for_nothing(net, norm):
    x, y = images()
    run = functools.partial(attack.pgd, net, x, y, eps=0.1, norm=norm, starts=2)
    assert waits(lambda: run(steps=2)) == waits(lambda: run(steps=4))


def test_a_step_of_a_worst_case_asks_for_nothing(net):
    x, _ = images()
    run = functools.partial(judge.min_max, net, x, eps=0.1, rounds=1)
    assert waits(lambda: run(steps=2)) == waits(lambda: run(steps=4))


@pytest.mark.parametrize("loss", attack.LOSSES)
def test_a_step_of_fooling_asks_for_nothing(net, loss):
    x, y = images(8)
    classes = (0, 1) if loss == "active" else None
    run = functools.partial(
        attack.fool, net, (x, y), loss=loss, classes=classes, explainer="grad_cam", batch_size=2, look_every=100
    )
    assert waits(lambda: run(steps=2)) == waits(lambda: run(steps=4))


@pytest.mark.parametrize("defense", ["none", *DEFENSES])
def test_a_step_of_a_training_asks_for_nothing(net, defense, monkeypatch):
    for name in ("naive", "atex", "losses.penalised"):
        module = importlib.import_module(f"atexlib.defend.{name}")
        monkeypatch.setattr(module, "drawing_on", lambda device, generator: generator)

    def run(size):
        options = {"epochs": 1, "batch_size": size, "validation": images(2)}
        if defense == "none":
            nets.fit(net, images(8), **options)
        else:
            DEFENSES[defense].train(net, images(8), **{**DEFENSES[defense].settings, **options})

    waits(lambda: run(8))
    assert waits(lambda: run(4)) == waits(lambda: run(2))


def test_a_value_that_is_asked_for_is_counted():
    x, _ = images()
    assert waits(lambda: bool((x > 0).any())) == (1, 0)
    assert waits(lambda: torch.ones(2).to(META)) == (0, 1)
    with pytest.raises(RuntimeError, match="device"):
        waits(lambda: x + torch.ones(8))
