"""On a GPU everything gives what it gives on the CPU, up to rounding; skipped where there is none."""

import functools

import pytest
import torch
from conftest import FEW, FORTY, curved, flat, objective_of, seeded

from atexlib import attack, defend, explain, judge, maps, nets

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU = "cuda"
EXPLAINERS = {
    name: functools.partial(explain.find(name), **{"smoothgrad": {"samples": 3}}.get(name, {}))
    for name in explain.available()
}


@pytest.fixture
def images():
    return torch.rand(6, 1, 8, 8, generator=seeded(1), dtype=torch.float64)


def near(found, wanted, tolerance=1e-8):
    torch.testing.assert_close(found.cpu(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_map(images, name):
    x, explainer = images, EXPLAINERS[name]
    near(explainer(curved().to(GPU), x.to(GPU)), explainer(curved(), x))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_map_in_float32_keeps_float32(images, name):
    """TF32 would leave three digits."""
    net, x, explainer = curved().float(), images.float(), EXPLAINERS[name]
    wanted = explainer(net, x)
    assert (explainer(net.to(GPU), x.to(GPU)).cpu() - wanted).abs().max() < 2e-4 * wanted.abs().max()


@pytest.mark.parametrize("measure", [maps.spearman, maps.kendall, maps.ssim, maps.lens_topk])
def test_a_measure(measure):
    a, b = torch.rand(2, 5, 1, 12, 12, generator=seeded(2), dtype=torch.float64)
    if measure in (maps.spearman, maps.kendall):  # of equal entries any may be among the largest
        a, b = a.round(decimals=1), b.round(decimals=1)
    near(measure(a.to(GPU), b.to(GPU)), measure(a, b))


@pytest.mark.parametrize("name", attack.available())
@pytest.mark.parametrize("explainer", ["gradient", "lrp", "grad_cam"])
def test_an_attack_keeps_its_constraints_and_is_as_strong(images, name, explainer):
    score = {}
    for device in ("cpu", GPU):
        net, x = curved().to(device), images.to(device)
        aim = objective_of(name, x)
        found = attack.manipulate(net, x, aim, eps=0.1, steps=20, starts=4, explainer=explainer)
        assert (found.x - x).abs().max() <= 0.1 * (1 + 1e-6)
        assert torch.equal(nets.predict(net, found.x).argmax(1), nets.predict(net, x).argmax(1))
        score[device] = found.score.cpu()
    assert (score[GPU] - score["cpu"]).mean() > -0.1  # where rounding decides, the paths part


@pytest.mark.parametrize("run", [attack.pgd, attack.fgsm])
def test_an_attack_on_predictions(images, run):
    target = nets.predict(curved(), images).argmax(1)
    near(run(curved().to(GPU), images.to(GPU), target.to(GPU), eps=0.1), run(curved(), images, target, eps=0.1))


@pytest.mark.parametrize("name", ["none", *defend.DEFENSES])
def test_a_training_leaves_a_net_that_knows_as_much(base, name):
    right = {}
    for device in ("cpu", GPU):
        options = {**FEW, "device": device}
        if name == "none" or "eps" not in defend.DEFENSES[name].settings:
            options.pop("eps")
        if name == "none":
            trained = nets.fit(base, FORTY, **options).model
        else:
            chosen = defend.DEFENSES[name]
            trained = chosen.train(base, FORTY, **{**chosen.settings, **options}).model
        assert next(trained.parameters()).device.type == device
        assert flat(trained).isfinite().all()
        right[device] = nets.accuracy(trained, *FORTY)
    assert abs(right[GPU] - right["cpu"]) <= 0.1


@pytest.mark.parametrize("loss", attack.LOSSES)
def test_fooling(base, loss):
    classes = (0, 1) if loss == "active" else None
    options = {"loss": loss, "classes": classes, "explainer": "grad_cam", "steps": 4, "batch_size": 10}
    found = attack.fool(base.to(GPU), tuple(v.to(GPU) for v in FORTY), **options)
    assert flat(found.model).isfinite().all()
    base.to("cpu")


def test_an_audit(base):
    x, y = (values[:4] for values in FORTY)
    found = judge.audit(base.to(GPU), x, y, eps=0.1, steps=4)
    assert len(found.table)
    assert not found.notes
    base.to("cpu")


def test_a_worst_case(images):
    found = [judge.min_max(curved().to(on), images.to(on), eps=0.1, steps=20, starts=4).value for on in ("cpu", GPU)]
    near(found[1].mean(), found[0].mean(), 0.1)  # the starts are drawn anew
