"""Any net: what it returns and does, through every entry point (kind A of issue 21)."""

import copy
import dataclasses
import operator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from entries import ATTACK, EVERY, READERS, TRAINERS, WHOLE_CALLS, Around, body, every, maps_of
from torch import nn
from torchvision.models import googlenet

from atexlib import attack, explain


@pytest.fixture
def x():
    return 0.05 + 0.9 * torch.rand(3, 1, 8, 8, generator=seeded(1))


# A. What a net returns and does


@dataclasses.dataclass
class Outcome:
    logits: torch.Tensor
    loss: None = None


class Mapping(dict):
    """A dict that is an object too, as the outputs of Hugging Face's nets are."""

    __getattr__ = dict.__getitem__


HOLDERS = {
    "namespace": lambda z: SimpleNamespace(logits=z, hidden=None),
    "dataclass": Outcome,
    "mapping": lambda z: Mapping(loss=None, logits=z),
    "dict": lambda z: {"logits": z},
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@every(EVERY)
def test_logits_may_be_held_by_an_object(call, holder, x):
    call(Around(after=holder), x)


NO_LOGITS = {
    "one logit": (lambda z: z[:, :1], "one logit"),
    "no axis": (lambda z: z[:, 0], r"returned \(\d,\) for \d images"),
    "tuple": (lambda z: (z, z), "returned tuple"),
    "list": (lambda z: [z], "returned list"),
    "none": (lambda z: None, "returned NoneType"),
    "other dict": (lambda z: {"scores": z}, "returned dict"),
    "maps": (lambda z: z[:, :, None, None], "must return logits"),
    "nan": (lambda z: z * torch.nan, "nan or infinite logits"),
    "infinite": (lambda z: z / 0, "nan or infinite logits"),
    "probabilities": (lambda z: z.softmax(1), "returned probabilities"),
    "certain": (lambda z: F.one_hot(z.argmax(1), 4) + 0 * z, "returned probabilities"),
}


@pytest.mark.parametrize("case", NO_LOGITS)
@every(EVERY)
def test_what_are_no_logits_is_named(call, case, x):
    change, words = NO_LOGITS[case]
    with pytest.raises(ValueError, match=words):
        call(Around(after=change), x)


@every({name: call for name, call in EVERY.items() if name != "reading"})  # that looks at the first image
@pytest.mark.parametrize(("dark", "words"), [([1], "1"), ([1, 2], "1, 2"), ([2], "2")])
def test_the_images_of_which_logits_are_nan_are_numbered(call, dark, words, x):
    x[dark] = 0  # images are divided by their length
    with pytest.raises(ValueError, match=rf"images {words}; mend"):
        call(Around(before=lambda x: x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)), x)


def test_log_probabilities_may_be_explained(x):
    for call in (call for name, call in EVERY.items() if name not in ("lrp", "heatmap")):  # a rule is missing
        call(nn.Sequential(body(), nn.LogSoftmax(1)), x)
    z = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(body()(z).log_softmax(1)[:, 1].sum(), z)
    assert torch.allclose(explain.gradient(nn.Sequential(body(), nn.LogSoftmax(1)), x, 1), wanted, atol=1e-7)


UNSTEADY = {
    "dropout": (Around(before=lambda x: F.dropout(x, 0.5)), "draws random numbers"),
    "noise": (Around(before=lambda x: x + 0.3 * torch.randn_like(x)), "draws random numbers"),
    "centred": (Around(before=lambda x: x - x.mean(0)), "statistics of the batch"),
    "a little noise": (Around(before=lambda x: x + 0.01 * torch.randn_like(x)), "draws random numbers"),
    "a little of others": (Around(before=lambda x: x - 0.05 * x.mean(0)), "statistics of the batch"),
    "softmax": (Around(after=lambda z: z.log_softmax(0)), "statistics of the batch"),
    "scaled": (Around(before=lambda x: x / x.max()), "statistics of the batch"),
    "one norm": (Around(after=nn.BatchNorm1d(4, track_running_stats=False)), "statistics of the batch"),
    "first": (Around(before=lambda x: x - 0.5 * x[:1]), "statistics of the batch"),
    "frozen batch norm": (
        Around(after=lambda z: F.batch_norm(z, None, None, training=True)),
        "statistics of the batch",
    ),
}


@pytest.mark.parametrize("case", UNSTEADY)
@every(WHOLE_CALLS)
def test_a_net_that_is_no_function_of_one_image_is_named(call, case, x):
    net, words = UNSTEADY[case]
    x = x * torch.tensor([0.4, 1, 0.7]).view(3, 1, 1, 1)
    with pytest.raises(ValueError, match=words):
        call(net, x)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d])
@every(EVERY)
def test_batch_norm_without_statistics_is_named_everywhere(call, norm, x):
    layer = norm(4 if norm is nn.BatchNorm1d else 1, track_running_stats=False)
    net = Around(after=layer) if norm is nn.BatchNorm1d else Around(before=layer)
    with pytest.raises(ValueError, match=r"layer '(after|before)' \(BatchNorm.d\) normalises by the statistics"):
        call(net, x)


def cut(x):
    x[:, :, 0] = 0
    return x


def cut_apart(x):
    return torch.cat([0 * x[:, :, :1], x[:, :, 1:]], 2)


MASK = torch.eye(8, dtype=torch.bool)
WRITERS = {  # each with what does the same and writes on nothing
    "sub_": (lambda x: x.sub_(0.5).div_(0.25), lambda x: (x - 0.5) / 0.25),
    "setitem": (cut, cut_apart),
    "relu": (lambda x: F.relu(x, inplace=True), F.relu),
    "module": (nn.ReLU(inplace=True), nn.ReLU()),
    "iadd": (lambda x: operator.iadd(x, 1), lambda x: x + 1),
    "fill": (lambda x: x.masked_fill_(MASK, 0.5), lambda x: x * ~MASK + 0.5 * MASK),
}


@pytest.mark.parametrize("case", WRITERS)
@every(EVERY)
def test_a_net_that_writes_on_its_images_writes_on_none_of_the_callers(call, case, x):
    before, net = x.clone(), Around(before=WRITERS[case][0])
    if case in ("setitem", "fill") and call in (EVERY["lrp"], EVERY["heatmap"]):
        with pytest.raises(ValueError, match=r"cannot be traced|no rule for masked_fill"):
            call(net, x)
    else:
        call(net, x)
    assert torch.equal(x, before)
    assert not x.requires_grad


@pytest.mark.parametrize("case", WRITERS)
def test_maps_of_a_net_that_writes_are_those_of_one_that_does_not(case, x):
    writes, apart = (Around(before=before) for before in WRITERS[case])
    for name in ("gradient", "gradient_x_input", "grad_cam", "smoothgrad", "integrated_gradients"):
        found, wanted = (maps_of(name)(net, x) for net in (writes, apart))
        assert torch.allclose(found, wanted, atol=1e-5), name
    found, wanted = (attack.manipulate(net, x, attack.Distance(), **ATTACK) for net in (writes, apart))
    assert found.stepped.all()
    assert torch.allclose(found.x, wanted.x, atol=1e-5)


class FailError(Exception):
    pass


def fails(x):
    raise FailError


@every(READERS)
def test_reading_a_net_leaves_it_as_it_was(call, x):
    net = body(nn.ReLU(), bn=True).train()
    net[1].eval()
    net[3].training = False
    modes = [module.training for module in net.modules()]
    state, names = copy.deepcopy(net.state_dict()), [set(vars(module)) for module in net.modules()]
    call(net, x)
    for _ in range(2):
        assert [module.training for module in net.modules()] == modes
        assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
        assert [set(vars(module)) for module in net.modules()] == names
        assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
        handle = net[5].register_forward_pre_hook(lambda *_: fails(x))
        with pytest.raises((FailError, ValueError)):  # lrp tells that it cannot trace
            call(net, x)
        handle.remove()


@every(TRAINERS)
def test_training_a_copy_leaves_the_net_as_it_was(call, x):
    net = body(bn=True).train()
    net[1].eval()
    modes, state = [module.training for module in net.modules()], copy.deepcopy(net.state_dict())
    call(net, x)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


class TwoHeads(nn.Module):
    """A net with an auxiliary output in train mode."""

    def __init__(self, kind):
        super().__init__()
        self.net, self.kind = body(), kind

    def forward(self, x):
        z = self.net(x)
        return self.kind(z) if self.training else z


@pytest.mark.parametrize("kind", [lambda z: (z, z), lambda z: {"out": z, "aux": z}, lambda z: [z, z]])
@every({name: call for name, call in TRAINERS.items() if name != "fool"})  # whose net stays in eval mode
def test_auxiliary_outputs_in_train_mode_are_named(call, kind, x):
    with pytest.raises(ValueError, match=r"the model returned (tuple|dict|list) for"):
        call(TwoHeads(kind), x)


def test_googlenet_in_train_mode_is_told_what_to_do():
    net, x = googlenet(weights=None, init_weights=False, num_classes=4), torch.rand(3, 3, 64, 64, generator=seeded())
    for name in ("fit", "naive"):
        with pytest.raises(ValueError, match="aux_logits = False"):
            TRAINERS[name](net, x)
