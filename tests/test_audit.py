"""The audit: what it measures is what it says, for nets with and without second derivatives."""

import dataclasses
import functools
import html
import io
import itertools
import json
import re
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from conftest import seeded
from PIL import Image
from torch import nn

import atexlib
from atexlib import explain, judge, maps
from atexlib.attack import Effort
from atexlib.judge import card, measures, pictures, plan, report, verdict
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
    assert "3 steps x 1 starts; 12 of 12 images could step" in repr(found)


def test_the_numbers_are_those_of_the_changed_images(found, smooth, images):
    for example in found.examples:
        explainer = explain.EXPLAINERS[example.explainer]
        target = smooth(example.image[None]).argmax(1)
        assert torch.equal(example.image, images[0][example.number])
        shown = [explainer(smooth, z[None], target) for z in (example.image, example.changed)]
        torch.testing.assert_close(shown[1][0], example.changed_map)
        likeness = alike.spearman(*(m.abs() for m in shown)).item()
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
    for measure in card.MEASURES:
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
            effort = Effort("gradient", "none", 1, 1, len(x), len(x), "", 1.0, None)

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
    effort = Effort("LRP", "linf 0.1", 5, 1, 2, 2, "", 1.0, None)
    assert measures.doubts("lrp", high, low, effort) == []
    assert "lrp: random noise moved the maps further" in measures.doubts("lrp", low, high, effort)[0]


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


def test_an_audit_keeps_no_more_copies_in_the_net_than_a_batch(smooth, images, monkeypatch):
    monkeypatch.setattr(audit.signs, "read", lambda *_, **__: ([], []))  # which takes as many as fit, like predict
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
    worst = measures.worst(found)
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


def test_a_constant_map_is_counted_and_not_averaged(images, tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(196, 10)).eval()
    with torch.no_grad():
        net[1].weight.fill_(0.1)
        net[1].bias.copy_(torch.arange(10.0))
    found = atexlib.audit(net, *images, explainers=["gradient"], attacks=["distance"], **QUICK)
    row = found.table.iloc[0]
    assert (row["spearman"], row["constant maps"]) == ("undefined", 6)
    assert found.examples == []
    assert judge.verdicts(found)[0].words == verdict.CONSTANT
    text = report.save(found, tmp_path / "constant.html").read_text(encoding="utf-8")
    assert "There are no pictures: every map is constant" in text


@pytest.fixture(scope="module")
def named(smooth, images):
    """An audit with all that an auditor can say of it; the names are made to break a page."""
    x, y = images
    x = x + 0  # so that the digits of others stay
    return atexlib.audit(
        smooth, x, y, class_names=[f"digit <{n}>" for n in range(10)], names=[f"a|b {n}.png" for n in range(6)],
        title="the museum's net", explainers=["gradient", "grad_cam"], attacks=["place", "distance"],
        generator=seeded(7), **{**QUICK, "eps": 16 / 255},
    )  # fmt: skip


def test_the_report_says_what_the_audit_found(named, tmp_path):
    page = report.save(named, tmp_path / "audit.html").read_text(encoding="utf-8")
    text = report.save(named, tmp_path / "audit.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit-pictures", "audit.html", "audit.md"]
    soup = BeautifulSoup(page, "html.parser")
    seen = soup.get_text(" ").replace("\xa0", " ")
    for word in (
        "the museum's net", "16/255", "digit <", "a|b 3.png", named.provenance["date"][:10],
        f"atexlib {version('atexlib')}", f"torch {version('torch')}", named.provenance["net"],
        "3 steps x 1 starts", "estimated beforehand", "lower right, 8 % of the image",
    ):  # fmt: skip
        assert word in seen, word
        assert html.escape(word, quote=False).replace("|", "\\|") in text, word
    assert re.search(r"Seed\W+7\b", seen)
    tried = (
        "place, distance: Grad-CAM of conv2, 16/255 a pixel, label kept: 3 steps x 1 starts; 6 of 6 images could step."
    )
    alarms = verdict.suspicions(named)  # the page says them in a sentence of its own
    said = [line.partition(" shows ")[2] if line in alarms else line for line in report.summary(named)]
    for line in (*said, tried, *verdict.may_not_conclude(named)):
        assert line in seen
        assert line in text
    for cell in named.table["spearman"]:
        assert cell in text
        assert cell in seen
    for subject in named.subjects:
        assert f"{subject.probability:.3f} →" in seen
    with pytest.raises(ValueError, match=r"audit\.pdf.*\.html, \.md or \.json"):
        report.save(named, tmp_path / "audit.pdf")


def test_the_verdict_stands_first(named, tmp_path):
    soup = BeautifulSoup(report.save(named, tmp_path / "audit.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.h2.text == "Verdict"
    assert soup.select_one(".verdict").text == verdict.headline(judge.verdicts(named), named.labels, 16 / 255)
    for explainer in named.labels.values():
        assert explainer in soup.select_one(".verdict").text


def test_a_report_can_be_read_without_eyes_and_with_a_keyboard(named, tmp_path):
    soup = BeautifulSoup(report.save(named, tmp_path / "audit.html").read_text(encoding="utf-8"), "html.parser")
    assert soup.html["lang"] == "en"
    assert soup.title.text == soup.h1.text == "Audit of explanations: the museum's net"
    levels = [int(heading.name[1]) for heading in soup.find_all(["h1", "h2", "h3"])]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    alts = [image["alt"] for image in soup.find_all("img")]
    assert len(alts) == 6 * len(named.examples)
    assert all(len(alt) > 20 for alt in alts)
    assert all(image["src"].startswith("data:image/webp;base64,") for image in soup.find_all("img"))
    for table in soup.find_all("table"):
        assert table.caption.text
        assert all(cell["scope"] == "col" for cell in table.thead.find_all("th"))
        assert table.parent["tabindex"] == "0"
    assert not soup.find_all("script")
    assert "@media print" in soup.style.text
    assert not re.search(r"(src|href)=.?(https?:|/)", str(soup)), "the page asks for something outside it"


def test_the_pictures_of_markdown_lie_beside_it(named, tmp_path):
    text = report.save(named, tmp_path / "my audit.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.+?\]\(<(.+?)>\)", text)
    assert len(pictures) == len(set(pictures)) == 6 * len(named.examples)
    assert all((tmp_path / name).read_bytes()[8:12] == b"WEBP" for name in pictures)


def test_a_card_holds_the_audit_without_its_pictures(named, tmp_path):
    path = report.save(named, tmp_path / "audit.json")
    again, told = judge.load_card(path), json.loads(path.read_text(encoding="utf-8"))
    assert again.examples == []
    for field in dataclasses.fields(named):
        if field.name not in ("values", "examples"):
            assert getattr(again, field.name) == getattr(named, field.name), field.name
    assert again.table.equals(named.table)
    assert list(again.values) == list(named.values)
    for pair, found in named.values.items():
        for key, value in found.items():
            torch.testing.assert_close(again.values[pair][key], value, equal_nan=True, check_dtype=False)
    assert judge.verdicts(again) == judge.verdicts(named)
    assert told["verdict"] == verdict.headline(judge.verdicts(named), named.labels, 16 / 255)
    assert told["provenance"]["versions"]["torch"] == version("torch")
    page = report.save(again, tmp_path / "again.html").read_text(encoding="utf-8")
    assert "read from a card" in page
    path.write_text(json.dumps(told | {"format": "another"}))
    with pytest.raises(ValueError, match=r"no card of an audit .*its format is 'another'"):
        judge.load_card(path)


def test_numbers_that_are_missing_survive_a_card(found, tmp_path):
    values = {pair: {key: value.clone() for key, value in own.items()} for pair, own in found.values.items()}
    values["gradient", "distance"]["spearman"][2] = float("nan")
    again = judge.load_card(judge.save_card(dataclasses.replace(found, values=values), tmp_path / "a.json"))
    assert again.values["gradient", "distance"]["spearman"].isnan().tolist() == [n == 2 for n in range(6)]
    assert "NaN" not in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_maps_go_where_the_auditor_says(smooth, images):
    """What is said of the place is what is measured here, on the changed image, in other words."""
    square = torch.zeros(14, 14)
    square[2:6, 8:13] = 1
    options = {**QUICK, "steps": 10, "explainers": ["gradient"], "attacks": ["place"], "place": square}
    found = atexlib.audit(smooth, *images, **options)
    own = found.values["gradient", "place"]
    assert (own["in place"] > own["in place before"]).all()
    assert found.examples
    for example in found.examples:
        for key, picture in (("in place before", example.image), ("in place", example.changed)):
            size = explain.gradient(smooth, picture[None], smooth(example.image[None]).argmax(1)).abs()[0, 0]
            share = size[2:6, 8:13].sum() / size.sum()
            assert own[key][example.number].item() == pytest.approx(share.item(), abs=1e-5)
    noise = found.values["gradient", audit.NOISE]
    assert own["in place"].mean() > noise["in place"].mean()
    assert (found.settings["place"], found.settings["part of the image"]) == ("a mask of the auditor's", 20 / 196)


def test_the_place_is_measured_by_code_that_did_not_enforce_it(smooth, images, monkeypatch):
    def idle(_model, x, _objective, **_options):
        class Result:
            effort = Effort("gradient", "none", 1, 1, len(x), len(x), "", 1.0, None)

        Result.x = x
        return Result

    monkeypatch.setattr(audit, "manipulate", idle)
    found = atexlib.audit(smooth, *images, explainers=["gradient"], attacks=["place"], **QUICK)
    own = found.values["gradient", "place"]
    torch.testing.assert_close(own["in place"], own["in place before"])
    assert not verdict.placed(own, EPS).any()


def test_the_place_is_framed_where_an_attack_aimed_at_it(named):
    example = next(e for e in named.examples if e.attack == "place")
    assert example.place.equal(plan.place_of("lower right", 14, 14)[0, 0])
    assert all(e.place is None for e in named.examples if e.attack != "place")
    dark = dataclasses.replace(example, image=0 * example.image, clean_map=0 * example.clean_map)
    panel = pictures.panels(dark, name="a", explainer="b", eps=EPS)[1]
    assert panel.caption.endswith("White frame: the place")
    bright = np.asarray(Image.open(io.BytesIO(panel.file)).convert("L"))[: 14 * 23] > 128
    rows, columns = (bright.any(axis).nonzero()[0] // 23 for axis in (1, 0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 13, 10, 13)
    assert not bright[11 * 23 + 4 : 12 * 23 + 4, 11 * 23 + 4 : 12 * 23 + 4].any(), "the frame is hollow"


def test_places_have_names():
    where = {name: plan.place_of(name, 9, 12)[0, 0].nonzero().float().mean(0).tolist() for name in plan.PLACES}
    assert where == {
        "upper left": [1, 1], "upper right": [1, 10], "lower left": [7, 1], "lower right": [7, 10], "center": [4, 5],
    }  # fmt: skip
    assert all(plan.place_of(name, 9, 12).sum() == 9 for name in plan.PLACES)


def test_a_place_fits_maps_that_are_smaller_than_the_image(smooth, images):
    small = {"small": functools.partial(explain.grad_cam, layer="conv1")}
    pixel = torch.zeros(14, 14)
    pixel[0, 0] = 1
    found = atexlib.audit(smooth, *images, explainers=small, attacks=["place"], place=pixel, **QUICK)
    assert found.labels == {"small": "small (Grad-CAM of conv1)"}
    assert plan.Placing(plan.place_of(pixel, 14, 14)).on(torch.rand(1, 1, 3, 3)).sum() == 1


def by_hand(spearman, *, kept=None, distance=None, noise=None, before=None, after=None, effort=None, eps=0.1):
    """An audit of one explainer and one attack, from numbers for each image."""
    count = len(spearman)

    def row(values, **more):
        own = {"spearman": torch.tensor(values), "topk": torch.ones(count), "ssim": torch.ones(count)}
        own |= {"kept": torch.ones(count, dtype=torch.bool), "distance": torch.full((count,), eps)}
        own |= {"probability": torch.ones(count), "in place": torch.full((count,), 0.1)}
        own |= {"in place before": torch.full((count,), 0.1)}
        return own | {key.replace("_", " "): torch.tensor(value) for key, value in more.items() if value is not None}

    attacked = row(spearman, kept=kept, distance=distance, in_place_before=before, in_place=after)
    values = {("lrp", audit.NOISE): row(noise or [0.99] * count), ("lrp", "place"): attacked}
    values["lrp", audit.WORST] = measures.worst([attacked])
    effort = effort or Effort("LRP", "linf 0.1", 5, 1, count, count, "", 1.0, None)
    return card.Audit(
        [card.Subject(f"{i}.png", None, "cat", 0.9) for i in range(count)], {"lrp": "LRP"}, values,
        {("lrp", "place"): effort}, None, {"eps": eps, "attacks": ["place"], "place": "center", "net": "a net"}, {}, [],
        [],
    )  # fmt: skip


HALF_STEPPED = Effort("LRP", "linf 0.1", 5, 1, 4, 2, "kinks", 1.0, None)
BLIND = Effort("LRP", "linf 0.1", 5, 1, 4, 4, "", 0.2, None)
NAN = float("nan")
VERDICTS = {  # an audit, its words, and words of its reasons
    "all of many": (by_hand([0.1] * 10), verdict.MAY_NOT, "For 10 of 10 images .*72 % to 100 %.* 25.5/255"),
    "nine of ten": (by_hand([0.1] * 9 + [0.9]), verdict.MAY_NOT, "For 9 of 10 images .*60 % to 98 %"),
    "half": (by_hand([0.1] * 5 + [0.9] * 5), verdict.DOUBT, "For 5 of 10 images"),
    "two of two": (by_hand([0.1] * 2), verdict.DOUBT, "For 2 of 2 images .*34 % to 100 %"),
    "one of many": (by_hand([0.1] + [0.9] * 99), verdict.MOSTLY, "For 1 of 100 images .*0 % to 5 %"),
    "none of many": (by_hand([0.9] * 40), verdict.STOOD, "For 0 of 40 images .*0 % to 9 %"),
    "none of few": (by_hand([0.9] * 4), verdict.FEW, "For 0 of 4 images .*0 % to 49 %"),
    "none, hindered": (by_hand([0.9] * 4, effort=HALF_STEPPED), verdict.WEAK, "attacks were hindered"),
    "none, blind": (by_hand([0.9] * 4, effort=BLIND), verdict.WEAK, "attacks were hindered"),
    "none, noise does more": (by_hand([0.9] * 40, noise=[0.8] * 40), verdict.WEAK, "attacks were hindered"),
    "one of many, blind": (by_hand([0.1] + [0.9] * 99, effort=BLIND), verdict.DOUBT, "For 1 of 100"),
    "label lost": (by_hand([0.1] * 4, kept=[False] * 4), verdict.FEW, "For 0 of 4.*On 4 of 4 an attack lost the class"),
    "too far": (by_hand([0.1] * 4, distance=[0.2] * 4), verdict.FEW, "For 0 of 4.*On 4 of 4 .* left the ball"),
    "rounded": (by_hand([0.1] * 10, distance=[0.1 + 5e-7] * 10), verdict.MAY_NOT, "For 10 of 10"),
    "placed": (by_hand([0.9] * 10, before=[0.1] * 10, after=[0.6] * 10), verdict.MAY_NOT, "center.*on 10 of 10"),
    "there already": (by_hand([0.9] * 4, before=[0.6] * 4, after=[0.9] * 4), verdict.FEW, "center.*on 0 of 4"),
    "not quite there": (by_hand([0.9] * 4, before=[0.1] * 4, after=[0.49] * 4), verdict.FEW, "center.*on 0 of 4"),
    "noise as well": (by_hand([0.1] * 10, noise=[0.2] * 7 + [0.8] * 3), verdict.MAY_NOT, "Noise .* on 7 of 10"),
    "constant": (by_hand([NAN] * 3 + [0.9]), verdict.CONSTANT, "3 of 4 maps are constant"),
    "all constant": (by_hand([NAN] * 4), verdict.CONSTANT, "4 of 4 maps are constant"),
    "one constant": (by_hand([0.1] * 9 + [NAN]), verdict.MAY_NOT, "For 9 of 9 images.*1 of 10 maps are constant"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "words", "reasons"), VERDICTS.values(), ids=VERDICTS)
def test_a_verdict_follows_from_the_numbers(made, words, reasons):
    (said,) = judge.verdicts(made)
    assert said.words == words
    assert re.search(reasons, " ".join(said.reasons))
    assert "hindered" not in " ".join(said.reasons) or words in (verdict.WEAK, verdict.DOUBT)
    told = " ".join(
        (verdict.headline([said], made.labels, 0.1), *verdict.may_conclude(made), *verdict.may_not_conclude(made))
    )
    assert f"At eps 25.5/255, LRP {words}." in told
    broken = words in (verdict.MAY_NOT, verdict.DOUBT, verdict.MOSTLY)
    assert ("LRP: that the marked parts made the net decide" in told) == broken
    assert ("stays under noise" in told) == (made is VERDICTS["noise as well"][0])
    assert ("seldom or never" in told) == (words in (verdict.STOOD, verdict.MOSTLY))
    assert ("The audit does not tell" in told) == (words in (verdict.WEAK, verdict.FEW, verdict.CONSTANT))


def test_a_headline_names_the_gravest_first():
    said = [
        judge.Verdict(name, words, [])
        for name, words in zip("abcd", (verdict.STOOD, verdict.MAY_NOT, verdict.FEW, verdict.MAY_NOT), strict=True)
    ]
    labels = {name: name.upper() for name in "abcd"}
    wanted = f"At eps 2/255, B and D {verdict.MAY_NOT}; C {verdict.FEW}; A {verdict.STOOD}."
    assert verdict.headline(said, labels, 2 / 255) == wanted


def test_what_was_not_tried_is_named(named):
    told = " ".join(verdict.not_shown(named))
    assert "Aims that were not tried: untargeted, targeted, center mass, target map, rank distance." in told
    assert "may fall to others" in told
    assert "8 bits" in told


def test_a_map_with_one_bright_pixel_is_drawn_so_that_the_rest_is_seen():
    spike = torch.full((1, 40, 40), 0.1)
    spike[0, 3, 3] = 100
    assert pictures.sizes(spike).min() == 1
    smooth = torch.linspace(0, 1, 70 * 70).view(1, 70, 70)
    assert (pictures.sizes(smooth) - pictures.sizes(-smooth)).abs().max() == 0
    assert pictures.sizes(torch.zeros(1, 9, 9)).max() == 0
    alone = torch.zeros(1, 40, 40)
    alone[0, 3, 3] = -2
    assert pictures.sizes(alone)[3, 3] == 1


def test_large_maps_are_averaged_and_it_is_said(found):
    checker = (torch.arange(80)[:, None] + torch.arange(80)).remainder(2).float()[None]
    drawn = pictures.sizes(checker)[10:-10, 10:-10]
    assert drawn.max() - drawn.min() < 0.1
    small = found.examples[0]
    large = dataclasses.replace(small, clean_map=checker)
    assert "averaged over 5 x 5 pixels" in pictures.how_drawn(large)
    assert "averaged" not in pictures.how_drawn(small)


def test_the_pictures_show_what_their_captions_say(found):
    example = found.examples[0]
    drawn = {p.name: p for p in pictures.panels(example, name="a.png", explainer="gradient", eps=EPS)}
    assert "magnified 5 times. Bar: -25.5/255 to 25.5/255" in drawn["change"].caption
    opened = {
        name: np.asarray(Image.open(io.BytesIO(panel.file)).convert("RGB")) / 255 for name, panel in drawn.items()
    }
    side = 14 * -(-pictures.SIDE // 14)
    assert {picture.shape for picture in opened.values()} == {(side + 2 * pictures.BAR, side, 3)}
    middle = torch.arange(14) * (side // 14) + side // 28
    for name, wanted in {
        "before": example.image, "after": example.changed,
        "change": ((example.changed - example.image) / EPS + 1) / 2,
    }.items():  # fmt: skip
        shown = torch.from_numpy(opened[name][middle][:, middle].mean(2))
        assert (shown - wanted[0]).abs().max() < 0.05, name
    same = dataclasses.replace(example, changed=example.image, changed_map=example.clean_map)
    grey, none = (pictures.panels(same, name="a", explainer="b", eps=EPS)[n].file for n in (2, 5))
    assert np.asarray(Image.open(io.BytesIO(grey)))[:side].std() < 2
    assert np.asarray(Image.open(io.BytesIO(none)))[:side].min() > 240, "no change of the map is white"


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
    assert by_number.accuracy == maps.wilson(6, 6)
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
