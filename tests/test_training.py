import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from torch import nn

from atexlib import data
from atexlib.nets import convnet, running, training


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
    fitted = training.fit(net, blobs(), epochs=20, lr=0.05)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert running.accuracy(fitted.model, *blobs(seed=7)) > 0.9
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    assert not fitted.model.training


def test_the_same_seed_gives_the_same_net():
    nets = [training.fit(linear(), blobs(), epochs=2, generator=seeded(seed)).model for seed in (5, 5, 6)]
    weights = [net[1].weight for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_full_batch_step_is_adams():
    images, labels = blobs(50)
    net = linear()
    ours = training.fit(net, (images, labels), epochs=1, batch_size=50, lr=0.01).model
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    F.cross_entropy(net(images), labels).backward()
    optimizer.step()
    assert torch.allclose(ours[1].weight, net[1].weight, atol=1e-6)


def test_the_best_epoch_is_kept():
    images, labels = blobs()
    fitted = training.fit(linear(), (images, labels), validation=blobs(seed=3), epochs=8, lr=0.3, batch_size=10)
    scores = [entry["accuracy"] for entry in fitted.history]
    assert fitted.best_epoch == 1 + scores.index(max(scores))
    assert running.accuracy(fitted.model, *blobs(seed=3)) == max(scores)


def test_predict_works_in_eval_mode_and_gives_the_mode_back():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 3)).train()
    images, _ = blobs(10)
    assert torch.allclose(running.predict(net, images, batch_size=3), net[2](images.flatten(1)))
    assert net.training


def test_the_convnet_learns_digits():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    net = convnet.ConvNet(width=8, hidden=32, generator=seeded())
    fitted = training.fit(net, (train.images, train.labels), epochs=6, batch_size=25, lr=3e-3)
    assert running.accuracy(fitted.model, test.images, test.labels) > 0.85


def test_prediction_gives_each_module_its_mode_back_also_after_an_error():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(2 * 36, 3)).train()
    net[1].eval()
    running.predict(net, torch.rand(2, 1, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True]
    with pytest.raises(ValueError, match="Sequential cannot take images"):
        running.predict(net, torch.rand(2, 3, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True]
