"""What is computed from cards: made-up cards with known answers."""

import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from atexlib.experiments import cards, claims, report, store, verdicts
from atexlib.experiments.runs import EXPERIMENTS
from atexlib.intervals import Interval

WHERE = {"experiment": "table", "dataset": "mnist", "attack": "untargeted", "eps": 0.1}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "COMMITTED", tmp_path)
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))


def write(values, *, preset="smoke", seed=0, **spec):
    spec = {**WHERE, **spec, "seed": seed, "preset": preset}
    experiment = EXPERIMENTS[spec["experiment"]]
    metrics = {name: {"values": v} if isinstance(v, list) else v for name, v in values.items()}
    card = {"spec": spec, "metrics": metrics, "provenance": {"device": "cpu", "seconds": 1.0}}
    path = store.place(cards.card_name(experiment, experiment.check(spec)))
    store.write(path, lambda temporary: Path(temporary).write_text(json.dumps(card)))


def test_means_go_over_seeds_and_images_and_leave_out_what_is_missing():
    write({"topk": [0.0, 1.0, None]}, defense="none")
    write({"topk": [1.0, 1.0, 1.0]}, defense="none", seed=2)
    values = verdicts.per_image("topk", **WHERE, defense="none")
    assert list(values) == [0, 2]
    assert math.isnan(values[0][2])
    assert verdicts.mean("topk", **WHERE, defense="none").mean == pytest.approx(0.8)
    assert verdicts.mean("topk", **WHERE, defense="naive") is None


def test_the_largest_preset_is_read():
    write({"topk": [0.0, 0.0]}, defense="none", preset="smoke")
    write({"topk": [1.0, 1.0]}, defense="none", preset="reduced", seed=1)
    assert verdicts.largest_preset(**WHERE, defense="none") == "reduced"
    assert verdicts.mean("topk", **WHERE, defense="none").mean == 1
    assert verdicts.mean("topk", **WHERE, defense="none", preset="smoke").mean == 0


def test_differences_are_paired_by_image_and_seed():
    base = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    write({"topk": base}, defense="none")
    write({"topk": [value + 0.125 for value in base]}, defense="atex")
    write({"topk": [9.0] * 50}, defense="atex", seed=1)  # the rival has no such seed
    found = verdicts.difference("topk", {**WHERE, "defense": "atex"}, {**WHERE, "defense": "none"})
    assert found == pytest.approx((0.125, 0.125, 0.125))


def test_the_worst_over_attacks_is_taken_image_by_image():
    write({"topk": [0.9, 0.1]}, defense="none")
    write({"topk": [0.2, 0.8]}, defense="none", attack="targeted")
    attacks = [{"experiment": "table", "attack": name} for name in ("untargeted", "targeted")]
    where = {key: value for key, value in WHERE.items() if key not in ("attack", "experiment")}
    assert report.worst("topk", attacks, **where, defense="none").mean == pytest.approx(0.15)
    attacks.append({"experiment": "attacks", "attack": "noise"})
    assert report.worst("topk", attacks, **where, defense="none") is None


ABOVE, ACROSS, BELOW = Interval(2.0, 1.0, 3.0), Interval(0.5, -0.5, 1.5), Interval(-2.0, -3.0, 0.0)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([ABOVE, ABOVE], "reproduced"),
        ([BELOW, BELOW], "not reproduced"),
        ([ABOVE, BELOW], "partly"),
        ([ACROSS], "partly"),
        ([BELOW, ACROSS], "partly"),
        ([ABOVE, None], "open"),
        ([None, BELOW], "open"),
        ([ABOVE, None, BELOW], "partly"),
        ([ACROSS, None], "partly"),
        ([], "open"),
    ],
)
def test_the_verdict_follows_the_rule(cells, expected):
    assert verdicts.verdict(cells) == expected


def fill(value):
    """Tables of both data sets in which a defence's stability is `value(defense, eps)`."""
    for dataset, attack, eps, _ in claims._table():
        for defense in ("none", "naive", "atex"):
            stable = value(defense, eps)
            metrics = {"spearman": [stable, stable + 0.01], "topk": [stable, stable + 0.02]}
            write({**metrics, "accuracy": 0.9}, dataset=dataset, attack=attack, eps=eps, defense=defense)


def test_the_claims_come_out_as_the_cards_say():
    fill(
        lambda defense, eps: {"none": 0.5, "naive": 0.6, "atex": 0.7}[defense] - (1 if defense == "none" else 0.5) * eps
    )
    table = report.verdict_table(claims.CLAIMS)
    assert table["verdict"].tolist() == ["reproduced"] * 3 + ["open"] * 4
    assert table["cells above 0"][0] == "80 of 80"
    fill(lambda defense, eps: {"none": 0.5, "naive": 0.8, "atex": 0.7}[defense] + eps)
    verdict = dict(zip(claims.CLAIMS, report.verdict_table(claims.CLAIMS)["verdict"], strict=True))
    assert verdict["T1"] == "partly"  # above none, below naive
    assert verdict["T2"] == "not reproduced"  # the gain is the same, the base larger: relatively it shrinks


def test_times_are_compared_repeat_by_repeat():
    for side, growth in (("14", 1.0), ("28", 2.0), ("56", 2.0)):
        seconds = {f"{name}, {count}": [1.0, 1.1] for name in ("atex", "atex_ascent") for count in (1, 8)}
        seconds |= {f"naive, {count}": [6 * growth, 6.6 * growth] for count in (1, 8)}
        spec = {"experiment": "cost", "side": side, "seed": 0, "preset": "smoke"}
        card = {"spec": spec, "metrics": {"seconds": seconds}, "provenance": {"device": "cpu"}}
        path = store.place(cards.card_name(EXPERIMENTS["cost"], spec))
        store.write(path, lambda temporary, card=card: Path(temporary).write_text(json.dumps(card)))
    faster = claims.CLAIMS["T4"].cells("atex")
    assert faster["14 pixels, 1 samples"].mean == pytest.approx(1)
    assert verdicts.verdict(faster.values()) == "reproduced"
    grows = claims.CLAIMS["T5"].cells("atex")
    assert grows["14 to 28 pixels, 8 samples"].mean == pytest.approx(1)
    assert grows["28 to 56 pixels, 8 samples"].mean == pytest.approx(0)
    assert verdicts.verdict(grows.values()) == "partly"


def test_tables_say_what_was_not_run():
    write({"topk": [0.5, 0.5]}, defense="none", eps=0.02)
    where = {key: value for key, value in WHERE.items() if key != "eps"}
    table = report.table("topk", rows=("defense", ["none", "naive"]), columns=("eps", [0.02]), **where)
    assert table[0.02].to_dict() == {"none (beta-smoothing), 1 seed": "0.500 [0.500, 0.500]", "naive": "not run"}
    assert "seed 0" in report.origin(**where, defense="none", eps=0.02)
    assert report.origin(**where, defense="naive", eps=0.02) == "no card yet"


def test_a_curve_has_a_point_for_each_card():
    figure, ax = plt.subplots()
    write({"topk": [0.25, 0.75]}, defense="none", eps=0.02)
    write({"topk": [0.0, 0.5]}, defense="none", eps=0.1)
    where = {key: value for key, value in WHERE.items() if key != "eps"}
    report.curve(ax, "topk", label="a", defense="none", **where)
    report.curve(ax, "topk", label="b", defense="naive", **where)
    (line,) = ax.lines
    assert line.get_label() == "a, 1 seed"
    assert line.get_xydata().tolist() == [[0.02, 0.5], [0.1, 0.25]]
    assert len(ax.collections) == 1
    plt.close(figure)
