"""The leaderboard from cards whose numbers are known: order, front, prices, and the suite against its rivals."""

import json

import pytest

from atexlib.experiments import KINDS
from atexlib.experiments.findings import figures


def write(folder, spec, metrics):
    path = folder / KINDS[spec["kind"]].file(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"spec": spec, "metrics": metrics, "provenance": {"device": "cpu"}}))


def values(*numbers):
    return {"values": list(numbers), "mean": sum(numbers) / len(numbers)}


def judged(folder, defense, seed, kept, accuracy, flags=(), *, kind="judged"):
    spec = {"kind": kind, "dataset": "digits", "defense": defense, "eps": 0.05, "seed": seed, "preset": "smoke"}
    numbers = {name: values(kept - 0.01, kept, kept + 0.01) for name in ("kept", "spearman", "topk", "noise spearman")}
    attackers = {"distance": {"spearman": kept, "topk": kept}}
    if kept < 0.5:
        attackers["universal"] = {"spearman": 0.9, "topk": 0.9}
    more = {"accuracy": accuracy, "pgd accuracy": 0.5, "attackers": attackers, "flags": list(flags)}
    write(folder, spec, {**numbers, **more})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))
    for seed in (0, 1, 2):
        judged(tmp_path, "none", seed, 0.2, 0.92, ["slopes see 14%."])
        judged(tmp_path, "naive", seed, 0.6 + seed / 1000, 0.90)
        judged(tmp_path, "atex", seed, 0.3, 0.89, ["noise alone leaves less."] if seed == 1 else [])
    return tmp_path


def test_the_most_stable_comes_first(folder):
    table = figures.leaderboard(dataset="digits")
    assert list(table.index) == ["naive", "ATEX, wide", "none (beta 10)"]
    assert list(table["seeds"]) == ["3", "3", "3"]
    assert list(table["accuracy"]) == ["0.900", "0.890", "0.920"]
    assert list(table["flags"]) == ["0", "1", "3"]
    assert table["accuracy lost"]["naive"].startswith("0.020")
    assert table["accuracy lost"]["none (beta 10)"] == ""
    assert 'class="dataframe sortable"' in table._repr_html_()


def test_nobody_on_the_front_is_beaten_in_both(folder):
    (said,) = figures.front_in_words(dataset="digits").sentences
    assert said.endswith("than: naive, none (beta 10).")
    judged(folder, "beta", 0, 0.7, 0.95)
    (said,) = figures.front_in_words(dataset="digits").sentences
    assert said.endswith("than: beta 3.")


def test_each_defence_is_told_against_none(folder):
    said = figures.against_none(dataset="digits").sentences
    assert len(said) == 2
    assert said[0].startswith("what stands: naive lies above no defence, by 0.401")
    assert "price is told, 2.00 [" in said[0]  # three seeds that agree to the digit tell no interval


def test_attackers_and_flags_are_those_of_the_cards(folder):
    table = figures.by_attacker(dataset="digits")
    assert table["distance"]["naive"] == "0.601"
    assert table["universal"]["naive"] == ""  # it needed no more attackers
    assert table["universal"]["none (beta 10)"] == "0.900"
    flags = figures.flags_table(dataset="digits")
    assert list(flags["flag"]) == [
        "seed 1: noise alone leaves less.",
        *(f"seed {i}: slopes see 14%." for i in range(3)),
    ]


def test_the_strength_is_the_largest_at_the_price(folder):
    for strength, accuracy in {0.1: 0.92, 0.3: 0.917, 1.0: 0.912, 3.0: 0.90}.items():
        spec = {"kind": "trial", "dataset": "digits", "defense": "cure", "strength": strength, "seed": 0}
        write(folder, {**spec, "preset": "smoke"}, {"accuracy": accuracy, "undefended": 0.92})
    row = figures.chosen_strengths(dataset="digits").loc["CURE"]
    assert row["for 0.5 points"] == "0.3"
    assert row["for 1 points"] == "1"
    assert row["points lost"] == "0.1: 0.00, 0.3: 0.30, 1: 0.80, 3: 2.00"


def test_the_suite_is_compared_on_the_images_that_both_have(folder):
    judged(folder, "naive", 0, 0.55, 0.9, kind="judged_long")
    table = figures.suite_strength(dataset="digits")
    assert list(table.index) == [("naive", "six times the budget")]
    assert table["Spearman"].iloc[0].startswith("0.050")
    assert "what the suite leaves and six times the budget is told, 0.050" in table.said.sentences[0]  # of one seed


def test_without_cards_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("ATEXLIB_RESULTS", str(tmp_path))
    assert len(figures.leaderboard(dataset="digits", eps=0.3)) == 0
    assert not figures.against_none(dataset="digits", eps=0.3).sentences
    assert len(figures.suite_strength(dataset="digits", eps=0.3)) == 0
    assert figures.pareto(dataset="digits", eps=0.3).axes
