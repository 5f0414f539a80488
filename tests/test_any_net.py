"""Any net: what it returns, does and is inside of, through every entry point (kinds A, E and F of issue 21)."""

import copy
import dataclasses
import functools
import operator
import re
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn
from torch.func import grad, jacrev, vmap
from torch.utils.checkpoint import checkpoint
from torchvision.models import GoogLeNet, googlenet, mobilenet_v3_small

import atexlib
from atexlib import attack, defend, explain, judge, nets

LABELS = torch.tensor([0, 1, 2])
ATTACK = {"eps": 0.1, "steps": 2}
AUDIT = {"attacks": ["distance"], "eps": 0.1, "steps": 1, "starts": 1, "progress": False}
TRAIN = {"epochs": 1, "batch_size": 2}


def body(unit=None, *, bn=False):
    """A small smooth net of four classes; the numbers of its layers as in every test here."""
    torch.manual_seed(0)
    norm = [nn.BatchNorm2d(4)] if bn else []
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), *norm, unit or nn.Softplus(5), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)
    )


class Around(nn.Module):
    """The small net with something done before or after it."""

    def __init__(self, before=None, after=None, net=None):
        super().__init__()
        self.net, self.before, self.after = net or body(), before, after

    def forward(self, x):
        x = self.before(x) if self.before else x
        found = self.net(x)
        return self.after(found) if self.after else found


@pytest.fixture
def x():
    return 0.05 + 0.9 * torch.rand(3, 1, 8, 8, generator=seeded(1))


def maps_of(name):
    options = {"samples": 2} if name == "smoothgrad" else {"steps": 2} if name == "integrated_gradients" else {}
    return lambda net, x: explain.EXPLAINERS[name](net, x, LABELS[: len(x)], **options)


def audited(net, x, explainers=("gradient", "grad_cam")):
    return atexlib.audit(net, x, LABELS[: len(x)], explainers=explainers, **AUDIT)


READERS = {
    **{name: maps_of(name) for name in explain.EXPLAINERS},
    "predict": nets.predict,
    "accuracy": lambda net, x: nets.accuracy(net, x, LABELS),
    "heatmap": lambda net, x: explain.heatmap(net, x, LABELS),
    "reading": explain.reading,
    "manipulate": lambda net, x: attack.manipulate(net, x, attack.Distance(), **ATTACK),
    "audit": audited,
    "fgsm": lambda net, x: attack.fgsm(net, x, LABELS, eps=0.1),
    "pgd": lambda net, x: attack.pgd(net, x, LABELS, eps=0.1, steps=2),
    "loss_gradient": lambda net, x: attack.loss_gradient(net, x, LABELS),
    "deletion": lambda net, x: judge.deletion(net, x, x, LABELS, steps=2),
    "average_case": lambda net, x: judge.average_case(net, x, radius=0.1, samples=2),
    "max_min": lambda net, x: judge.max_min(net, x, eps=0.1, steps=2),
    "smooth_maps": lambda net, x: defend.smooth_maps(net, x, samples=2),
}
TRAINERS = {
    "fit": lambda net, x: nets.fit(net, (x, LABELS), **TRAIN),
    "fool": lambda net, x: attack.fool(net, (x, LABELS), loss="topk", explainer="gradient", steps=2, batch_size=2),
    "naive": lambda net, x: defend.naive(net, (x, LABELS), eps=0.1, **TRAIN),
    "atex": lambda net, x: defend.atex(net, (x, LABELS), eps=0.1, orthogonal_samples=1, **TRAIN),
    "adversarial": lambda net, x: defend.adversarial_training(net, (x, LABELS), eps=0.1, **TRAIN),
    "refreshed": lambda net, x: defend.adversarial_training(net, (x, LABELS), eps=0.1, refresh=True, **TRAIN),
    "anew": lambda net, x: defend.anew(net, (x, LABELS), **TRAIN),
}
EVERY = READERS | TRAINERS
WHOLE_CALLS = {
    name: EVERY[name] for name in ("manipulate", "audit", "fool", "fit", "naive", "atex", "adversarial", "max_min")
}


def works_or_says(words, call):
    """What a call returns; None where it refuses in these words."""
    try:
        return call()
    except ValueError as error:
        if not re.search(words, str(error)):
            raise
        return None


def every(calls):
    return pytest.mark.parametrize("call", calls.values(), ids=calls)


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
    assert isinstance(net, GoogLeNet)


# E. Inside an attack the net is the same net


def test_threads_may_use_one_net_at_once(x):
    net = body(bn=True).train()
    state = copy.deepcopy(net.state_dict())
    wanted = {name: call(net, x) for name, call in READERS.items() if name in {*explain.EXPLAINERS, "predict"}}
    found, errors, gate = {}, [], threading.Barrier(len(wanted) + 2)

    def work(name, call):
        gate.wait()
        try:
            for _ in range(10):
                found[name] = call(net, x)
        except Exception as error:
            errors.append(error)

    calls = {name: READERS[name] for name in (*wanted, "manipulate")}
    calls["again"] = READERS["manipulate"]
    threads = [threading.Thread(target=work, args=pair) for pair in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)
    assert torch.equal(found["manipulate"].x, found["again"].x)
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad for weight in net.parameters())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_tracing_in_one_thread_is_not_seen_by_others(x):
    """Each thread traces a net of its own, again and again, while others use theirs."""
    wanted, errors, gate = explain.lrp(body(nn.ReLU()), x, LABELS), [], threading.Barrier(4)
    shared = body(nn.ReLU()).eval()
    logits = shared(x)

    def work(trace):
        gate.wait()
        try:
            for _ in range(15):
                if trace:
                    assert torch.allclose(explain.lrp(copy.deepcopy(shared), x, LABELS), wanted, atol=1e-6)
                else:
                    assert torch.allclose(shared(x), logits)
                    assert torch.allclose(explain.gradient(shared, x, 1), slope)
        except BaseException as error:
            errors.append(error)

    slope = explain.gradient(shared, x, 1)
    before = nn.Module.__call__, nn.Module.__getattr__
    threads = [threading.Thread(target=work, args=(trace,)) for trace in (True, True, False, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (nn.Module.__call__, nn.Module.__getattr__) == before


def test_a_net_may_be_used_inside_of_its_own_use(x):
    net = body(bn=True).train()
    wanted = explain.gradient(net, x, 1)
    with nets.evaluating(net), nets.frozen(net):
        assert torch.equal(explain.gradient(net, x, 1), wanted)
        attack.manipulate(net, x, attack.Distance(), **ATTACK)
        assert not net.training
        assert not net[1].training
    assert all(module.training for module in net.modules())


def test_an_explainer_may_itself_attack(x):
    def worst(model, x, target=None, *, create_graph=False):
        with torch.no_grad():
            z = attack.manipulate(model, x.detach(), attack.Distance(), **ATTACK).x
        return explain.gradient(model, x + (z - x.detach()), target, create_graph=create_graph)

    net = body().train()
    found = attack.manipulate(net, x, attack.Distance(), explainer=worst, **ATTACK)
    assert found.stepped.all()
    assert net.training
    assert audited(net, x, {"worst": worst, "gradient": explain.gradient}).table.index.unique(0).tolist() == [
        "worst",
        "gradient",
    ]


def compiled_at_top():
    return torch.compile(body(), backend="eager")


def compiled_inside():
    return Around(net=torch.compile(body(), backend="eager"))


def compiled_in_place():
    net = body()
    net.compile(backend="eager")
    return net


def compiled_part():
    net = body()
    net[0].compile(backend="eager")
    return net


WRAPPED = {
    "top": compiled_at_top,
    "inside": compiled_inside,
    "in place": compiled_in_place,
    "part": compiled_part,
    "parallel": lambda: nn.DataParallel(body()),
    "both": lambda: torch.compile(nn.DataParallel(body()), backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_nets_give_what_the_net_inside_gives(wrap, x):
    net, plain = wrap(), body()
    for name in (*explain.EXPLAINERS, "predict", "fgsm", "max_min", "smooth_maps"):
        found, wanted = (READERS[name](model, x) for model in (net, plain))
        if name == "max_min":
            found, wanted = found.value, wanted.value
        assert torch.allclose(found, wanted, atol=1e-6), name
    found, wanted = (READERS["manipulate"](model, x) for model in (net, plain))
    assert torch.allclose(found.x, wanted.x, atol=1e-6)
    assert found.stepped.all()
    net(x)  # used as it is meant to be, before
    table = audited(net, x, ("gradient", "grad_cam", "lrp")).table
    assert table.equals(audited(plain, x, ("gradient", "grad_cam", "lrp")).table)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", ["fit", "fool", "naive"])
def test_wrapped_nets_can_be_trained(wrap, name, x):
    trained = TRAINERS[name](wrap(), x).model
    assert torch.isfinite(nets.predict(trained, x)).all()
    assert torch.allclose(nets.predict(trained, x), nets.predict(TRAINERS[name](body(), x).model, x), atol=1e-4)


@pytest.mark.parametrize("made", ["script", "trace"])
@pytest.mark.parametrize("inside", [False, True])
def test_nets_made_by_jit_are_refused_by_name(made, inside, x):
    part = torch.jit.script(body()) if made == "script" else torch.jit.trace(body(), x)
    net = Around(net=part) if inside else part
    for call in (*(READERS[name] for name in explain.EXPLAINERS), READERS["manipulate"], audited):
        with pytest.raises(ValueError, match="made by torch.jit.*pass the net it was made of"):
            call(net, x)


def own_logit(model):
    return lambda z, c: model(z[None])[0].gather(0, c[None])[0]


def by_grad(model, x, target=None, *, create_graph=False):
    return vmap(grad(own_logit(model)))(x, model(x).argmax(1) if target is None else target)


def by_jacrev(model, x, target=None, *, create_graph=False):
    return torch.stack([jacrev(lambda z: model(z[None])[0])(z)[c] for z, c in zip(x, target, strict=True)])


@pytest.mark.parametrize("unit", [nn.Softplus(5), nn.MaxPool2d(1), nn.SiLU()])
@pytest.mark.parametrize("mine", [by_grad, by_jacrev])
def test_explainers_written_by_torch_func_attack_as_ours_does(mine, unit, x):
    net = body(unit)
    assert torch.allclose(mine(net, x, LABELS), explain.gradient(net, x, LABELS), atol=1e-6)
    found, wanted = (
        attack.manipulate(net, x, attack.Distance(), explainer=explainer, **ATTACK) for explainer in (mine, "gradient")
    )
    assert found.stepped.tolist() == wanted.stepped.tolist()
    assert torch.allclose(found.score, wanted.score, atol=1e-4)
    tables = [audited(net, x, {"map": explainer}).table for explainer in (mine, explain.gradient)]
    assert tables[0]["spearman"].tolist() == tables[1]["spearman"].tolist()


# F. What torch raises is told in a sentence


@pytest.mark.parametrize("outside", [torch.no_grad, lambda: torch.set_grad_enabled(False)], ids=["no_grad", "set"])
@every(EVERY)
def test_gradients_switched_off_outside_change_nothing(call, outside, x):
    with outside():
        found = call(body(), x)
        assert not torch.is_grad_enabled()
    wanted = call(body(), x)
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, wanted)


NEED_GRADIENTS = {name: EVERY[name] for name in EVERY if name not in ("predict", "accuracy", "deletion")}


@every(NEED_GRADIENTS)
def test_inference_mode_is_named(call, x):
    with torch.inference_mode(), pytest.raises(ValueError, match=r"inference_mode.*no_grad"):
        call(body(), x)


def test_what_needs_no_gradient_works_in_inference_mode(x):
    with torch.inference_mode():
        assert torch.equal(nets.predict(body(), x), nets.predict(body(), x))
        READERS["deletion"](body(), x)


@every(NEED_GRADIENTS)
def test_images_made_in_inference_mode_work_or_are_named(call, x):
    with torch.inference_mode():
        made = x * 1
    found = works_or_says("inference_mode", lambda: call(body(), made))
    if isinstance(found, torch.Tensor):
        assert torch.equal(found, call(body(), x))


@every(NEED_GRADIENTS)
def test_a_net_made_in_inference_mode_works_or_is_named(call, x):
    with torch.inference_mode():
        net = body()
    found = works_or_says("inference_mode|every weight of the model is frozen", lambda: call(net, x))
    if isinstance(found, torch.Tensor):
        assert torch.allclose(found, call(body(), x))


class Recomputes(nn.Module):
    """The small net, which keeps less than it needs for its derivatives."""

    def __init__(self, reentrant, always=True):
        super().__init__()
        self.net, self.reentrant, self.always = body(), reentrant, always

    def forward(self, x):
        if not (self.training or self.always):
            return self.net(x)
        return self.net[1:](checkpoint(self.net[0], x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [True, False])
@every(
    {
        name: EVERY[name]
        for name in ("gradient", "smoothgrad", "integrated_gradients", "lrp", "manipulate", "pgd", "max_min")
    }
)
def test_recomputing_is_named_with_the_remedy(call, reentrant, x):
    """LRP cannot trace it; where the weights count as constants, torch sees other values than before."""
    with pytest.raises(ValueError, match=r"use_reentrant=False\) if self.training else f\(x\)|cannot be traced"):
        call(Recomputes(reentrant), x)


@every(EVERY)
def test_recomputing_in_train_mode_alone_works(call, x):
    call(Recomputes(False, always=False), x)


def test_a_second_derivative_that_is_missing_is_named_with_the_remedy(x):
    net = body(nn.Hardsigmoid())
    with pytest.raises(ValueError, match=r"no second derivative.*nets\.with_softplus"):
        attack.manipulate(net, x, attack.Distance(), **ATTACK)
    twin = nets.with_softplus(net, 10)
    assert attack.manipulate(net, x, attack.Distance(), surrogate=twin, **ATTACK).stepped.all()
    found = audited(net, x)
    assert found.table["could step"].dropna().eq(1).all()
    assert any("softplus copy" in note for note in found.notes)


def test_mobilenet_v3_is_audited_through_its_twin():
    torch.manual_seed(0)
    net, x = mobilenet_v3_small(weights=None, num_classes=4), torch.rand(2, 3, 32, 32, generator=seeded())
    with pytest.raises(ValueError, match="no second derivative"):
        attack.manipulate(net, x, attack.Distance(), **ATTACK)
    found = audited(net, x, ["gradient"])
    assert found.table.loc[("gradient", "distance"), "could step"] == 1


@pytest.mark.parametrize("size", [1, 2, 4])
@every({name: call for name, call in TRAINERS.items() if name != "fool"})
def test_a_last_batch_of_one_trains_or_names_the_batch_size(call, size, x, monkeypatch):
    monkeypatch.setitem(TRAIN, "batch_size", size)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Softplus(), nn.Linear(8, 4))
    works_or_says("batch_size" if size == 1 else "nothing else", lambda: call(net, x))


class OwnError(Exception):
    pass


def raises(error):
    def explainer(model, x, target=None, *, create_graph=False):
        raise error

    return explainer


def gives(change):
    def explainer(model, x, target=None, *, create_graph=False):
        return change(explain.gradient(model, x, target, create_graph=create_graph))

    return explainer


def bare(model, x, target=None):
    return explain.gradient(model, x, target)


BAD = {
    "no create_graph": (bare, "create_graph"),
    "no target": (lambda model, x, *, create_graph=False: x, "create_graph"),
    "type error": (raises(TypeError("no")), "TypeError|failed"),
    "key error": (raises(KeyError("no")), "KeyError"),
    "own error": (raises(OwnError("no")), "OwnError"),
    "runtime error": (raises(RuntimeError("no")), "RuntimeError"),
    "assertion": (raises(AssertionError()), "AssertionError"),
    "numpy": (gives(lambda m: m.detach().numpy()), "gave ndarray"),
    "tuple": (gives(lambda m: (m,)), "gave tuple"),
    "none": (gives(lambda m: None), "gave NoneType"),
    "three axes": (gives(lambda m: m[:, 0]), r"gave torch.float32 \(\d, 8, 8\)"),
    "one image": (gives(lambda m: m[:1]), r"gave torch.float32 \(1, 1, 8, 8\)"),
    "whole numbers": (gives(lambda m: m.long()), "gave torch.int64"),
    "nan": (gives(lambda m: m * torch.nan), "nan or infinite values"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_bad_explainer_does_not_end_an_audit(case, x):
    mine, words = BAD[case]
    for chosen in ({"good": explain.gradient, "mine": mine}, {"mine": mine, "good": explain.gradient}):
        found = audited(body(), x, chosen)
        assert found.table.index.unique(0).tolist() == ["good"]
        (note,) = [note for note in found.notes if note.startswith("mine was left out")]
        assert re.search(words, note)
    with pytest.raises(ValueError, match="no explainer works"):
        audited(body(), x, {"mine": mine})


@pytest.mark.parametrize("case", [name for name in BAD if "error" not in name and name != "assertion"])
def test_manipulate_says_how_an_explainer_must_be(case, x):
    mine, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        attack.manipulate(body(), x, attack.Distance(), explainer=mine, **ATTACK)


def test_an_explainer_that_fails_on_the_way_does_not_end_an_audit(x):
    seen = []

    def tires(model, x, target=None, *, create_graph=False):
        seen.append(None)
        if len(seen) > 6:
            raise OwnError("tired")
        return explain.gradient(model, x, target, create_graph=create_graph)

    found = audited(body(), x, {"mine": tires, "good": explain.gradient})
    assert found.table.index.unique(0).tolist() == ["good"]
    assert any("mine was left out" in note and "tired" in note for note in found.notes)


def test_an_explainer_may_be_an_object_or_take_options(x):
    class Mine:
        def __call__(self, model, x, target=None, create_graph=False, scale=2):
            return scale * explain.gradient(model, x, target, create_graph=create_graph)

    chosen = {
        "object": Mine(),
        "partial": functools.partial(Mine(), scale=3),
        "lambda": lambda *a, **k: Mine()(*a, **k),
    }
    found = audited(body(), x, chosen)
    assert found.table.index.unique(0).tolist() == list(chosen)
    assert found.table["could step"].dropna().eq(1).all()


def test_small_maps_have_no_ssim_and_end_no_audit(x):
    found = audited(body(), x, {"small": functools.partial(explain.gradient, layer="2"), "gradient": explain.gradient})
    assert found.values["small", "distance"]["ssim"].isnan().all()
    assert found.table.loc[("small", "distance"), "ssim"] == "undefined"
    assert found.table.loc[("gradient", "distance"), "ssim"] != "undefined"


@pytest.mark.parametrize("change", [lambda x: x.bfloat16(), lambda x: x.half()])
def test_coarse_images_are_named_as_the_caller_knows_them(change, x):
    for name, what in {"audit": "images", "manipulate": "x", "fit": "images", "pgd": "x"}.items():
        with pytest.raises(
            ValueError, match=rf"^{what} has dtype .*{what}\.float\(\), and the net as model\.float\(\)"
        ):
            EVERY[name](change(body()), change(x))
