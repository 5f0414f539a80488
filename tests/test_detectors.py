"""Every detector of the register: shape, threshold, seeds, slopes; and what single ones must tell."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from conftest import curved, seeded
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from atexlib import attack, detect, explain, maps, nets
from atexlib.detect import response, ties
from atexlib.detect.registry import OWN

NET = curved()
SIBLING = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=4.0, generator=seeded(3)).double().eval()
IMAGES = torch.rand(80, 1, 8, 8, generator=seeded(7), dtype=torch.float64)
SCENE = detect.Scene(NET, explain.gradient, known=IMAGES[:40], clean=IMAGES[40:], sibling=SIBLING, steps=4)
X = torch.rand(5, 1, 8, 8, generator=seeded(8), dtype=torch.float64) * 0.9 + 0.05
EPS = 0.1
BLUR = detect.alarm("blur", SCENE)


@pytest.fixture(params=detect.DETECTORS)
def fitted(request):
    return detect.alarm(request.param, SCENE)


def slope(detector, x, seed=0):
    z = x.clone().requires_grad_()
    with nets.frozen(NET):
        value = detector.score(detect.Look(SCENE, z), seeded(seed))
    return torch.autograd.grad(value.sum(), z)[0]


def test_one_number_an_image_the_same_for_a_seed_and_nothing_is_changed(fitted):
    before, weights = X.clone(), [weight.clone() for weight in NET.parameters()]
    scores = fitted.scores(X, generator=seeded(1))
    assert scores.shape == (5,)
    assert scores.isfinite().all()
    assert torch.equal(scores, fitted.scores(X, generator=seeded(1)))
    assert torch.equal(X, before)
    assert all(map(torch.equal, weights, NET.parameters()))


def test_only_what_says_so_draws_random_numbers(fitted):
    same = torch.equal(fitted.scores(X, generator=seeded(1)), fitted.scores(X, generator=seeded(2)))
    assert same is not detect.DETECTORS[fitted.name].random


def test_an_image_does_not_depend_on_its_neighbours(fitted):
    if not detect.DETECTORS[fitted.name].random:
        alone = torch.cat([fitted.scores(image) for image in X.split(1)])
        torch.testing.assert_close(alone, fitted.scores(X))


def test_the_threshold_lets_few_clean_images_alarm_and_the_one_below_would_let_more(fitted):
    """Of n = 40 scores the 39th: (n + 1) times 0.95, rounded up."""
    assert fitted.threshold == fitted.ordered[38]
    assert (fitted.ordered > fitted.threshold).double().mean() <= 0.05
    assert torch.equal(fitted.flags(X), fitted.scores(X) > fitted.threshold)


def test_known_images_look_more_suspicious_once_attacked(fitted):
    if fitted.name in detect.JOINT or fitted.name == "ties":  # which is silent where nothing is tied
        return
    clean, attacked = (fitted.scores(images) for images in detect.known_pair(SCENE))
    assert (attacked > clean).double().mean() >= 0.5


@pytest.mark.parametrize("name", [n for n, d in detect.DETECTORS.items() if d.slope == OWN])
def test_slopes_are_those_of_finite_differences(name):
    detector = detect.alarm(name, SCENE)
    direction = torch.randn(X.shape, generator=seeded(4), dtype=X.dtype)
    h = 1e-6
    with torch.no_grad(), nets.frozen(NET):
        up, down = (detector.score(detect.Look(SCENE, X + s * h * direction), seeded()) for s in (1, -1))
    expected = (up - down) / (2 * h)
    torch.testing.assert_close((slope(detector, X) * direction).sum((1, 2, 3)), expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().max() > 1e-4


@pytest.mark.parametrize("name", [n for n, d in detect.DETECTORS.items() if d.slope != OWN])
def test_a_stand_in_lends_a_slope_but_not_a_value(name):
    detector = detect.alarm(name, SCENE)
    assert slope(detector, X).flatten(1).any(1).all()
    with nets.frozen(NET):
        value = detector.score(detect.Look(SCENE, X.clone().requires_grad_()), seeded())
    torch.testing.assert_close(value.detach(), detector.scores(X, generator=seeded()))


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
def test_jpeg_is_that_of_pillow(quality):
    x = torch.rand(3, 1, 28, 20, generator=seeded(2)).mul(255).round() / 255
    smooth = nn.functional.avg_pool2d(x, 3, 1, 1).mul(255).round() / 255
    made = detect.jpeg(smooth, quality)
    for image, own in zip(smooth, made, strict=True):
        file = io.BytesIO()
        Image.fromarray((255 * image[0]).byte().numpy()).save(file, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(file)).astype(float)
        difference = np.abs(theirs - 255 * own[0].numpy())
        assert difference[:24, :16].max() <= 3  # whole blocks; how an edge is filled up is the encoder's choice
        assert difference.mean() < 1


def test_blur_is_the_binomial_filter_and_grey_levels_are_few():
    flat = torch.full((1, 1, 6, 6), 0.3)
    torch.testing.assert_close(response.blurred(flat, seeded()), flat)
    dot = torch.zeros(1, 1, 5, 5)
    dot[..., 2, 2] = 1
    assert response.blurred(dot, seeded())[0, 0, 2].tolist() == [0, 0.125, 0.25, 0.125, 0]
    assert len(response.quantised(X, seeded()).unique()) <= response.LEVELS


def test_curvature_of_a_map_that_does_not_turn_is_zero():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).double()
    scene = detect.Scene(linear, explain.gradient, known=IMAGES[:40], clean=IMAGES[40:], steps=1)
    look = detect.Look(scene, X)
    assert detect.curvature.curvature(scene)(look, seeded()).abs().max() < 1e-12
    assert detect.apart(look.map, look.of(X + 1)).abs().max() < 1e-12


def test_ties_are_counted_window_by_window():
    pool = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 2)).double()
    scene = detect.Scene(pool, explain.gradient, known=IMAGES[:40], clean=IMAGES[40:], steps=1)
    x = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    x[0, 0, 0, 0] = 0.5  # breaks one window of sixteen
    x[1] = torch.arange(64.0).view(8, 8) / 64  # breaks all
    assert ties.ties(scene)(detect.Look(scene, x), seeded()).tolist() == [-15 / 16, 0]
    assert ties.TIED < 1 / 64


def test_mahalanobis_of_features_is_that_of_numpy():
    score = detect.features.mahalanobis(SCENE)
    look, known = detect.Look(SCENE, X), detect.Look(SCENE, SCENE.known)
    features, target = known.features.detach().numpy(), known.target.numpy()
    means = np.stack([features[target == c].mean(0) if (target == c).any() else features.mean(0) for c in range(4)])
    rest = features - means[target]
    covariance = rest.T @ rest / len(rest)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    off = look.features.detach().numpy() - means[look.target.numpy()]
    expected = np.sqrt(np.einsum("ij,jk,ik->i", off, np.linalg.inv(covariance), off))
    np.testing.assert_allclose(score(look, seeded()).detach().numpy(), expected, rtol=1e-6)


def test_the_loudest_is_the_largest_of_all_and_the_vote_lies_between_nought_and_one():
    loudest, vote = detect.alarm("loudest", SCENE), detect.alarm("vote", SCENE)
    quiet = [d for d in detect.members_of(SCENE) if not detect.DETECTORS[d.name].random]
    for detector in quiet:
        height = (detector.scores(X) - detector.ordered.median()) / detector.spread
        assert (loudest.scores(X) >= height - 1e-9).all()
    assert 0 <= vote.scores(X).min() <= vote.scores(X).max() <= 1


def test_the_mean_rank_is_the_area_under_the_curve_of_scikit_learn():
    clean, scores = (torch.randint(6, (30,), generator=seeded(s)).double() for s in (1, 2))
    area = roc_auc_score([0] * 30 + [1] * 30, torch.cat([clean, scores]))
    assert detect.ranks(scores, clean).mean().item() == pytest.approx(area)


def test_a_scene_without_a_sibling_has_fewer_detectors():
    scene = dataclasses.replace(SCENE, sibling=None, kept={})
    assert "agreement" not in detect.available(scene)
    with pytest.raises(ValueError, match="asks a second net"):
        detect.alarm("agreement", scene)


def left(z):
    target = NET(X).argmax(1)
    clean, changed = (explain.gradient(NET, images, target).abs() for images in (X, z))
    return maps.spearman(clean, changed)


@pytest.mark.parametrize("name", ["noise", "quantised", "curvature", "mahalanobis", "learnt", "loudest"])
def test_who_knows_a_detector_escapes_it_inside_the_ball_and_the_class(name):
    """Judged from outside: the ball, the class, and the detector itself with draws that the search has not seen."""
    detector = detect.alarm(name, SCENE)
    found = detect.evade(SCENE, X, attack.Distance(), [name], eps=EPS, steps=30, generator=seeded(5))
    assert ((found.x - X).abs() <= EPS).all()
    assert torch.equal(NET(found.x).argmax(1), NET(X).argmax(1))
    quiet = ~detector.flags(X)
    assert not (detector.flags(found.x, generator=seeded(11)) & quiet).any()
    assert left(found.x)[quiet].mean() < 0.95
    assert found.effort.starts == (2 if name in ("quantised", "loudest") else 1)  # with the search among grey levels


@pytest.mark.parametrize("name", ["noise", "quantised", "curvature", "mahalanobis", "learnt", "loudest"])
def test_who_presses_on_stays_inside_too_and_keeps_what_was_found_before(name):
    detector = detect.alarm(name, SCENE)
    first = detect.evade(SCENE, X, attack.RankDistance(), [name], eps=EPS, steps=10, generator=seeded(5))
    how = {"eps": EPS, "steps": 10, "start": first.x}
    found = detect.press_on(SCENE, X, attack.RankDistance(), [name], generator=seeded(6), **how)
    assert ((found - X).abs() <= EPS).all()
    assert torch.equal(NET(found).argmax(1), NET(X).argmax(1))
    quiet = ~detector.flags(X)
    assert not (detector.flags(found, generator=seeded(11)) & quiet).any()
    assert torch.equal(found, detect.press_on(SCENE, X, attack.RankDistance(), [name], generator=seeded(6), **how))
    if not detect.DETECTORS[name].random:
        assert (left(found) <= left(first.x) + 0.02)[~first.unchanged].all()  # soft ranks are near ranks
        assert left(found).mean() < left(first.x).mean()


def test_what_alarms_from_the_start_is_not_kept_and_without_anything_silent_nothing_is_changed():
    loud = attack.manipulate(NET, X, attack.RankDistance(), eps=EPS, steps=30).x
    for threshold, silent in ((BLUR.scores(loud).median().item(), True), (-1.0, False)):
        strict = dataclasses.replace(BLUR, threshold=threshold)
        scene = dataclasses.replace(SCENE, kept={("fitted", "blur"): strict})
        assert strict.flags(loud).any()
        found = detect.press_on(scene, X, attack.RankDistance(), ["blur"], start=loud, eps=EPS, steps=20)
        moved = (found != X).flatten(1).any(1)
        assert moved.any() == silent
        assert not strict.flags(found)[moved].any()


def test_a_start_of_another_class_is_left_although_it_is_silent():
    target = NET(X).argmax(1)
    start = attack.pgd(NET, X, target, eps=0.5)
    other = NET(start).argmax(1) != target
    scene = dataclasses.replace(SCENE, kept={("fitted", "blur"): dataclasses.replace(BLUR, threshold=9.0)})
    found = detect.press_on(scene, X, attack.RankDistance(), ["blur"], start=start, eps=0.5, steps=3)
    assert other.any()
    assert torch.equal(NET(found).argmax(1), target)


def test_the_penalty_finds_what_is_silent_where_the_map_alone_leads_past_the_threshold():
    loud = attack.manipulate(NET, X, attack.RankDistance(), eps=EPS, steps=30).x
    strict = dataclasses.replace(BLUR, threshold=BLUR.scores(torch.cat([X, loud])).min().item())
    scene = dataclasses.replace(SCENE, kept={("fitted", "blur"): strict})
    found = detect.press_on(scene, X, attack.RankDistance(), ["blur"], start=loud, eps=EPS, steps=20)
    assert (found != X).flatten(1).any(1).all()


def test_an_image_that_scores_lower_than_the_clean_one_is_not_returned():
    """An objective that nothing can raise."""
    found = detect.press_on(SCENE, X, lambda clean: lambda z: -(z - clean).abs().sum((1, 2, 3)), ["blur"],
                            start=X + 0.01, eps=EPS, steps=5)  # fmt: skip
    assert torch.equal(found, X)


def test_a_start_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"^start has the shape \(2, 1, 8, 8\); pass images of the shape of x"):
        detect.press_on(SCENE, X, attack.Distance(), ["blur"], start=X[:2], eps=EPS)


def test_a_constraint_is_obeyed_where_it_bites_and_a_mask_holds_pixels():
    """No image may grow brighter: the sum of its pixels."""

    def excess(z):
        return (z - X).sum((1, 2, 3))

    free = attack.manipulate(NET, X, attack.Distance(), eps=EPS, steps=30).x
    found = attack.manipulate(NET, X, attack.Distance(), eps=EPS, steps=30, constraint=excess)
    assert (excess(free) > 0).any()
    assert (excess(found.x)[~found.unchanged] < 0).all()
    assert (found.score > found.clean_score)[~found.unchanged].all()
    assert (~found.unchanged).any()
    where = torch.zeros_like(X, dtype=torch.bool)
    where[..., :4] = True
    half = attack.manipulate(NET, X, attack.Distance(), eps=EPS, steps=10, starts=2, where=where).x
    assert torch.equal(half[..., 4:], X[..., 4:])
    assert not torch.equal(half[..., :4], X[..., :4])


@pytest.mark.parametrize("where", [X[:2] > 0, [True], torch.ones(8, 8)])
def test_a_mask_of_another_shape_is_refused(where):
    with pytest.raises(ValueError, match=r"^where is .*; pass a tensor of True and False of the shape of x"):
        attack.manipulate(NET, X, attack.Distance(), eps=EPS, steps=1, where=where)


@pytest.mark.parametrize("names", ["noise", []])
def test_names_of_detectors_come_in_a_list(names):
    with pytest.raises(ValueError, match=r"^detectors is .*; pass a list of names"):
        detect.evade(SCENE, X, attack.Distance(), names, eps=EPS)


def test_an_image_of_the_levels_that_stay_is_silent_to_who_takes_levels_away():
    """What rounding leaves alone: the second search of the attacker."""
    found = attack.manipulate(NET, X, attack.Distance(), eps=EPS, steps=10, levels=response.LEVELS).x
    assert ((found - X).abs() <= EPS).all()
    moved = (found != X).flatten(1).any(1)
    assert moved.any()
    scores = response.responding(response.quantised)(SCENE)(detect.Look(SCENE, found), seeded())
    assert scores[moved].abs().max() < 1e-9
    with pytest.raises(ValueError, match="levels is 16 with the norm 'l2'"):
        attack.manipulate(NET, X, attack.Distance(), eps=EPS, steps=1, norm="l2", levels=16)


def test_where_nothing_can_be_tied_nothing_is_spared():
    smooth = nets.with_pooling(NET, "average")
    scene = detect.Scene(smooth, explain.gradient, known=IMAGES[:40], clean=IMAGES[40:], steps=2)
    detector = detect.alarm("ties", scene)
    assert detect.spared(X, detector, EPS).all()
    assert (~detect.evade(scene, X, attack.Distance(), ["ties"], eps=EPS, steps=5).unchanged).all()


def test_what_ties_is_spared():
    """On a black ground the pixels far from the object stay as they are, so that the windows there stay tied."""
    x = torch.zeros(6, 1, 8, 8, dtype=torch.float64)
    x[..., 2:5, 2:5] = 0.2 + 0.6 * torch.rand(6, 1, 3, 3, generator=seeded(3), dtype=torch.float64)
    scene = detect.Scene(NET, explain.gradient, known=x.repeat(7, 1, 1, 1), clean=x.repeat(7, 1, 1, 1), steps=2)
    detector = detect.alarm("ties", scene)
    corner = attack.Ball(x, EPS, "linf", (0, 1)).corner(seeded())
    assert detector.flags(corner).all()
    where = detect.spared(x, detector, EPS)
    assert where[..., 2:5, 2:5].all()
    assert not where.flatten(1).all(1).any()
    found = detect.evade(scene, x, attack.Distance(), ["ties"], eps=EPS, steps=10)
    assert not detector.flags(found.x).any()
    assert (~found.unchanged).all()
