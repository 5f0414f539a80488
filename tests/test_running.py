"""Nets are called in eval mode, frozen, batch by batch, and come back as they were."""

import contextlib
import threading
import types

import pytest
import torch
from conftest import curved, seeded
from torch import nn

from atexlib import attack, nets


def test_frozen_gives_modes_back_and_touches_no_weight():
    net = nets.ConvNet()
    net.train()
    net.fc1.eval()
    before = {name: dict(vars(module)) for name, module in net.named_modules()}
    with contextlib.suppress(KeyError), nets.frozen(net):
        assert not net.training
        assert not net(torch.rand(1, 1, 28, 28)).requires_grad
        assert [vars(module) | {"training": None} for module in net.modules()] == [
            values | {"training": None} for values in before.values()
        ]
        raise KeyError
    assert net.training
    assert not net.fc1.training
    assert all(weight.requires_grad for weight in net.parameters())


def test_two_threads_may_freeze_one_net():
    """The weights are constants in each thread by itself; one that trains meanwhile is not disturbed."""
    net, x = nets.ConvNet(side=8, width=4, hidden=8).eval(), torch.rand(2, 1, 8, 8)
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with nets.frozen(net):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(10)
    assert net(x).requires_grad
    leave.set()
    thread.join()


def test_predict_works_in_eval_mode_and_gives_the_mode_back():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 3)).train()
    images = torch.randn(10, 1, 4, 4, generator=seeded())
    assert torch.allclose(nets.predict(net, images, batch_size=3), net[2](images.flatten(1)))
    assert net.training


def test_prediction_gives_each_module_its_mode_back_also_after_an_error():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(2 * 36, 3)).train()
    net[1].eval()
    nets.predict(net, torch.rand(2, 1, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True]
    with pytest.raises(ValueError, match="Sequential cannot take images"):
        nets.predict(net, torch.rand(2, 3, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True]


class Holds(torch.nn.Module):
    """A net that hands out its logits as Hugging Face's do."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return types.SimpleNamespace(logits=self.net(x))


def test_logits_may_come_in_an_object():
    net, x = curved(), torch.rand(3, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    assert torch.equal(nets.predict(Holds(net), x), nets.predict(net, x))
    run = [attack.manipulate(model, x, attack.Distance(), eps=0.1, steps=3).x for model in (net, Holds(net))]
    assert torch.equal(*run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z: z[:, :1], "returned one logit an image"),
        (lambda z: z.where((torch.arange(len(z)) != 1)[:, None], torch.nan), "infinite logits for images 1; mend"),
        (lambda z: z / 0, "infinite logits for images 0, 1, 2; mend"),
        (lambda z: z.softmax(1), "returned probabilities; take its last softmax away"),
    ],
)
def test_what_are_no_logits_is_refused(change, words):
    class Changed(torch.nn.Sequential):
        def forward(self, x):
            return change(super().forward(x))

    x = torch.rand(3, 1, 8, 8, generator=seeded(1), dtype=torch.float64)
    net = Changed(curved())
    for call in (nets.predict, lambda net, x: attack.manipulate(net, x, attack.Distance(), eps=0.1, steps=1)):
        with pytest.raises(ValueError, match=words):
            call(net, x)
    assert nets.predict(torch.nn.Sequential(curved(), torch.nn.LogSoftmax(1)), x).exp().sum(1).allclose(x.new_ones(3))


def test_a_net_that_writes_on_its_input_does_not_write_on_the_callers():
    class Writes(torch.nn.Module):
        def forward(self, x):
            return x.mul_(2).flatten(1)[:, :3]

    x = torch.rand(3, 1, 8, 8, generator=seeded(1))
    before = x.clone()
    nets.predict(Writes(), x)
    assert torch.equal(x, before)
