"""Any use of a net: in threads, wrapped, with gradients off, by explainers of one's own (kinds E and F of issue 21)."""

import copy
import functools
import re
import threading

import pytest
import torch
from conftest import seeded
from entries import ATTACK, EVERY, LABELS, READERS, TRAIN, TRAINERS, Around, audited, body, every, works_or_says
from torch import nn
from torch.func import grad, jacrev, vmap
from torch.utils.checkpoint import checkpoint
from torchvision.models import mobilenet_v3_small

from atexlib import attack, explain, nets


@pytest.fixture
def x():
    return 0.05 + 0.9 * torch.rand(3, 1, 8, 8, generator=seeded(1))


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
        with pytest.raises(ValueError, match=r"made by torch.jit.*pass the net it was made of"):
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
    {name: EVERY[name] for name in ("gradient", "smoothgrad", "integrated_gradients", "manipulate", "pgd", "max_min")}
)
def test_recomputing_is_named_with_the_remedy(call, reentrant, x):
    """Where the weights count as constants, torch sees other values than before."""
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
