"""The self-checks of exercises tell usual mistakes apart, each with its own hint, and never crash."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from atexlib import chapters

ROOT = Path(__file__).parents[1]


def functions(chapter, *ids, **page):
    """What the cells of these ids define, and those of the second code exercise, which use `page`."""
    cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    space = {"torch": torch, "F": F, "chapters": chapters, **page}
    for cell in cells:
        if cell["id"] in ids or cell["id"].startswith(f"{chapter[:2]}-code2-"):
            exec("".join(cell["source"]), space)
    return space


def inner(a, b):
    return (a * b).sum(1, keepdim=True)


def rest(u, phi):
    return u - inner(u, phi) / inner(phi, phi) * phi


def each(u, phi):
    return torch.stack([F.normalize(rest(a[None], b[None]))[0] for a, b in zip(u, phi, strict=True)])


# Answers to exercise 2 of chapter 6, and a word of the hint that each must get.
ORTHOGONAL = {
    "in one line": (lambda u, phi: F.normalize(rest(u, phi)), "right"),
    "row by row": (each, "right"),
    "in double precision": (lambda u, phi: F.normalize(rest(u.double(), phi.double())), "right"),
    "not begun": (lambda u, phi: None, "not attempted"),
    "not scaled": (rest, "not of length one"),
    "scaled before": (lambda u, phi: rest(F.normalize(u), phi), "not of length one"),
    "nothing removed": (lambda u, phi: F.normalize(u), "nothing was removed"),
    "u": (lambda u, phi: u, "nothing was done"),
    "the part along phi": (lambda u, phi: F.normalize(u - rest(u, phi)), "the part along phi"),
    "divided by the length": (
        lambda u, phi: F.normalize(u - inner(u, phi) / phi.norm(dim=1, keepdim=True) * phi),
        "square of phi's length",
    ),
    "not divided": (lambda u, phi: F.normalize(u - inner(u, phi) * phi), "square"),
    "the wrong way round": (lambda u, phi: -F.normalize(rest(u, phi)), "the wrong way round"),
    "one sum for the batch": (
        lambda u, phi: F.normalize(u - (u * phi).sum() / phi.square().sum() * phi),
        "sum over dim 1",
    ),
    "one length for the batch": (lambda u, phi: rest(u, phi) / rest(u, phi).norm(), "lengths over dim 1"),
    "divided by the largest": (
        lambda u, phi: rest(u, phi) / rest(u, phi).abs().amax(1, keepdim=True),
        "not by the largest",
    ),
    "divided by the sum": (lambda u, phi: rest(u, phi) / rest(u, phi).abs().sum(1, keepdim=True), "L2 length"),
    "the first row for all": (lambda u, phi: F.normalize(rest(u, phi))[:1], "one vector for each pair"),
    "u[:1] for all": (lambda u, phi: F.normalize(u[:1]).expand_as(u), "a part along phi is left"),
    "the first row repeated": (lambda u, phi: F.normalize(rest(u, phi))[:1].expand_as(u), "a part along phi is left"),
    "another vector": (lambda u, phi: F.normalize(rest(torch.ones_like(u), phi)), "not made from u"),
    "no keepdim": (lambda u, phi: u - (u * phi).sum(1) / phi.square().sum(1) * phi, "it stops"),
    "a matrix product": (lambda u, phi: u - (u @ phi) * phi, "it stops"),
    "a number": (lambda u, phi: 1.0, "one vector for each pair"),
    "a list": (lambda u, phi: F.normalize(rest(u, phi)).tolist(), "one vector for each pair"),
    "divided by 0": (lambda u, phi: rest(u, phi) / 0, "nan or infinite"),
    "a wrong name": (lambda u, phi: rest(u, psi), "it stops"),  # noqa: F821
}


@pytest.mark.parametrize(("answer", "hint"), ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_each_answer_about_the_orthogonal_part_gets_its_hint(answer, hint):
    check = functions("06_atex", "06-slips", "06-atex-32-a")["check_orthogonal_unit"]
    found = check(answer)
    assert hint in found
    assert (found == "right") == (hint == "right")


# The second code exercise of the other chapters: what its answers may use of the page, and answers with their hints.


def maps_and_logits(net, x, y, **keep):
    x = x.detach().requires_grad_()
    logits = net(x)
    score = logits.gather(1, y[:, None]).sum()
    return torch.autograd.grad(score, x, **(keep or {"create_graph": True}))[0], logits


def whole(term=lambda a, b: (b - a).square().sum((1, 2, 3)).mean(), ce=F.cross_entropy, first=1, second=1, **keep):
    def loss(net, x, y, near, weight):
        clean, logits = maps_and_logits(net, x, y, **keep)
        moved, noisy = maps_and_logits(net, near, y, **keep)
        return first * ce(logits, y) + second * ce(noisy, y) + weight * term(clean, moved)

    return loss


def in_one_pass(net, x, y, near, weight):
    maps, logits = maps_and_logits(net, torch.cat([x, near]), torch.cat([y, y]))
    clean, moved = maps.tensor_split(2)
    return 2 * F.cross_entropy(logits, torch.cat([y, y])) + weight * (clean - moved).flatten(1).square().sum(1).mean()


def of_logits(net, x, y, near, weight):
    a, b = net(x), net(near)
    return F.cross_entropy(a, y) + F.cross_entropy(b, y) + weight * (a - b).square().sum(1).mean()


WHOLE_LOSS = {
    "in two passes": (whole(), "right"),
    "in one pass": (in_one_pass, "right"),
    "not begun": (lambda *_: None, "not attempted"),
    "no graph of the maps": (whole(retain_graph=True), "create_graph=True"),
    "the graph is freed": (whole(retain_graph=False), "create_graph=True"),
    "a number": (lambda *case: whole()(*case).item(), "one number that has a graph"),
    "no graph": (lambda *case: whole()(*case).detach(), "what cut it off"),
    "a fixed target": (whole(lambda a, b: (b - a.detach()).square().sum((1, 2, 3)).mean()), "at x was cut off"),
    "a fixed neighbour": (whole(lambda a, b: (b.detach() - a).square().sum((1, 2, 3)).mean()), "at near was cut off"),
    "a sum": (whole(lambda a, b: (b - a).square().sum()), "not a sum"),
    "a mean over the pixels": (whole(F.mse_loss), "sum over the pixels"),
    "a root": (whole(lambda a, b: (b - a).flatten(1).norm(dim=1).mean()), "no root"),
    "a loss for each image": (whole(lambda a, b: (b - a).square().sum((1, 2, 3))), "one number"),
    "the wrong sign": (whole(lambda a, b: -(b - a).square().sum((1, 2, 3)).mean()), "the sign"),
    "logits": (of_logits, "logits, not maps"),
    "no weight": (lambda n, x, y, near, w: whole()(n, x, y, near, 1), "the weight is missing"),
    "one cross entropy": (whole(second=0), "at near is missing"),
    "the other": (whole(first=0), "at x is missing"),
    "their mean": (whole(first=0.5, second=0.5), "add them"),
    "their sum": (whole(ce=lambda z, y: F.cross_entropy(z, y, reduction="sum")), "are means"),
    "no maps": (whole(lambda a, b: 0), "maps are missing"),
    "half of all": (lambda *case: whole()(*case) / 2, "neither the number nor its slope"),
    "a wrong name": (lambda *case: whole()(net), "it stops"),  # noqa: F821
}


SECOND = {
    ("05_naive_defence", "check_whole_loss"): WHOLE_LOSS,
}
# What the checks themselves call of the page.
OF_THE_PAGE = {"05_naive_defence": {"maps_and_logits": maps_and_logits}}
ANSWERS = [(*place, answer, *pair) for place, answers in SECOND.items() for answer, pair in answers.items()]


def judge(chapter, name):
    return functions(chapter, **OF_THE_PAGE.get(chapter, {}))[name]


@pytest.mark.parametrize(
    ("chapter", "name", "answer", "hint"),
    [(chapter, name, answer, hint) for chapter, name, _, answer, hint in ANSWERS],
    ids=[f"{chapter[:2]} {answer}" for chapter, _, answer, *_ in ANSWERS],
)
def test_each_answer_gets_its_hint(chapter, name, answer, hint):
    found = judge(chapter, name)(answer)
    assert hint in found
    assert (found == "right") == (hint == "right")


@pytest.mark.parametrize(("chapter", "name"), SECOND)
def test_no_two_hints_are_for_the_same_value(chapter, name, monkeypatch):
    seen = {}
    monkeypatch.setattr(chapters, "hint", lambda answer, given, known, **_: seen.update(known) or "")
    judge(chapter, name)(None)
    values = [torch.as_tensor(value).double() for value in seen.values()]
    assert len(values) >= 10
    for i, value in enumerate(values):
        assert not any(torch.allclose(value, other, atol=2e-3, rtol=2e-3) for other in values[:i]), list(seen)[i]


@pytest.mark.parametrize(("chapter", "name"), SECOND)
def test_the_solutions_judge_as_the_chapter_does(chapter, name):
    both = []
    for path in (ROOT / "notebooks", ROOT / "notebooks" / "solutions"):
        cells = json.loads((path / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
        both.append([cell["source"] for cell in cells if "-code2-slips" in cell["id"]])
    assert both[0] == both[1] != []
