"""One check with a known answer for every kind of card, most of them on a net whose map cannot move."""

from types import SimpleNamespace

import pytest
import torch
from conftest import seeded
from torch import nn

from atexlib import attack, defend, detect, explain, nets
from atexlib.attack import inputs
from atexlib.experiments import KINDS, Place
from atexlib.experiments.engine import results
from atexlib.experiments.kinds import costs, detection, efficacy, fooling, repair, smoothness, variants
from atexlib.experiments.subjects import nets as subjects
from atexlib.maps import shape

WHERE = {"dataset": "digits", "seed": 0, "preset": "canary"}


def made(kind, **spec):
    return KINDS[kind].make({"kind": kind, **WHERE, **spec}, Place(**WHERE))


@pytest.fixture
def linear(monkeypatch):
    """Every net is this linear one: its gradient map is a row of its weights, whatever the image."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double().eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(10, 784, generator=seeded(4), dtype=torch.float64))
    monkeypatch.setattr(results, "net_of", lambda _spec, _place: net)
    return net


def means(card, *names):
    return [card[name]["mean"] for name in names]


@pytest.mark.parametrize("name", ["untargeted", "targeted"])
def test_table_no_attack_moves_the_map_of_a_linear_net(linear, name):
    card = made("table", attack=name, defense="none", eps=0.1)
    assert means(card, "spearman", "kendall", "topk", "lens_topk", "ssim", "label_kept") == [1.0] * 6
    assert means(card, "mass_lost") == [0.0]
    test = Place(**WHERE).images("test")
    assert card["accuracy"] == nets.accuracy(linear, test.images, test.labels)


@pytest.mark.parametrize(
    "name", ["center_mass", "target_map", "distance", "tolerance", "surrogate", "transfer", "noise"]
)
def test_attacks_no_attack_moves_the_map_of_a_linear_net(linear, name):
    card = made("attacks", attack=name, defense="none", eps=0.1)
    assert means(card, "spearman", "topk", "ssim") == [1.0] * 3
    if name == "tolerance":
        assert max(card["prediction_shift"]["values"]) <= 0.1


@pytest.mark.parametrize("effort", [(1, 1), (3, 2)])
def test_budget_spends_the_effort_of_its_spec(monkeypatch, effort):
    seen, ascend = set(), inputs.ascend

    def watched(*arguments, **options):
        seen.add((options["steps"], options["starts"]))
        return ascend(*arguments, **options)

    monkeypatch.setattr(inputs, "ascend", watched)
    made("budget", defense="none", steps=effort[0], starts=effort[1], eps=0.1)
    assert seen == {effort}


def test_explainers_integrated_gradients_of_a_linear_net_are_gradient_times_input(linear):
    cards = [
        made("explainers", defense="none", explainer=n, eps=0.1) for n in ("integrated_gradients", "gradient_x_input")
    ]
    for name in ("spearman", "topk", "ssim"):
        assert cards[0][name]["mean"] == pytest.approx(cards[1][name]["mean"], abs=1e-4)
    assert made("explainers", defense="none", explainer="smoothgrad", eps=0.1)["spearman"]["mean"] == 1


def test_price_and_variants_of_a_linear_net_cost_nothing(linear):
    card = made("price", net="none")
    assert means(card, "spearman 0.05", "topk 0.1", "validation spearman 0.1") == [1.0] * 3
    card = made("variants", variant="no training")
    assert means(card, "spearman 0.05", "topk 0.1", "spearman 0.1") == [1.0] * 3


def test_smoothness_of_a_linear_net_is_perfect(linear):
    """Its SmoothGrad map is its gradient; blurred, it is what the blur makes of it."""
    card = made("smoothness", defense="plain", iterations=0, map="gradient")
    assert means(card, "ssim max", "ssim l1", "ssim raw", "rank", "same class") == [1.0] * 5
    assert card["spearman"]["values"] == card["topk"]["values"] == [1.0]
    x = Place(**WHERE).images("test", 4).images
    maps = explain.gradient(linear, x)
    assert card["mass"]["mean"] == pytest.approx(shape.mass_on(maps, x > 0).mean().item(), rel=1e-4)
    assert card["variation"]["values"] == pytest.approx(shape.total_variation(maps).tolist(), rel=1e-4)
    assert made("smoothness", defense="plain", iterations=0, map="blur 2")["ssim max"]["mean"] < 0.9


def test_a_map_of_random_numbers_gives_the_level_of_each_measure():
    """Its mass on some pixels is their share, and it has no slope to attack."""
    card = made("smoothness", defense="plain", iterations=0, map="random")
    assert abs(card["rank"]["mean"]) < 0.3
    assert "spearman" not in card
    x = torch.randn(8, 1, 28, 28, generator=seeded())
    maps = smoothness.MAPS["random"](None, x, None)
    assert shape.mass_on(maps, x > 1).tolist() == pytest.approx((x > 1).float().mean((1, 2, 3)).tolist(), abs=0.03)


def test_theorem_1_holds_and_not_for_the_logit():
    card = made("theorem1", defense="none")
    for name in ("probability", "log-probability"):
        assert max(abs(value) for value in card[name]["values"]) < 1e-10
    assert min(card["logit"]["values"]) > 1e-6


def test_cost_takes_turns_and_weighs_what_is_kept():
    card = made("cost", side="14")
    assert {len(times) for times in card["seconds"].values()} == {costs.REPEATS["canary"]}
    assert card["bytes"]["naive, 8"] > card["bytes"]["naive, 1"] > card["bytes"]["plain"] > 0
    x = torch.rand(1000, requires_grad=True)
    with costs.saved_bytes() as largest:
        y = (x.exp() * 2).sin()
        del y
        z = x.exp()
    assert largest["bytes"] == 8000  # exp keeps its result, sin its argument
    del z


def test_each_direction_is_what_its_name_says():
    model, other = (nets.ConvNet(generator=seeded(seed)).eval() for seed in (0, 1))
    x = 0.3 + 0.4 * torch.rand(6, 1, 28, 28, generator=seeded(2))  # nothing is clipped
    y = nets.predict(model, x).argmax(1)
    found = efficacy.other_directions(model, other, x, y, seed=0)
    assert found.keys() == set(efficacy.DIRECTIONS)
    shifts = {name: (z - x).flatten(1) for name, z in found.items()}
    largest = {name: shift.abs().amax(1).max().item() for name, shift in shifts.items()}
    for name in ("random", "transfer", "orthogonal", "pgd"):
        assert 0.05 < largest[name] <= efficacy.FGSM_EPS * (1 + 1e-5)
    assert shifts["pgd l2"].norm(dim=1).max().item() == pytest.approx(efficacy.L2_EPS, rel=1e-3)
    slope = attack.loss_gradient(model, x, y).flatten(1)
    assert torch.cosine_similarity(shifts["orthogonal"], slope).abs().max() < 1e-3
    assert torch.equal(found["transfer"], attack.fgsm(other, x, y, eps=efficacy.FGSM_EPS))
    margins = {name: attack.margin(nets.predict(model, z), y).mean() for name, z in found.items()}
    assert margins["pgd"] < margins["orthogonal"] < margins["random"]


def test_efficacy_is_that_of_the_hardened_net():
    card, place = made("adversarial_efficacy", defense="plain", iterations=0, share=0.5, recipe="once"), Place(**WHERE)
    model, train, test = subjects.base_net(place), place.images("train", 16), place.images("test", 4)
    hardened = defend.adversarial_training(
        model, train, eps=efficacy.FGSM_EPS, count=8, epochs=1, batch_size=4, generator=seeded(0)
    ).model
    for name, crafted, judged in (("before", model, model), ("fgsm", hardened, hardened)):
        z = attack.fgsm(crafted, test.images, test.labels, eps=efficacy.FGSM_EPS)
        assert card[name]["mean"] == nets.accuracy(judged, z, test.labels)
    assert card["clean"]["mean"] == nets.accuracy(hardened, test.images, test.labels)
    with pytest.raises(ValueError, match="pass at most 1"):
        made("adversarial_efficacy", defense="plain", iterations=0, share=0.5, recipe="refresh")


def test_what_is_handed_in_is_what_the_detector_sees(monkeypatch):
    """Of an attempt that changes nothing and a corner of the ball, the corner moves the map more; all new is seen."""
    corner = lambda _, x, *args, **options: attack.Ball(x, 0.1, "linf", (0, 1)).corner(seeded())  # noqa: E731
    clean = Place(**WHERE).images("test").images
    changed = lambda _, z, *, generator: (z != clean[: len(z)]).flatten(1).any(1)  # noqa: E731
    monkeypatch.setattr(detect.Alarm, "flags", changed)
    monkeypatch.setattr(detection, "evade", lambda _, x, *args, **options: SimpleNamespace(x=x))
    monkeypatch.setattr(detection, "press_on", corner)
    card = made("evasion", defense="none", detector="ties", eps=0.1)
    assert card["knowing flagged"]["mean"] > 0.9
    assert card["knowing unseen spearman"]["mean"] < 0.95
    seen = zip(*(card[f"knowing {name}"]["values"] for name in ("flagged", "spearman", "unseen spearman")), strict=True)
    assert all(value == (1 if flagged else unseen) for flagged, value, unseen in seen)


def test_iterations_are_passes_from_the_undefended_net(monkeypatch):
    seen = []

    def defended(net, name, settings, place, *, count):
        seen.append((name, settings, count))
        return net

    monkeypatch.setattr(subjects, "defend", defended)
    place = Place(**WHERE)
    for _ in range(2):  # the second time it is there
        subjects.after(place, "atex_ascent", 3)
    assert seen == [("atex_ascent", {**defend.DEFENSES["atex_ascent"].settings, "epochs": 3}, 8)]
    assert subjects.after(place, "atex", 0) is subjects.base_net(place)


def test_repair_without_treatment_leaves_the_control_as_it_was():
    card = made("repair", defense="none", explainer="gradient", treatment="none")
    assert means(card, "control spearman", "control ssim", "control success") == [1.0, 1.0, 0.0]
    assert card["accuracy"][1] == card["accuracy"][2]
    assert set(repair.TREATMENTS) - {"none", "fine-tuning"} <= set(defend.DEFENSES)


@pytest.mark.parametrize(
    ("rates", "losses", "tried"),
    [
        ((0.9, 0.9, 0.9), (0.01, 0.0, 0.0), 1),  # the first meets the bar
        ((0.8, 0.9, 0.9), (0.03, 0.015, 0.0), 2),  # success is enough, but it costs too much
        ((0.79, 0.7, 0.6), (0.0, 0.0, 0.0), 3),
    ],
)
def test_the_sweep_ends_at_the_first_point_that_meets_the_bar(monkeypatch, rates, losses, tried):
    honest, lies = object(), [object() for _ in rates]
    fooled = iter(lies)
    right = {honest: 0.9, **{net: 0.9 - lost for net, lost in zip(lies, losses, strict=True)}}
    found = {net: {"success": torch.tensor([rate])} for net, rate in zip(lies, rates, strict=True)}
    monkeypatch.setattr(fooling, "fool_scene", lambda *_, **__: attack.Fooled(next(fooled), [], stopped=False))
    monkeypatch.setattr(fooling, "accuracy", lambda net, *_: right[net])
    monkeypatch.setattr(fooling, "success", lambda _model, net, *_, **__: found[net])
    place = Place(**WHERE)
    trials, kept = fooling._sweep(fooling.Scene(honest, *[()] * 7), "topk", {}, size=place.size, place=place)
    assert kept == lies[:tried]
    assert [(trial["lr"], trial["weight"]) for trial in trials] == list(fooling.POINTS["topk"][:tried])
    assert [trial["success"] for trial in trials] == pytest.approx(rates[:tried])
    assert [trial["accuracy lost"] for trial in trials] == pytest.approx(losses[:tried])


def test_fooling_is_judged_on_images_that_nothing_else_saw():
    scene = fooling.scene_of(Place(**WHERE), "vgg19", wide=False)
    seen, chosen, judged = (
        {image.numpy().tobytes() for part in parts for image in part[0]}
        for parts in ((scene.train, scene.fool_set), (scene.validated, scene.chosen_by), (scene.tested, scene.judged))
    )
    assert not seen & chosen
    assert not (seen | chosen) & judged


def test_where_no_point_meets_the_bar_success_is_weighed_against_accuracy():
    base = {"lr": 1e-3, "stopped": False, "curve": [{}] * 11}
    trials = [{**base, "success": s, "accuracy lost": lost} for s, lost in ((0.5, 0.0), (0.7, 0.01), (0.95, 0.06))]
    assert fooling._best(trials) == 1
    trials[2]["accuracy lost"] = 0.02
    assert fooling._best(trials) == 2


def test_a_run_that_left_the_net_as_it_was_is_not_chosen():
    base = {"success": 0.0, "accuracy lost": 0.05, "stopped": False, "curve": [{}] * 11}
    untouched = {"success": 0.0, "accuracy lost": 0.0, "stopped": True, "curve": [{}, {}]}
    assert fooling._best([base, untouched]) == 0
    assert fooling._best([base, {**untouched, "curve": [{}, {}, {}]}]) == 1  # given up later: its net was changed
    assert fooling._best([untouched, untouched]) == 0


def test_a_net_that_was_not_changed_fools_nobody():
    card = made("fooling_point", lr=1e-12, weight=1e-9, steps=1, model="vgg19", explainer="gradient", loss="location")
    assert card["success"]["mean"] == 0
    assert card["spearman"]["mean"] == pytest.approx(1, abs=1e-3)
    assert card["accuracy"][0] == card["accuracy"][1]


def test_every_card_holds_the_choice_that_its_trials_ask_for():
    kinds = ("fooling", "fooling_variant")
    cards = [results.read(p)["metrics"] for k in kinds for p in (results.store.COMMITTED / k).glob("*.json")]
    assert len(cards) > 50
    for metrics in cards:
        assert metrics["chosen"] == fooling._best(metrics["trials"])


def test_each_defence_got_as_many_trials():
    assert {len(trials) for _, trials in variants.TRIALS.values()} == {8}
    assert {"naive", "atex", "early_2", "beta", "pooling"} == {defense for defense, _ in variants.TRIALS.values()}


def test_a_kind_has_a_history_a_canary_and_sizes_that_exist():
    for name, kind in KINDS.items():
        assert kind.version == len(kind.history) >= 1
        assert kind.canary or not list((results.store.COMMITTED / name).glob("*")), f"{name} keeps numbers unguarded"
        assert set(kind.sizes) <= set(vars(Place(**WHERE).size))
        for spec in kind.canary:
            kind.check({**spec, "preset": "smoke"})
