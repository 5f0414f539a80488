"""The judge: worst over its suite, image by image, constraints seen anew, flags only where they are due."""

import json

import pytest
import torch
from conftest import curved, seeded
from scipy.stats import spearmanr
from torch import nn

from atexlib import __main__ as command_line
from atexlib import attack, explain, judge, maps, nets
from atexlib.judge import judging, sanity, suite
from atexlib.judge.judging import NOISE

X = torch.rand(4, 1, 8, 8, generator=seeded(3), dtype=torch.float64)
NET = curved()
EPS = 0.1


@pytest.fixture(scope="module")
def found():
    return judge.judge(NET, X, NET(X).argmax(1), eps=EPS, suite="smoke", name="curved", progress=False)


def test_the_worst_is_never_above_any_attacker_and_what_was_lost_counts_as_unmoved(found):
    attackers = {name: values for name, values in found.values["gradient"].items() if name != NOISE}
    assert set(attackers) <= set(suite.ATTACKERS)
    for measure in judge.likeness(X, X, 5):
        worst = found.worst("gradient", measure)
        for values in attackers.values():
            known = ~values[measure].isnan()
            assert (worst[known] <= values[measure][known]).all()
    lost = {"a": {"spearman": torch.tensor([torch.nan, 0.5])}, NOISE: {"spearman": torch.tensor([0.0, 0.0])}}
    card = judge.Judgement("", "smoke", EPS, 2, None, {"g": 0.1}, {"g": lost}, {"g": []}, 0.0)
    assert card.worst("g", "spearman").tolist() == [1.0, 0.5]


def test_the_headline_is_0_at_chance_and_1_for_maps_that_nothing_moved():
    def card(spearman, topk):
        values = {"a": {"spearman": torch.tensor(spearman), "topk": torch.tensor(topk)}}
        return judge.Judgement("", "v1", EPS, 2, None, {"g": 0.1}, {"g": values}, {"g": []}, 0.0).kept("g").tolist()

    assert card([0.0, -0.4], [0.1, 0.0]) == [0.0, 0.0]
    assert card([1.0, 1.0], [1.0, 1.0]) == [1.0, 1.0]
    assert card([0.5, 0.5], [0.55, 0.1]) == pytest.approx([0.5, 0.25])


def test_the_same_numbers_come_twice_and_survive_their_card(found, tmp_path):
    again = judge.judge(NET, X, NET(X).argmax(1), eps=EPS, suite="smoke", name="curved", progress=False)
    kept = judge.load_judgement(found.save(tmp_path / "card.json"))
    for other in (again, kept):
        assert torch.allclose(other.kept("gradient"), found.kept("gradient"), atol=1e-4)
        assert other.flags == found.flags
    assert repr(kept) == repr(found)
    assert kept.accuracy.mean == 1.0
    assert kept.table.index.equals(found.table.index)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"format": "judgement, 9"}', "\xff"])
def test_what_is_no_card_is_refused(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"card\.json is"):
        judge.load_judgement(path)


def test_a_card_is_plain_json(found, tmp_path):
    card = json.loads(found.save(tmp_path / "card.json").read_text())
    assert card["suite"] == "smoke"
    assert card["images"] == len(X)


def test_an_image_at_chance_is_not_attacked_again(monkeypatch):
    asked = []

    def watched(case, rows):
        asked.append(rows.tolist())
        z = case.images[rows].clone()
        return z, None

    def at_chance(case, rows):
        return case.images[rows], None

    monkeypatch.setattr(judging, "ATTACKERS", {"first": at_chance, "second": watched})
    monkeypatch.setitem(judging.FOLLOWS, "first", suite.SLOPES)
    monkeypatch.setitem(judging.FOLLOWS, "second", suite.SLOPES)
    monkeypatch.setattr(judging, "shorter", lambda case: case.images)
    monkeypatch.setattr(judging, "_doubts", lambda *_: [])
    real = judging._compared

    def lowered(case, rows, z, target):
        values = real(case, rows, z, target)
        values["spearman"][0], values["topk"][0] = -0.1, 0.0
        return values

    monkeypatch.setattr(judging, "_compared", lowered)
    judge.judge(NET, X, eps=EPS, suite="smoke", progress=False)
    assert asked == [[1, 2, 3]]


def test_an_attacker_that_leaves_the_ball_is_an_error(monkeypatch):
    monkeypatch.setitem(judging.ATTACKERS, "distance", lambda case, rows: (case.images[rows] + 2 * EPS, None))
    with pytest.raises(RuntimeError, match="further than eps"):
        judge.judge(NET, X, eps=EPS, suite="smoke", progress=False)


class Crooked(nn.Module):
    """A net whose backward pass is twice the derivative of its forward pass."""

    def __init__(self):
        super().__init__()
        self.net = curved()

    def forward(self, x):
        return self.net(2 * x - x.detach())


def test_a_gradient_that_is_no_derivative_is_flagged(found):
    assert not [flag for flag in found.flags["gradient"] if "finite differences" in flag]
    crooked = judge.judge(Crooked(), X, eps=EPS, suite="smoke", progress=False)
    assert [flag for flag in crooked.flags["gradient"] if "finite differences of its logits by 50%" in flag]
    assert sanity.follows_differences(NET, X, NET(X).argmax(1)) < 1e-6


def test_a_map_that_names_no_pixel_that_counts_is_flagged():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[0, :8] = 5.0  # the upper row alone decides
        net[1].bias.copy_(torch.tensor([0.0, 0.1]))

    def backwards(model, x, target=None, *, create_graph=False):
        rows = torch.arange(8.0, dtype=x.dtype).view(8, 1)
        return rows + 0.1 * x  # the row that decides comes last

    bright = 0.5 + X / 2
    target = net(bright).argmax(1)
    assert (target == 0).all()
    assert sanity.weaker_than_occlusion(net, bright, backwards, target) > 0.3
    assert sanity.weaker_than_occlusion(net, bright, explain.gradient, target) < sanity.FALLS
    flags = judge.judge(net, bright, eps=EPS, explainers={"own": backwards}, suite="smoke", progress=False).flags["own"]
    assert [flag for flag in flags if "occlusion" in flag]


def test_occlusion_of_a_linear_net_is_the_sum_of_weight_times_pixel():
    weight = torch.randn(2, 64, generator=seeded(), dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)).double()
    with torch.no_grad():
        net[1].weight.copy_(weight)
    known = (weight[0].view(1, 8, 8) * X).view(4, 1, 4, 2, 4, 2).sum((3, 5))
    found = sanity.occlusion(net, X, torch.zeros(4, dtype=torch.long), patches=4)
    assert torch.allclose(found[..., ::2, ::2], known)


def test_what_beats_the_slopes_is_flagged():
    case = suite.Case(NET, suite.SUITES["smoke"], X, explain.gradient, 4, EPS, None, None, None, seeded())
    ones = torch.ones(4, dtype=torch.float64)
    values = {NOISE: 0.5, "distance": 0.6, "random search": 0.2, "transfer": 0.59}
    spearman = {name: {"spearman": value * ones} for name, value in values.items()}
    flags = judging._doubts(case, NET(X).argmax(1), spearman)
    assert [flag for flag in flags if "noise alone leaves less" in flag and "0.100" in flag]
    assert [flag for flag in flags if flag.startswith("random search leaves less") and "0.400" in flag]
    assert not [flag for flag in flags if flag.startswith("transfer")]


def test_a_net_of_kinks_is_attacked_through_its_smooth_copy():
    net = nets.ConvNet(side=8, width=4, hidden=12, classes=4, beta=None, generator=seeded(2)).double().eval()
    found = judge.judge(net, X, eps=EPS, suite="smoke", progress=False)
    assert not [flag for flag in found.flags["gradient"] if "took no step" in flag]
    assert attack.smooth_guide(net, X) is not None
    assert attack.smooth_guide(NET, X) is None
    blunt = attack.blunt_guide(net)
    assert isinstance(blunt.pool, nn.AvgPool2d)
    assert {unit.beta for unit in blunt.modules() if isinstance(unit, nn.Softplus)} == {3.0}


def test_likeness_is_that_of_the_measures_and_constant_maps_have_none():
    a, b = X, X.flip(0)
    a = torch.cat([a, torch.ones_like(a[:1])])
    b = torch.cat([b, b[:1]])
    found = judge.likeness(a, b, 5)
    for i in range(4):
        assert found["spearman"][i].item() == pytest.approx(spearmanr(a[i].flatten(), b[i].flatten()).statistic)
    assert torch.equal(found["topk"][:4], maps.topk_intersection(X, X.flip(0), 5))
    assert all(value[4].isnan() for name, value in found.items() if name != "ssim")


def test_a_sibling_may_be_the_source_of_what_has_to_carry_over():
    other = curved()
    found = judge.judge(NET, X, eps=EPS, sibling=other, suite="smoke", progress=False)
    assert "transfer" in found.values["gradient"]


MINE = """
from atexlib import nets

make_net = lambda: nets.ConvNet(side=28, width=4, hidden=8)
number = lambda: 3
"""


def test_a_net_from_a_file_is_judged_by_one_command(tmp_path, capsys):
    file, card = tmp_path / "mine.py", tmp_path / "mine.json"
    file.write_text(MINE)
    options = ["--name", "mine", "--dataset", "digits", "--images", "4", "--suite", "smoke", "--card", str(card)]
    command_line.main(["judge", f"{file}:make_net", *options])
    said = capsys.readouterr().out
    kept = judge.load_judgement(card)
    assert kept.name == "mine"
    assert repr(kept) in said
    assert said.strip().endswith(str(card))


@pytest.mark.parametrize(
    "where", ["mine.py", "mine.txt:make_net", "gone.py:make_net", "mine.py:make", "mine.py:number"]
)
def test_what_makes_no_net_is_named(tmp_path, where):
    (tmp_path / "mine.py").write_text(MINE)
    with pytest.raises(ValueError, match=r"say FILE|no file|no function|it must return"):
        judge.made_by(f"{tmp_path}/{where}" if ":" in where else where)
