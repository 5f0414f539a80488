"""Adversarial training against what it must do."""

import pytest
import torch

from atexlib import attack, data, defend, nets
from atexlib.defend import adversarial


@pytest.mark.parametrize("refresh", [False, True])
def test_adversarial_training_is_repeatable_and_leaves_its_net_alone(trained, digits, refresh):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    options = {"eps": 0.1, "refresh": refresh, "epochs": 1}
    made = [
        defend.adversarial_training(trained, digits, generator=torch.Generator().manual_seed(seed), **options).model
        for seed in (0, 0, 1)
    ]
    states = [net.state_dict() for net in made]
    assert all(torch.equal(states[0][name], states[1][name]) for name in before)
    assert any(not torch.equal(states[0][name], states[2][name]) for name in before)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in before.items())


def test_refreshed_images_make_the_net_resist_a_new_round(trained, digits):
    def resists(net):
        test = data.load("digits", "test").first(100)
        return nets.accuracy(net, attack.fgsm(net, test.images, test.labels, eps=0.1), test.labels)

    hardened = defend.adversarial_training(trained, digits, eps=0.1, refresh=True, epochs=6, batch_size=20).model
    assert resists(hardened) > resists(trained) + 0.1


def test_the_fgsm_images_are_made_once_of_the_first_images(trained, digits, monkeypatch):
    seen = []
    real = attack.fgsm

    def watch(net, x, y, *, eps):
        made = real(net, x, y, eps=eps)
        seen.append((x, y, made))
        assert all(torch.equal(v, trained.state_dict()[k]) for k, v in net.state_dict().items())
        return made

    pools = []

    def optimize(model, loss, *, count, **_):
        pools.append(count)
        return nets.Fitted(model, [], 1)

    monkeypatch.setattr(adversarial, "fgsm", watch)
    monkeypatch.setattr(adversarial, "optimize", optimize)
    defend.adversarial_training(trained, digits, eps=0.1, count=30, epochs=1)
    (x, y, made) = seen[0]
    assert torch.equal(x, digits.images[:30])
    assert torch.equal(y, digits.labels[:30])
    assert (made - x).abs().max() <= 0.1 + 1e-6
    assert pools == [430]


def test_refreshed_images_are_made_of_the_net_as_it_then_is(trained, digits, monkeypatch):
    seen = []
    real = attack.fgsm

    def watch(net, x, y, *, eps):
        seen.append(net.fc2.weight.detach().clone())
        return real(net, x, y, eps=eps)

    monkeypatch.setattr(adversarial, "fgsm", watch)
    defend.adversarial_training(trained, digits.first(60), eps=0.1, refresh=True, epochs=1, batch_size=20)
    assert len(seen) == 3
    assert torch.equal(seen[0], trained.fc2.weight)
    assert not torch.equal(seen[1], seen[0])
    assert not torch.equal(seen[2], seen[1])
