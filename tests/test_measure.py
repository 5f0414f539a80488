"""The function behind every table, against SciPy and scikit-image and attacks made by hand."""

import numpy as np
import pytest
import torch
from conftest import seeded
from scipy import stats
from skimage.metrics import structural_similarity

from atexlib import attack, nets
from atexlib.experiments.subjects import measure

EPS = 0.1


@pytest.fixture(scope="module")
def curved():
    """A softplus net in float64 whose maps change much within a small ball."""
    net = nets.ConvNet(side=12, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(2)).double()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(2.5)
    return net.eval()


@pytest.fixture
def x():
    return torch.rand(9, 1, 12, 12, generator=seeded(1), dtype=torch.float64)


def noise(_model, x, rows):
    return x + EPS * (2 * torch.rand(x.shape, generator=seeded(int(rows[0])), dtype=x.dtype) - 1)


def gradient_of(net, x, classes):
    """The map by autograd alone, image by image."""
    found = []
    for image, c in zip(x, classes, strict=True):
        z = image.unsqueeze(0).clone().requires_grad_()
        found.append(torch.autograd.grad(net(z)[0, c], z)[0])
    return torch.cat(found)


def test_every_number_is_that_of_scipy_and_scikit_image(curved, x):
    found = measure.stability(curved, x, noise, eps=EPS)
    z = noise(None, x, torch.arange(len(x)))
    logits, moved = curved(x), curved(z)
    classes = logits.argmax(1)
    kept = moved.argmax(1) == classes
    assert kept.any()
    a, b = (gradient_of(curved, images, classes).abs().squeeze(1).numpy() for images in (x, z))
    shift = (curved(z).softmax(1) - logits.softmax(1)).abs().gather(1, classes.unsqueeze(1))[:, 0]
    for i, (first, second) in enumerate(zip(a, b, strict=True)):
        p, q = first.ravel(), second.ravel()
        top = [set(np.argsort(values)[-50:]) for values in (p, q)]
        expected = {
            "spearman": stats.spearmanr(p, q).statistic,
            "kendall": stats.kendalltau(p, q).statistic,
            "topk": len(top[0] & top[1]) / 50,
            "ssim": structural_similarity(first / first.max(), second / second.max(), data_range=1.0),
            "mass_lost": p[list(top[0])].sum() / p.sum() - q[list(top[0])].sum() / q.sum(),
            "label_kept": float(kept[i]),
            "prediction_shift": shift[i].item(),
            "distance": (z - x)[i].abs().max().item(),
        }
        if not kept[i]:
            missing = ("spearman", "kendall", "topk", "ssim", "mass_lost")
            assert {found[name][i] for name in missing} == {None}
            expected = {name: value for name, value in expected.items() if name not in missing}
        assert {name: found[name][i] for name in expected} == pytest.approx(expected, rel=6e-5, abs=1e-9)


def test_an_image_that_stays_keeps_its_map(curved, x):
    found = measure.stability(curved, x, lambda _model, x, _rows: x.clone(), eps=EPS)
    for name in ("spearman", "kendall", "topk", "lens_topk", "ssim", "label_kept"):
        assert found[name] == [1.0] * len(x)
    for name in ("mass_lost", "prediction_shift", "distance"):
        assert found[name] == [0.0] * len(x)


def test_an_image_whose_label_was_lost_has_no_measure(curved, x):
    """Changing a prediction is no manipulation of a map: such images are counted, and left out."""
    x = x[curved(x).argmax(1) != curved(x.flip(0)).argmax(1)]
    assert len(x) > 1
    found = measure.stability(curved, x, lambda _model, x, _rows: x.flip(0), eps=1.0)
    lost = curved(x.flip(0)).argmax(1) != curved(x).argmax(1)
    assert lost.any()
    assert found["label_kept"] == (~lost).double().tolist()
    for name in ("spearman", "topk", "ssim", "dithered", "mass_lost"):
        assert [value is None for value in found[name]] == lost.tolist()


def test_a_reading_without_ties_compares_with_a_dithered_map():
    """Where a net's map leaps with any noise, the dithered map has leapt already."""
    net = torch.nn.Sequential(torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(36, 3)).double()
    x = torch.zeros(4, 1, 12, 12, dtype=torch.float64)
    x[:, :, 4:8, 4:8] = torch.rand(4, 1, 4, 4, generator=seeded(1), dtype=torch.float64)
    with torch.no_grad():
        net[2].weight.uniform_(0.1, 1.0, generator=seeded(2))

    def noisy(_model, x, _rows):
        return attack.Ball(x, measure.DITHER, "linf", (0, 1)).corner(seeded(0))

    found = measure.stability(net, x, noisy, eps=EPS)
    assert max(found["spearman"]) < 0.9
    assert found["dithered"] == [1.0] * 4


def test_an_attack_that_leaves_the_ball_is_an_error(curved, x):
    with pytest.raises(RuntimeError, match=r"further than eps = 0\.1"):
        measure.stability(curved, x, lambda _model, x, _rows: x + 0.1001, eps=EPS)
    measure.stability(curved, x, lambda _model, x, _rows: x + 0.1, eps=EPS)  # rounding is no error


def test_rows_are_the_numbers_of_the_images_across_batches(curved, monkeypatch):
    monkeypatch.setattr(measure, "BATCH", 4)
    x, seen = torch.rand(10, 1, 12, 12, generator=seeded(3), dtype=torch.float64), []

    def attack(_model, x, rows):
        seen.append((len(x), rows.tolist()))
        return x

    found = measure.stability(curved, x, attack, eps=EPS)
    assert seen == [(4, [0, 1, 2, 3]), (4, [4, 5, 6, 7]), (2, [8, 9])]
    assert all(len(values) == 10 for values in found.values())


def test_ties_share_their_ranks_and_a_constant_map_has_no_number(x):
    """A net whose map does not depend on the image: few values, many ties, and one class whose map is zero."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 2)).double()
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, :40] = 1.0
        net[1].bias.copy_(torch.tensor([5.0, 0.0]))
    found = measure.stability(net, x, noise, eps=EPS)
    assert found["spearman"] == [1.0] * len(x)
    assert found["kendall"] == [1.0] * len(x)
    with torch.no_grad():
        net[1].bias.copy_(torch.tensor([-50.0, 0.0]))
    found = measure.stability(net, x, noise, eps=EPS)
    assert found["spearman"] == [None] * len(x)
    assert found["kendall"] == [None] * len(x)
