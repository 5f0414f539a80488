"""FGSM and PGD against closed forms on linear nets and captum."""

import pytest
import torch
from captum.robust import FGSM, PGD
from conftest import seeded
from torch import nn

from atexlib import attack, nets
from atexlib.attack import predictions

WIDE = (-10.0, 10.0)


def linear(classes=2):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, classes)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(classes, 64, generator=seeded(3)).double())
    return net


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 3, 0, 1])


def two(labels):
    return labels % 2


def test_fgsm_on_a_linear_net_goes_to_the_corner_against_the_label(x, labels):
    net, y = linear(), two(labels)
    against = (net[1].weight[1 - y] - net[1].weight[y]).sign().view_as(x)
    found = attack.fgsm(net, x, y, eps=0.1)
    torch.testing.assert_close(found, (x + 0.1 * against).clamp(0, 1), atol=1e-7, rtol=0)


@pytest.mark.filterwarnings("ignore:Input Tensor 0")
@pytest.mark.parametrize("eps", [0.0, 0.03, 0.3])
def test_fgsm_equals_captum(net, x, labels, eps):
    peer = FGSM(lambda z: net(z).softmax(1), lower_bound=0.0, upper_bound=1.0)
    expected = peer.perturb(x, epsilon=eps, target=labels)
    torch.testing.assert_close(attack.fgsm(net, x, labels, eps=eps), expected.detach(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_on_a_linear_net_finds_the_worst_point_of_the_ball(x, labels, norm):
    net, y = linear(), two(labels)
    against = (net[1].weight[1 - y] - net[1].weight[y]).view_as(x)
    unit = against.sign() if norm == "linf" else against / against.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    found = attack.pgd(net, x, y, eps=0.2, norm=norm, steps=40, bounds=WIDE)
    torch.testing.assert_close(found, x + 0.2 * unit, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:Input Tensor 0")
def test_pgd_is_never_weaker_than_captums_last_iterate(net, x, labels):
    peer = PGD(lambda z: net(z).softmax(1), lower_bound=0.0, upper_bound=1.0)
    theirs = peer.perturb(x, radius=0.1, step_size=0.0125, step_num=20, target=labels).detach()
    ours = attack.pgd(net, x, labels, eps=0.1, steps=20, step_size=0.0125)
    margins = [attack.margin(nets.predict(net, z), labels) for z in (ours, theirs)]
    assert (margins[0] <= margins[1] + 1e-5).all()
    assert (margins[0] < attack.margin(nets.predict(net, x), labels) - 0.1).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_stays_in_its_ball_and_more_starts_never_weaken_it(net, x, labels, norm):
    x = x.float()
    net = net.float()
    margins = []
    for starts in (1, 3):
        z = attack.pgd(net, x, labels, eps=0.15, norm=norm, steps=5, starts=starts)
        shift = (z - x).flatten(1).double()
        assert (shift.abs().amax(1) if norm == "linf" else shift.norm(dim=1)).max() <= 0.15 * (1 + 1e-6)
        assert z.min() >= 0
        assert z.max() <= 1
        margins.append(attack.margin(nets.predict(net, z), labels))
    assert (margins[1] <= margins[0]).all()


def test_the_gradient_of_a_sure_net_is_not_rounded_away(net, x, labels):
    with torch.no_grad():
        net.fc2.weight.mul_(50)
        net.fc2.bias.mul_(50)
    p = nets.predict(net, x).softmax(1)
    sure = p.argmax(1)
    assert (1 - p.amax(1)).min() < 1e-8
    exact = attack.loss_gradient(net, x, sure).flatten(1)
    single = attack.loss_gradient(net.float(), x.float(), sure).double().flatten(1)
    cosine = (exact * single).sum(1) / exact.norm(dim=1) / single.norm(dim=1)
    assert cosine.min() > 0.999


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_of_any_whole_number_type_and_images_with_a_graph(net, x, labels, dtype):
    found = attack.pgd(net, x.requires_grad_(), labels.to(dtype), eps=0.1, steps=2)
    assert not found.requires_grad
    assert torch.equal(found, attack.pgd(net, x.detach(), labels, eps=0.1, steps=2))
    assert not attack.fgsm(net, x, labels.to(dtype), eps=0.1).requires_grad


class Valley(nn.Module):
    """The image's own class loses only far from the image: near it, each step leads back."""

    def forward(self, x):
        far = x.square().sum((1, 2, 3))
        return torch.stack([torch.zeros_like(far), torch.where(far < 1, -far, far - 2)], 1)


def test_a_second_start_can_find_what_the_first_does_not():
    x, y = torch.full((4, 1, 4, 4), 0.01), torch.zeros(4, dtype=torch.long)
    options = {"eps": 0.5, "steps": 3, "step_size": 0.02, "bounds": WIDE}
    margins = [attack.margin(Valley()(attack.pgd(Valley(), x, y, starts=starts, **options)), y) for starts in (1, 2)]
    assert (margins[1] < margins[0] - 1).all()


def test_margin_is_below_zero_exactly_where_the_prediction_is_wrong():
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, -1.0, 5.0], [-3.0, -1.0, -2.0]])
    found = attack.margin(logits, torch.tensor([0, 1, 1, 1]))
    assert found.tolist() == [1.0, -1.0, -6.0, 1.0]


def test_many_images_are_worked_through_in_batches(monkeypatch, net, x, labels):
    whole = [f(net, x, labels, eps=0.1) for f in (attack.fgsm, attack.pgd)]
    monkeypatch.setattr(predictions, "BATCH", 4)
    for f, expected in zip((attack.fgsm, attack.pgd), whole, strict=True):
        torch.testing.assert_close(f(net, x, labels, eps=0.1), expected)


def test_theorem_1(net, x):
    """Tang et al. 2022: the loss gradient is minus the probability's gradient over the probability."""
    target = nets.predict(net, x).argmax(1)
    delta = attack.loss_gradient(net, x, target)
    z = x.clone().requires_grad_()
    p = net(z).softmax(1).gather(1, target[:, None])[:, 0]
    slope = torch.autograd.grad(p.sum(), z)[0]
    torch.testing.assert_close(delta, -slope / p.detach().view(-1, 1, 1, 1), atol=1e-12, rtol=1e-8)
