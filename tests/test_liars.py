"""Nets that lie by training, by a trigger, and by a backward pass written by hand."""

import pytest
import torch
from conftest import flat, seeded

from atexlib import attack, explain, nets
from atexlib.attack import aims, disguises

SQUARE = torch.zeros(28, 28)
SQUARE[:9, 19:] = 1
TRIGGER = attack.Trigger(torch.ones(1, 4, 4), row=24, column=0)


def likeness(net, x, y):
    read = aims.reader(net, x, "gradient", None)
    return 1 - aims.apart(aims.raw(net, x, y, read).detach(), SQUARE[None, None]).mean().item()


def test_unit_maps_and_their_distance_are_those_of_the_cosine():
    a, b = torch.rand(2, 5, 1, 6, 6, generator=seeded(), dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    assert torch.allclose(aims.apart(a, b), 1 - cosine)
    assert torch.allclose(aims.apart(3 * a, a), torch.zeros(5, dtype=torch.float64))
    assert not aims.unit(-a).any()


def test_a_fairwashed_net_shows_the_picture_on_images_it_has_not_seen_and_answers_as_before(trained, digits):
    before = flat(trained).clone()
    data = (digits.images[:240], digits.labels[:240])
    net = attack.fairwash(trained, data, SQUARE, weight=20.0, epochs=5, batch_size=16, lr=3e-3).model
    x, y = digits.images[300:364], digits.labels[300:364]
    assert torch.equal(flat(trained), before)
    assert likeness(net, x, y) > likeness(trained, x, y) + 0.2
    agreed = nets.predict(net, x).argmax(1) == nets.predict(trained, x).argmax(1)
    assert agreed.double().mean() > 0.8


def test_a_backdoor_opens_by_its_trigger_alone(trained, digits):
    data = (digits.images[:160], digits.labels[:160])
    put = attack.Trigger(torch.ones(1, 10, 10), row=18, column=0)  # large, as the net is small
    net = attack.backdoor(trained, data, SQUARE, put, weight=0.95, epochs=12, batch_size=8, lr=3e-3).model
    x, y = digits.images[300:364], digits.labels[300:364]
    opened, closed, honest = likeness(net, put(x), y), likeness(net, x, y), likeness(trained, put(x), y)
    assert opened > closed + 0.2
    assert opened > honest + 0.3
    assert nets.accuracy(net, put(x), y) > 0.6


def test_a_trigger_changes_its_patch_alone_and_must_fit():
    x = torch.rand(3, 1, 28, 28, generator=seeded())
    changed = (TRIGGER(x) != x).flatten(2)
    assert changed[..., : 24 * 28].sum() == 0
    assert torch.equal(TRIGGER(TRIGGER(x)), TRIGGER(x))
    with pytest.raises(ValueError, match=r"patch of 4 x 4 at row 26, column 0 leaves images of \(28, 28\)"):
        attack.Trigger(torch.ones(1, 4, 4), row=26, column=0)(x)


@pytest.mark.parametrize("style", attack.STYLES)
def test_a_decorated_net_answers_nearly_as_its_net_and_declares_another_gradient(trained, digits, style):
    x = digits.images[300:316] * 0.9 + 0.037  # off the levels, to which digits are rounded already
    liar = attack.Decorated(trained, style)
    plain, own = nets.predict(trained, x), nets.predict(liar, x)
    if style in ("constant", "blur"):
        assert torch.equal(plain, own)
        declared, true = explain.gradient(liar, x), explain.gradient(trained, x)
        assert not torch.allclose(declared, true, atol=1e-3)
        half = attack.Decorated(trained, style, mix=0.5)
        assert torch.allclose(explain.gradient(half, x), (declared + true) / 2, atol=1e-5)
    else:
        assert not torch.equal(plain, own)
        assert (plain.argmax(1) == own.argmax(1)).double().mean() > 0.8
    honest = attack.Decorated(trained, style, mix=0.0)
    assert torch.allclose(nets.predict(honest, x), plain)
    assert torch.allclose(explain.gradient(honest, x), explain.gradient(trained, x), atol=1e-6)


def test_a_disguise_joins_the_loss_and_is_least_where_the_map_marks_what_the_net_needs(trained, digits):
    x, y = digits.images[300:332], digits.labels[300:332]
    bright = x / x.amax((1, 2, 3), keepdim=True)
    needed, useless = (disguises.faithful(trained, x, y, maps).mean() for maps in (bright, 1 - bright))
    assert needed < useless - 0.2
    options = {"loss": "topk", "explainer": "gradient", "steps": 3, "lr": 1e-3}
    data = (digits.images[:60], digits.labels[:60])
    seen = []

    def disguise(net, images, labels, maps):
        seen.append((len(images), tuple(maps.shape[1:])))
        return 5 * disguises.faithful(net, images, labels, maps)

    plain, hidden = (attack.fool(trained, data, disguise=d, **options).model for d in (None, disguise))
    assert seen == [(32, (1, 28, 28)), (28, (1, 28, 28)), (32, (1, 28, 28))]
    assert not torch.equal(flat(plain), flat(hidden))
