"""The exam: drawn by a seed, dealt without names, graded by a key that is drawn again; and the auditor's thresholds."""

import functools
import json

import pytest
import torch
from conftest import seeded

from atexlib import __main__ as command_line
from atexlib import chapters, nets
from atexlib.chapters import examination
from atexlib.experiments.findings import suspects, verdicts
from atexlib.experiments.subjects import exam, recipes
from atexlib.judge import SIGNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exam whose nets have random weights: what a net is does not matter to the grade."""
    made = {}

    def make(_place, name, seed):
        net = nets.ConvNet(width=4, hidden=8, generator=seeded(seed)).eval()
        made[name, seed] = net
        return recipes.Made(net, net, "gradient")

    path = tmp_path_factory.mktemp("exam")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exam, "made", make)
        patch.setattr(examination, "ConvNet", functools.partial(nets.ConvNet, width=4, hidden=8))
        sheet = chapters.exam(path, dataset="digits", preset="smoke", seed=4)
        found, shown = chapters.nets_of(path)
    assert sheet == path / "sheet.csv"
    assert list(made) == exam.drawn(4)
    x = shown.images[:8]
    for (net, original), one in zip(zip(found.values(), made.values(), strict=True), exam.drawn(4), strict=True):
        assert torch.allclose(nets.predict(net, x), nets.predict(original, x), atol=0.02), one
        assert not torch.allclose(net.conv1.weight, original.conv1.weight, atol=1e-2)  # its units are in another order
    return path


def filled(folder, says):
    rows = [f"{number},{says(name)}" for number, (name, _) in enumerate(exam.drawn(4), 1)]
    (folder / "sheet.csv").write_text("net,manipulated,kind\n" + "\n".join(rows) + "\n")
    return chapters.grade(folder / "sheet.csv")


def test_nothing_in_the_folder_tells_which_net_is_which(folder):
    said = " ".join(path.read_text() for path in folder.glob("*.[cj]s*"))
    assert "honest" not in said
    told = json.loads((folder / "exam.json").read_text())
    assert told["nets"] == 24
    assert set(told["kinds"]) == set(exam.LIARS)
    sizes = {path.stat().st_size for path in folder.glob("net-*.safetensors")}
    assert len(sizes) == 1
    assert len(list(folder.glob("net-*.safetensors"))) == 24


def test_the_grade_of_what_is_all_right_all_wrong_and_not_known(folder):
    lies = {name: recipes.RECIPES[name].lies for name in recipes.RECIPES}
    best = filled(folder, lambda name: f"yes,{name}" if lies[name] else "no,")
    assert (best.right.mean, best.caught.mean, best.alarms.mean, best.named.mean) == (1, 1, 0, 1)
    worst = filled(folder, lambda name: "no," if lies[name] else "yes,active")
    assert (worst.right.mean, worst.caught.mean, worst.alarms.mean, worst.named.mean) == (0, 0, 1, 0)
    empty = filled(folder, lambda name: ",")
    assert (empty.right.mean, empty.caught.mean, empty.alarms.mean) == (0, 0, 0)
    every = filled(folder, lambda name: "YES,")
    liars = sum(lies[name] for name, _ in exam.drawn(4))
    assert every.right.mean == pytest.approx(liars / 24)
    assert "manipulated nets caught: 1.000" in str(every)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("net,manipulated\n1,yes\n", "must begin with the line net,manipulated,kind"),
        ("", "must begin with the line"),
        ("net,manipulated,kind\n1,perhaps,\n", "an answer under `manipulated` is 'perhaps'"),
        ("net,manipulated,kind\n1,yes,liar\n", "an answer under `kind` is 'liar'"),
        ("net,manipulated,kind\n25,yes,\n", "a net of the sheet is '25'"),
        ("net,manipulated,kind\n1,yes,\n", r"no line for the nets \[2, 3"),
    ],
)
def test_a_sheet_that_cannot_be_graded_says_why(folder, text, match):
    (folder / "sheet.csv").write_text(text)
    with pytest.raises(ValueError, match=match):
        chapters.grade(folder / "sheet.csv")


def test_the_command_grades_a_sheet_and_says_what_each_net_was(folder, capsys):
    filled(folder, lambda name: "no,")
    command_line.main(["exam", "--grade", str(folder / "sheet.csv")])
    said = capsys.readouterr().out
    assert "honest nets called manipulated: 0.000" in said
    assert said.count("\nnet ") == 24


def test_exams_hold_eight_to_sixteen_liars_and_every_kind_turns_up():
    many = [[name for name, _ in exam.drawn(seed)] for seed in range(60)]
    liars = [sum(name in exam.LIARS for name in names) for names in many]
    assert min(liars) >= 8
    assert max(liars) <= 16
    assert len(set(liars)) > 4
    assert {name for names in many for name in names} == {*exam.LIARS, *exam.HONEST}


@pytest.fixture
def cards(monkeypatch):
    """Cards whose signs are known: honest nets are 0 to 9 by seed, the liars of one kind 100, those of another 4."""

    def row(value):
        signs = {name: float(value) for name, sign in SIGNS.items() if not sign.of_net}
        return {"net": {name: float(value) for name, sign in SIGNS.items() if sign.of_net}} | dict.fromkeys(
            recipes.LAYER, signs
        )

    def found(**spec):
        lies = recipes.RECIPES[spec["net"]].lies
        worth = {"fairwashed": 100, "backdoor": 4}
        return [
            {
                "spec": {"seed": seed},
                "metrics": {"shown": "gradient", "signs": row(worth.get(spec["net"], 4) if lies else seed)},
            }
            for seed in range(10)
        ]

    monkeypatch.setattr(verdicts, "found", found)
    suspects.clear()
    yield row
    suspects.clear()


def test_thresholds_come_from_some_honest_nets_and_false_alarms_are_counted_on_others(cards):
    found = suspects.told("deletion", ["fairwashed"], datasets=("mnist",))
    assert (found.area.mean, found.hits.mean, found.liars) == (1.0, 1.0, 10)
    assert found.honest == 5 * 4  # five recipes, four of ten seeds
    assert found.alarms.mean == pytest.approx(0.5)  # of the seeds 3, 4, 8 and 9 two exceed 7, the largest that set it
    chance = suspects.told("deletion", ["backdoor"], datasets=("mnist",))
    assert chance.hits.mean == 0
    assert "deletion" in suspects.survivors(datasets=("mnist",))
    lies, kind, _ = suspects.answers(cards(100), "mnist")
    assert (lies, kind) == (True, "fairwashed")
    assert suspects.answers(cards(4), "mnist")[:2] == (False, "")


def test_limits_are_those_of_the_cards():
    """After new cards: python -c "from atexlib.experiments.findings import suspects; suspects.write_limits()"."""
    assert json.loads(suspects.LIMITS.read_text()) == suspects.limits()
