"""The claims about smoother maps, about adversarial training, and Theorem 1, as cells that should lie above 0."""

import math
from typing import Any

import torch
from torch import Tensor

from ...maps.intervals import Interval, two_level
from ..kinds.efficacy import DIRECTIONS
from . import verdicts
from .claims import METRICS, PAPER_DATA, Cells, Claim

MOST = 5  # iterations, as in Figures 3 to 5
ITERATIONS = range(1, MOST + 1)
SHARES = (0.1, 0.2, 0.5)  # 5,000 to 25,000 of the paper's 50,000 FGSM images
EXACT = 1e-8  # T14: what is left for rounding in float64
ROUNDING = 1e-17  # below what float64 can tell
OTHERS = (("plain", MOST), ("naive", MOST), ("atex_ascent", MOST))  # further nets of T12's scatter


def nearer_to_smoothgrad(defense: str) -> Cells:
    """T7: SSIM to the SmoothGrad map, after each number of iterations minus before."""
    return _maps("ssim max", defense)


def less_noisy(defense: str) -> Cells:
    """T8: the fall of the total variation, and the rise of the share of the map that lies on the object."""
    rougher = _maps("variation", defense)
    smoother = {label: cell and Interval(-cell.mean, -cell.high, -cell.low) for label, cell in rougher.items()}
    return smoother | _maps("mass", defense)


def more_efficacy(defense: str) -> Cells:
    """T9: accuracy under a new round of FGSM, after some iterations minus after none, and minus the control."""
    cells = {}
    for dataset in PAPER_DATA:
        for count in ITERATIONS:
            cells[f"{dataset}, {count} iterations against none"] = verdicts.difference(
                "fgsm", efficacy(dataset, defense, count), efficacy(dataset, defense, 0)
            )
        cells[f"{dataset}, {MOST} iterations against as much plain training"] = verdicts.difference(
            "fgsm", efficacy(dataset, defense, MOST), efficacy(dataset, "plain", MOST)
        )
    return cells


def fewer_samples(defense: str) -> Cells:
    """T10: accuracy under a new round of FGSM, after 5 iterations with fewer FGSM images minus after none with all."""
    return {
        f"{dataset}, {share:.0%} of the FGSM images": verdicts.difference(
            "fgsm", efficacy(dataset, defense, MOST, share=share), efficacy(dataset, defense, 0)
        )
        for dataset in PAPER_DATA
        for share in SHARES
    }


def weak_elsewhere(defense: str) -> Cells:
    """T11: accuracy of the adversarially trained net (without ATEX) under FGSM minus that in another direction."""
    cells = {}
    for dataset in PAPER_DATA:
        where = efficacy(dataset, defense, 0)
        for direction in DIRECTIONS:
            here, there = (verdicts.together(name, [where]) for name in ("fgsm", direction))
            missing = here is None or there is None
            cells[f"{dataset}, {direction}"] = None if missing else two_level((here - there)[..., 0])  # type: ignore[operator]
    return cells


def stability_and_efficacy(defense: str) -> Cells:
    """T12: correlation, over all nets, of the stability of the map and the efficacy of adversarial training."""
    cells = {}
    for dataset in PAPER_DATA:
        for metric in METRICS:
            points = scatter(dataset, defense, metric)
            moments = None if points is None else torch.stack(
                [points[..., 0], points[..., 1], points[..., 0] ** 2, points[..., 1] ** 2, points.prod(2)], dim=2
            )  # fmt: skip
            cells[f"{dataset}, {metric}"] = None if moments is None else two_level(moments, statistic=_correlation)
    return cells


def theorem(_defense: str) -> Cells:
    """T14: decimal digits to spare: how far below 1e-8 the cosine's distance from -1 lies, at the worst image."""
    cells = {}
    for dataset in PAPER_DATA:
        for name in ("probability", "log-probability"):
            values = verdicts.per_image(name, kind="theorem1", dataset=dataset, defense="none")
            worst = torch.stack(list(values.values())).double() if values else None
            left = (
                None if worst is None else math.log10(EXACT / max(worst[~worst.isnan()].abs().max().item(), ROUNDING))
            )
            cells[f"{dataset}, {name}"] = None if left is None else Interval(left, left, left)
    return cells


def efficacy(dataset: str, defense: str, count: int, *, share: float = 1.0, recipe: str = "once") -> dict[str, Any]:
    """The spec of adversarial training after so many iterations; seed and preset are left open."""
    where = {"kind": "adversarial_efficacy", "dataset": dataset, "defense": defense if count else "plain"}
    return where | {"iterations": count, "share": share, "recipe": recipe}


def maps(dataset: str, defense: str, count: int, *, of: str = "gradient") -> dict[str, Any]:
    """The spec of the maps after so many iterations; seed and preset are left open."""
    where = {"kind": "smoothness", "dataset": dataset, "defense": defense if count else "plain"}
    return where | {"iterations": count, "map": of}


def scatter(dataset: str, defense: str, metric: str) -> Tensor | None:
    """Stability and accuracy under a new round of FGSM of all nets: (seeds, nets, 2); None unless all were run."""
    nets = [(defense, count) for count in range(MOST + 1)] + [pair for pair in OTHERS if pair[0] != defense]
    specs = [(maps(dataset, *net), efficacy(dataset, *net)) for net in nets]
    preset = verdicts.common_preset(spec for pair in specs for spec in pair)
    if preset is None:
        return None
    found = [
        [verdicts.per_image(name, **spec, preset=preset) for name, spec in zip((metric, "fgsm"), pair, strict=True)]
        for pair in specs
    ]
    seeds = sorted(set.intersection(*(set(values) for pair in found for values in pair)))
    rows = [[[values[seed].nanmean() for values in pair] for pair in found] for seed in seeds]
    return torch.tensor(rows, dtype=torch.float64) if rows else None


def _maps(metric: str, defense: str) -> Cells:
    return {
        f"{dataset}, {metric}, {count} iterations": verdicts.difference(
            metric, maps(dataset, defense, count), maps(dataset, defense, 0)
        )
        for dataset in PAPER_DATA
        for count in ITERATIONS
    }


def _correlation(means: Tensor) -> Tensor:
    """Pearson's correlation from the means of a, b, a^2, b^2 and ab (..., 5)."""
    a, b, aa, bb, ab = means.unbind(-1)
    return (ab - a * b) / ((aa - a**2) * (bb - b**2)).clamp_min(1e-30).sqrt()


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "T7",
            "Maps of ATEX nets are nearer to SmoothGrad (SSIM, each map divided by its largest value).",
            nearer_to_smoothgrad,
        ),
        Claim(
            "T8",
            "They are less noisy (total variation) and more focused on the object (mass on pixels > 0).",
            less_noisy,
        ),
        Claim("T9", "The more ATEX iterations, the better adversarial training works.", more_efficacy),
        Claim("T10", "Fewer adversarial samples are then needed.", fewer_samples),
        Claim("T11", "An adversarially trained net stays weak in other directions.", weak_elsewhere),
        Claim(
            "T12",
            "Stability and the efficacy of adversarial training are positively correlated.",
            stability_and_efficacy,
        ),
        Claim(
            "T14",
            "Theorem 1: the gradient of the probability, or of its logarithm, points exactly against FGSM's direction "
            f"before its sign is taken (here: cosine within {EXACT:g} of -1).",
            theorem,
        ),
    )
}
