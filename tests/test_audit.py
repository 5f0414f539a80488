"""The audit: what it measures is what it says, for nets with and without second derivatives."""

import dataclasses
import functools
import re
import sys

import pytest
import torch
from bs4 import BeautifulSoup
from conftest import seeded
from torch import nn

import atexlib
from atexlib import explain
from atexlib.judge import report
from atexlib.maps import alike
from atexlib.nets import ConvNet

audit = sys.modules[atexlib.audit.__module__]  # the room's name for it is the function
EPS = 0.1
QUICK = {"eps": EPS, "steps": 3, "starts": 1, "progress": False}


@pytest.fixture(scope="module")
def images(digits):
    return digits.images[:6, :, ::2, ::2].contiguous(), digits.labels[:6]


@pytest.fixture(scope="module")
def smooth():
    return ConvNet(side=14, width=4, hidden=12, generator=seeded(2)).eval()


@pytest.fixture(scope="module")
def found(smooth, images):
    return atexlib.audit(
        smooth, *images, explainers=["gradient", "grad_cam"], attacks=["untargeted", "distance"], **QUICK
    )


def test_there_is_a_row_for_each_explainer_and_attack(found):
    attacks = [audit.NOISE, "untargeted", "distance", audit.WORST]
    assert found.table.index.tolist() == [(name, attack) for name in ("gradient", "grad_cam") for attack in attacks]
    assert [note.split(":")[0] for note in found.notes] == ["gradient"]
    assert re.search(r"slopes see \d+ %.*jumps at kinks.*max-pooling", found.notes[0])
    assert found.settings["images"] == 6
    assert found.settings["explained"] == "gradient, Grad-CAM of conv2"


def test_how_hard_was_tried_travels_with_the_numbers(found):
    for pair, effort in found.efforts.items():
        assert (effort.steps, effort.starts, effort.images, effort.stepped) == (3, 1, 6, 6)
        assert found.table.loc[pair, "could step"] == 1
        assert found.table.loc[pair, "slopes see"] == effort.seen
        assert str(effort) in "\n".join(report.summary(found))
    assert "3 steps x 1 starts; 12 of 12 images could step" in repr(found)


def test_the_numbers_are_those_of_the_changed_images(found, smooth, images):
    for example in found.examples:
        explainer = explain.EXPLAINERS[example.explainer]
        target = smooth(example.image[None]).argmax(1)
        assert torch.equal(example.image, images[0][example.number])
        maps = [explainer(smooth, z[None], target) for z in (example.image, example.changed)]
        torch.testing.assert_close(maps[1][0], example.changed_map)
        likeness = alike.spearman(*(m.abs() for m in maps)).item()
        assert likeness == pytest.approx(example.spearman, abs=1e-6)
        assert likeness == pytest.approx(
            found.values[example.explainer, example.attack]["spearman"][example.number].item(), abs=1e-6
        )
        assert (example.changed - example.image).abs().max() <= EPS + 1e-6
        assert smooth(example.changed[None]).argmax(1) == target


def test_the_examples_are_the_most_fragile(found):
    for name in ("gradient", "grad_cam"):
        lowest = found.values[name, audit.WORST]["spearman"].sort()
        own = [example for example in found.examples if example.explainer == name]
        assert [example.number for example in own] == lowest.indices[: audit.SHOWN].tolist()
        assert [example.spearman for example in own] == pytest.approx(lowest.values[: audit.SHOWN].tolist())


def test_worst_of_all_is_the_lowest_of_each_image_without_the_control(found):
    for measure in audit.MEASURES:
        both = [found.values["gradient", attack][measure] for attack in ("untargeted", "distance")]
        torch.testing.assert_close(found.values["gradient", audit.WORST][measure], torch.minimum(*both))


def test_searching_moves_a_map_further_than_chance(trained, digits):
    x, y = digits.images[:6], digits.labels[:6]
    more = {**QUICK, "steps": 15, "explainers": ["gradient"], "attacks": ["distance"]}
    found = atexlib.audit(trained, x, y, **more)
    noise, attacked = (found.values["gradient", name]["spearman"].mean() for name in (audit.NOISE, audit.WORST))
    assert attacked < noise - 0.05


def test_what_was_kept_is_counted_by_the_audit_itself(trained, digits, monkeypatch):
    """An attack that cheats is found out: it goes too far and changes predictions."""

    def cheat(_model, x, _objective, **_options):
        class Result:
            effort = audit.Effort("gradient", "none", 1, 1, len(x), len(x), "", 1.0, None)

        Result.x = 1 - x
        return Result

    monkeypatch.setattr(audit, "manipulate", cheat)
    x = digits.images[:12]
    row = atexlib.audit(
        trained, x, digits.labels[:12], explainers=["gradient"], attacks=["distance"], **QUICK
    ).table.iloc[1]
    changed = (trained(1 - x).argmax(1) != trained(x).argmax(1)).double().mean().item()
    assert changed > 0
    assert row["predictions kept"] == pytest.approx(1 - changed)
    assert row["largest change"] == (1 - 2 * x).abs().max().item()


def test_the_same_seed_gives_the_same_audit(found, smooth, images):
    again = atexlib.audit(
        smooth, *images, explainers=["gradient", "grad_cam"], attacks=["untargeted", "distance"], **QUICK
    )
    assert again.table.equals(found.table)


def test_a_relu_net_is_attacked_through_its_softplus_twin(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 10))
    found = atexlib.audit(net.eval(), *images, explainers=["gradient"], attacks=["distance"], **QUICK)
    assert found.notes == ["The attacks were guided by a softplus copy, beta 10."]
    values = {name: found.values["gradient", name]["spearman"] for name in (audit.NOISE, "distance")}
    assert (values["distance"] < 1).all()


def test_a_net_in_training_mode_is_looked_at_in_eval_mode_and_given_back(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout(), nn.Flatten())
    net = net.append(nn.Linear(576, 10)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    options = {"explainers": ["gradient"], "attacks": ["distance"], **QUICK}
    found = atexlib.audit(net, *images, **options)
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert atexlib.audit(net.eval(), *images, **options).table.equals(found.table)


def test_a_net_that_cannot_be_traced_is_said_to_be_attacked_weakly(images):
    class Branching(nn.Module):
        def __init__(self, unit):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(196, 8), unit, nn.Linear(8, 10))

        def forward(self, x):
            return self.net(x) if x.sum() > 0 else self.net(-x)

    options = {"explainers": ["gradient"], "attacks": ["distance"], **QUICK}
    found = atexlib.audit(Branching(nn.ReLU()).eval(), *images, **options)
    assert found.notes == ["The attacks were guided by a softplus copy, beta 10."]
    assert found.table["could step"].iloc[1] == 1


UNITS = [nn.LeakyReLU(), nn.PReLU(), nn.Hardtanh(), nn.Hardswish()]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: type(unit).__name__)
def test_units_with_the_kinks_of_a_relu_are_smoothed_too(images, unit):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), unit, nn.Conv2d(4, 4, 3), unit, nn.Flatten(), nn.Linear(400, 10)).eval()
    found = atexlib.audit(net, *images, explainers=["gradient"], attacks=["distance"], **QUICK)
    assert found.notes == ["The attacks were guided by a softplus copy, beta 10."]
    assert found.efforts["gradient", "distance"].seen > 0.9


@pytest.mark.parametrize("kink", [torch.abs, lambda h: torch.where(h > 0, h, -0.5 * h), lambda h: h * (h > 0)])
def test_kinks_that_are_spelt_in_a_new_way_are_found_by_what_they_do(images, kink):
    class Net(nn.Module):
        def __init__(self, first):
            super().__init__()
            self.conv, self.more, self.fc = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(400, 10)
            self.first = first

        def forward(self, x):
            return self.fc(kink(self.more(self.first(self.conv(x)))).flatten(1))

    torch.manual_seed(0)
    options = {"explainers": ["gradient"], "attacks": ["distance"], **QUICK}
    found = atexlib.audit(Net(nn.Identity()).eval(), *images, **options)
    assert re.search("gradient: the attacks were WEAK, and high numbers mean nothing.*kinks", found.notes[0])
    found = atexlib.audit(Net(nn.ReLU()).eval(), *images, **options)
    assert re.search("slopes see .* kinks that are left", found.notes[1])


def test_one_smooth_unit_does_not_hide_the_relus(images):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.unit, self.fc = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(576, 10)

        def forward(self, x):
            x = self.unit(self.conv(x))
            return self.fc((x * torch.sigmoid(x.mean((2, 3), keepdim=True))).flatten(1))

    torch.manual_seed(0)
    found = atexlib.audit(Gated().eval(), *images, explainers=["gradient"], attacks=["distance"], **QUICK)
    assert "The attacks were guided by a softplus copy, beta 10." in found.notes


def test_attacks_that_do_less_than_chance_are_said_to_be_weak():
    low, high = torch.tensor([0.2, 0.4]), torch.tensor([0.9, 0.8])
    effort = audit.Effort("LRP", "linf 0.1", 5, 1, 2, 2, "", 1.0, None)
    assert audit._doubts("lrp", high, low, effort) == []
    assert "lrp: random noise moved the maps further" in audit._doubts("lrp", low, high, effort)[0]


def test_a_map_that_is_constant_but_for_rounding_has_no_order(images):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Conv2d(4, 4, 12), nn.Flatten(), nn.Linear(4, 10)).eval()
    one_pixel = {"grad_cam": functools.partial(explain.grad_cam, layer="2")}
    found = atexlib.audit(net, *images, explainers=one_pixel, attacks=["distance"], **QUICK)
    row = found.table.loc[("grad_cam", audit.WORST)]
    assert (row["spearman"], row["topk"], row["constant maps"]) == ("undefined", "undefined", 6)
    assert "6 of 6 maps are constant" in found.notes[0]


def test_an_explainer_of_ones_own_is_audited_under_its_name(smooth, images):
    def shown(model, x, target=None, *, create_graph=False):
        return explain.grad_cam(model, x, target, create_graph=create_graph, layer="conv1").relu()

    found = atexlib.audit(smooth, *images, explainers={"as shown": shown}, attacks=["distance"], **QUICK)
    assert found.table.index.unique("explainer").tolist() == ["as shown"]
    assert found.examples[0].changed_map.min() >= 0


def test_an_audit_keeps_no_more_copies_in_the_net_than_a_batch(smooth, images):
    sizes = []
    handle = smooth.conv1.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    options = {**QUICK, "steps": 1, "batch_size": 3}
    atexlib.audit(smooth, *images, explainers=["integrated_gradients"], attacks=["distance"], **options)
    handle.remove()
    assert max(sizes) == 3


def test_wide_images_are_audited_by_all_attacks():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    wide = torch.rand(3, 1, 10, 80, generator=seeded(3))
    found = atexlib.audit(net.eval(), wide, torch.zeros(3, dtype=torch.long), explainers=["gradient"], **QUICK)
    assert len(found.table) == len(audit.ATTACKS) + 2


def test_a_map_that_one_attack_empties_still_counts_at_its_worst():
    nan = float("nan")
    found = [
        {"spearman": torch.tensor(s), "topk": torch.ones(3), "ssim": torch.ones(3), "kept": torch.tensor(k),
         "distance": torch.tensor(d)}
        for s, k, d in (([0.3, nan, nan], [True, True, False], [0.1] * 3), ([0.5, 0.2, nan], [True] * 3, [0.2] * 3))
    ]  # fmt: skip
    worst = audit._worst(found)
    torch.testing.assert_close(worst["spearman"], torch.tensor([0.3, 0.2, nan]), equal_nan=True)
    assert worst["kept"].tolist() == [True, True, False]
    assert worst["distance"].tolist() == pytest.approx([0.2] * 3)


def test_an_explainer_that_refuses_the_net_is_left_out_aloud(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.Softplus(), nn.Linear(8, 10)).eval()
    found = atexlib.audit(net, *images, explainers=["gradient", "grad_cam"], attacks=["distance"], **QUICK)
    assert found.table.index.unique("explainer").tolist() == ["gradient"]
    assert re.search("grad_cam was left out: .*no feature map", found.notes[0])
    with pytest.raises(ValueError, match="no explainer works on this net: grad_cam"):
        atexlib.audit(net, *images, explainers=["grad_cam"], attacks=["distance"], **QUICK)


def test_a_constant_map_is_counted_and_not_averaged(images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(196, 10)).eval()
    with torch.no_grad():
        net[1].weight.fill_(0.1)
        net[1].bias.copy_(torch.arange(10.0))
    found = atexlib.audit(net, *images, explainers=["gradient"], attacks=["distance"], **QUICK)
    row = found.table.iloc[0]
    assert (row["spearman"], row["constant maps"]) == ("undefined", 6)
    assert found.examples == []
    with pytest.raises(ValueError, match="nothing to show"):
        report.save(found, "never.html")


def test_the_report_says_what_the_audit_found(found, tmp_path):
    page = report.save(found, tmp_path / "audit.html").read_text(encoding="utf-8")
    text = report.save(found, tmp_path / "audit.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit-worst.png", "audit.html", "audit.md"]
    soup = BeautifulSoup(page, "html.parser")
    assert len(soup.select("table tbody tr")) == len(found.table)
    assert soup.img["alt"]
    assert soup.img["src"].startswith("data:image/png;base64,")
    for line in report.summary(found):
        assert f"- {line}" in text.splitlines()
        assert line in [item.text for item in soup.find_all("li")]
    for cell in found.table["spearman"]:
        assert cell in text
        assert cell in page
    with pytest.raises(ValueError, match=r"audit\.pdf.*\.html or \.md"):
        report.save(found, tmp_path / "audit.pdf")


def test_a_report_is_safe_to_open(found, tmp_path):
    poisoned = dataclasses.replace(found, notes=["<script>alert(1)</script>"])
    assert "<script>" not in report.save(poisoned, tmp_path / "a.html").read_text(encoding="utf-8")


def test_no_accuracy_is_told_where_labels_do_not_count_as_the_outputs_do(smooth, images):
    x, _ = images
    options = {"explainers": ["gradient"], "attacks": ["distance"], **QUICK}
    predicted = smooth(x).argmax(1)
    names = [f"class {number}" for number in range(10)]
    assert atexlib.audit(smooth, x, **options).accuracy is None
    by_number = atexlib.audit(smooth, x, predicted, **options)
    by_name = atexlib.audit(smooth, x, [names[number] for number in predicted], class_names=names, **options)
    assert by_number.accuracy == by_name.accuracy
    assert by_number.accuracy.mean == 1
    for labels, more in ((torch.zeros_like(predicted), {}), (["cat"] * len(x), {"class_names": names})):
        assert (predicted != 0).all()
        found = atexlib.audit(smooth, x, labels, **more, **options)
        assert found.accuracy is None
        assert any(note.startswith("There is no accuracy") for note in found.notes)
        assert "Accuracy" not in "".join(report.summary(found))
    with pytest.raises(ValueError, match=r"class_names holds 2 names; pass one for each of the net.s 10 outputs"):
        atexlib.audit(smooth, x, class_names=["a", "b"], **options)
    with pytest.raises(ValueError, match=r"labels is .*pass a tensor of 6 numbers, or names with class_names"):
        atexlib.audit(smooth, x, ["cat"] * 6, **options)


def test_how_long_an_audit_will_take_is_said_first(smooth, images, capsys, monkeypatch):
    monkeypatch.setattr(audit, "LONG", 0)
    atexlib.audit(smooth, images[0], explainers=["gradient"], attacks=["distance"], **{**QUICK, "progress": True})
    assert re.search(r"auditing gradient will take about \d+ s", capsys.readouterr().err)


def test_large_images_are_not_asked_for_integrated_gradients_unasked():
    net = nn.Sequential(nn.Conv2d(1, 2, 9, 8), nn.Softplus(), nn.Flatten(), nn.Linear(128, 3)).eval()
    x = torch.rand(2, 1, 72, 72, generator=seeded(3))
    found = atexlib.audit(net, x, attacks=["distance"], **QUICK)
    assert found.table.index.unique("explainer").tolist() == ["gradient", "grad_cam", "lrp"]
