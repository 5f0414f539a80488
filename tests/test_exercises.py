"""The self-checks of exercises tell usual mistakes apart, each with its own hint, and never crash."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[1]


def functions(chapter, *ids):
    """What the cells of these ids define."""
    cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    space = {"torch": torch}
    for cell in cells:
        if cell["id"] in ids:
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
