import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import FEW, FORTY, flat, seeded
from torch import nn
from torch.utils.data import TensorDataset

from atexlib import attack, data, defend, nets


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def blobs(count=300, seed=0):
    labels = torch.randint(3, (count,), generator=seeded(seed))
    images = 0.3 * torch.randn(count, 1, 4, 4, generator=seeded(seed + 1))
    images[torch.arange(count), 0, labels, labels] += 1
    return images, labels


def test_fit_learns_and_leaves_its_argument_alone():
    net = linear()
    before = copy.deepcopy(net.state_dict())
    fitted = nets.fit(net, blobs(), epochs=20, lr=0.05)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert nets.accuracy(fitted.model, *blobs(seed=7)) > 0.9
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    assert not fitted.model.training


def test_the_same_seed_gives_the_same_net():
    made = [nets.fit(linear(), blobs(), epochs=2, generator=seeded(seed)).model for seed in (5, 5, 6)]
    weights = [net[1].weight for net in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_full_batch_step_is_adams():
    images, labels = blobs(50)
    net = linear()
    ours = nets.fit(net, (images, labels), epochs=1, batch_size=50, lr=0.01).model
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    F.cross_entropy(net(images), labels).backward()
    optimizer.step()
    assert torch.allclose(ours[1].weight, net[1].weight, atol=1e-6)


def test_the_best_epoch_is_kept():
    images, labels = blobs()
    fitted = nets.fit(linear(), (images, labels), validation=blobs(seed=3), epochs=8, lr=0.3, batch_size=10)
    scores = [entry["accuracy"] for entry in fitted.history]
    assert fitted.best_epoch == 1 + scores.index(max(scores))
    assert nets.accuracy(fitted.model, *blobs(seed=3)) == max(scores)


def test_the_convnet_learns_digits():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    net = nets.ConvNet(width=8, hidden=32, generator=seeded())
    fitted = nets.fit(net, (train.images, train.labels), epochs=3, batch_size=20, lr=5e-3)
    assert nets.accuracy(fitted.model, test.images, test.labels) > 0.85


TRAINERS = {
    "fit": lambda net, examples, **o: nets.fit(net, examples, **{"epochs": 1, "batch_size": 10, **o}),
    "naive": lambda net, examples, **o: defend.naive(net, examples, **FEW | o),
    "atex": lambda net, examples, **o: defend.atex(net, examples, **FEW | o),
    "adversarial_training": lambda net, examples, **o: defend.adversarial_training(net, examples, **FEW | o),
    "fool": lambda net, examples, **o: attack.fool(net, examples, explainer="gradient", steps=3, lr=1e-3, **o),
}
FORMS = {
    "pair": lambda x, y: (x, y),
    "list": lambda x, y: [x, y],
    "ImageSet": lambda x, y: data.ImageSet(x, y, "forty"),
    "TensorDataset": lambda x, y: TensorDataset(x, y),
}
SETS = {"data": TRAINERS, "validation": set(TRAINERS) - {"adversarial_training"}, "fool_set": {"fool"}}


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, names in SETS.items() for name in sorted(names)])
def test_images_and_labels_come_in_any_form(base, what, name):
    few = tuple(values[:20] for values in FORTY)
    found = []
    for form in FORMS.values():
        options = {"data": FORTY} | ({what: form(*FORTY)} if what == "data" else {what: form(*few)})
        found.append(TRAINERS[name](base, options.pop("data"), **options))
    assert not torch.equal(flat(found[0].model), flat(base))
    for other in found[1:]:
        assert torch.equal(flat(found[0].model), flat(other.model))
        assert found[0].history == other.history


@pytest.mark.parametrize("name", TRAINERS)
def test_without_a_device_the_net_stays_where_it_is(base, name):
    x, y = FORTY
    for device in (None, "cpu", torch.device("cpu")):
        trained = TRAINERS[name](base, (x, y), device=device).model
        assert {weight.device for weight in trained.parameters()} == {next(base.parameters()).device}


@pytest.mark.parametrize("name", sorted(set(TRAINERS) - {"fool"}))
def test_a_trainer_returns_a_net_its_history_and_the_epoch_kept(base, name):
    fitted = TRAINERS[name](base, FORTY, epochs=3)
    assert isinstance(fitted, nets.Fitted)
    assert [entry["epoch"] for entry in fitted.history] == [1, 2, 3]
    assert fitted.best_epoch == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        fitted.model = base
