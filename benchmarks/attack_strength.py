"""Compares `manipulate` with a plain projected-sign ascent at equal steps, and with itself at 100 and 200 steps.

The rival takes constant signed steps, projects, and keeps the best iterate that keeps the label; for each cell it may
choose the better of two step sizes. A cell is an objective (larger is stronger) and an eps, its interval a paired
bootstrap over 64 validation images.

Run: `python benchmarks/attack_strength.py`, with ATEXLIB_DATA set for Fashion-MNIST. It exits with an error where the
rival is stronger: where a cell's interval lies wholly below zero.
"""

import sys

import torch
from torch import Tensor, nn

from atexlib import data, experiments, explain
from atexlib.attack import Distance, Objective, Targeted, Untargeted, manipulate
from atexlib.maps import bootstrap

IMAGES, STEPS = 64, 50


def plain_sign_ascent(
    model: nn.Module, x: Tensor, objective: Objective, *, eps: float, step: float, nudge: bool
) -> Tensor:
    """The textbook attack: the best objective (B,) that it finds in STEPS steps while the label stays."""
    with torch.no_grad():
        label = model(x).argmax(1)
    score = objective(explain.gradient(model, x, label))
    best = score(explain.gradient(model, x, label))
    shift = torch.zeros_like(x)
    if nudge:  # a distance is flat at x: sign(0) would never leave it
        shift = 1e-3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).sign()
    for taken in range(STEPS + 1):
        z = (x + shift).clamp(0, 1).requires_grad_(taken < STEPS)
        value = score(explain.gradient(model, z, label, create_graph=z.requires_grad))
        with torch.no_grad():
            kept = model(z).argmax(1) == label
        best = torch.where(kept & (value > best), value.detach(), best)
        if taken < STEPS:
            slope = torch.autograd.grad(value.sum(), z)[0]
            shift = (z.detach() - x + step * slope.sign()).clamp(-eps, eps)
    return best


def subjects() -> tuple[nn.Module, Tensor]:
    """The committed Fashion-MNIST net with its validation images, or else digits at smoke."""
    try:
        model = experiments.trained(dataset="fashion-mnist")
        images = data.load("fashion-mnist", "validation")
    except ValueError as error:
        print(f"{error}\nDigits instead, at smoke.")
        model, images = experiments.trained(dataset="digits", preset="smoke"), data.load("digits", "validation")
    print(f"{images.name}, {IMAGES} validation images, {STEPS} steps")
    return model.requires_grad_(False), images.images[:IMAGES]


def main() -> None:
    """Print a table: cell, mean objective of both attacks, their difference, and what 200 steps add to 100."""
    model, x = subjects()
    objectives = {"untargeted": Untargeted(), "targeted": Targeted.random_region(x), "distance": Distance()}
    failed = False
    print(f"{'objective':<12}{'eps':>5}{'ours':>9}{'rival':>9}{'ours - rival':>26}{'100 steps':>11}{'200 - 100':>26}")
    for name, objective in objectives.items():
        for eps in (0.05, 0.1):
            ours, at100, at200 = (manipulate(model, x, objective, eps=eps, steps=n).score for n in (STEPS, 100, 200))
            rivals = [
                plain_sign_ascent(model, x, objective, eps=eps, step=step, nudge=name == "distance")
                for step in (eps / 10, eps / 4)
            ]
            rival = max(rivals, key=lambda scores: scores.mean())
            difference, gain = bootstrap(ours - rival), bootstrap(at200 - at100)
            failed |= difference.high < 0
            print(
                f"{name:<12}{eps:>5}{ours.mean():>9.4f}{rival.mean():>9.4f}{difference!s:>26}"
                f"{at100.mean():>11.4f}{gain!s:>26}",
                flush=True,
            )
    sys.exit("the plain ascent is stronger" if failed else 0)


if __name__ == "__main__":
    main()
