"""Manipulating an input: change the explanation, keep the prediction (Eq. 1 of Tang et al. 2022)."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from .. import checks
from ..explain import registry
from ..explain.layers import resolved
from ..explain.registry import Explainer
from ..nets.running import check_steady, frozen, logits_of, of_class, plain
from .ascent import ascend, check_effort
from .ball import Ball
from .kinks import no_step
from .objectives import Objective, check_objective, of_rows

NEAR = 0.5  # of a tolerance, or of a constraint's unit, from where on a step heeds it
SEEN = 0.9  # of a map's change that slopes should account for; less is said


@dataclass(frozen=True)
class Effort:
    """How hard a manipulation tried; as text one line, which belongs beside every number of it.

    >>> from atexlib import attack
    >>> print(attack.Effort("LRP", "linf 0.1, label kept", 50, 2, 4, 3, "kinks", 0.5, None))
    LRP, linf 0.1, label kept: 50 steps x 2 starts; 3 of 4 images could step (else: kinks); slopes see 50 % of a change
    """

    explainer: str
    """What was explained, with the layer that it read."""
    constraint: str
    steps: int
    starts: int
    images: int
    stepped: int
    """Images whose map changes to first order, so that steps had a direction; on the others luck alone searched."""
    why: str
    """What the others lack, see `Slopes.why`."""
    seen: float
    """The share of a change of the maps that slopes account for, see `Slopes.seen`; the rest are jumps at kinks."""
    guide: str | None
    """The surrogate whose slopes were followed."""

    def __str__(self) -> str:
        """One line."""
        parts = [f"{self.explainer}, {self.constraint}: {self.steps} steps x {self.starts} starts"]
        if self.guide:
            parts[0] += f", guided by {self.guide}"
        parts.append(
            f"{self.stepped} of {self.images} images could step" + (f" (else: {self.why})" if self.why else "")
        )
        if self.stepped and self.seen < SEEN:
            parts.append(f"slopes see {100 * self.seen:.0f} % of a change")
        return "; ".join(parts)

    @classmethod
    def of(cls, parts: "Sequence[Effort]") -> "Effort":
        """The effort of several batches as one."""
        whole, images = parts[0], sum(part.images for part in parts)
        why = ", ".join(dict.fromkeys(part.why for part in parts if part.why))
        seen = sum(part.seen * part.images for part in parts) / images
        count = sum(part.stepped for part in parts)
        return cls(whole.explainer, whole.constraint, whole.steps, whole.starts, images, count, why, seen, whole.guide)


@dataclass(frozen=True, eq=False)
class Manipulation:
    """What a manipulation found, one entry an image.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> attack.manipulate(net, x, attack.Distance(), eps=0.1, steps=2).x.shape
    torch.Size([2, 1, 8, 8])
    """

    x: Tensor
    """Manipulated images (B, C, H, W)."""
    target: Tensor
    """Explained classes (B,), those predicted for the clean images."""
    clean_map: Tensor
    """Explanations of the clean images."""
    map: Tensor
    """Explanations of the manipulated images, of the same classes."""
    clean_score: Tensor
    """The objective on the clean maps (B,)."""
    score: Tensor
    """The objective on the manipulated maps (B,)."""
    label_kept: Tensor
    """Whether the predicted class is the same (B,)."""
    prediction_shift: Tensor
    """`|p_c(x') - p_c(x)|` of the softmax probability (B,)."""
    logit_shift: Tensor
    """`|f_c(x') - f_c(x)|` of the logit (B,)."""
    distance: Tensor
    """`||x' - x||` in the norm of the attack (B,)."""
    unchanged: Tensor
    """True where nothing in the ball was found to score higher, so that x' is x (B,)."""
    stepped: Tensor
    """True where the search had a slope to follow (B,); see `effort.why` for the others."""
    effort: Effort
    """How hard the search was; one line as text."""

    def __repr__(self) -> str:
        """What was found, and how hard was tried, in one line."""
        before, after = self.clean_score.mean().item(), self.score.mean().item()
        kept = int(self.label_kept.sum())
        return (
            f"Manipulation of {len(self.x)} images: mean score {before:.3g} -> {after:.3g}, {kept} labels kept, "
            f"{int(self.unchanged.sum())} unchanged; {self.effort}"
        )


@checks.derivatives()
def manipulate(
    model: nn.Module,
    x: Tensor,
    objective: Objective,
    *,
    eps: float,
    norm: str = "linf",
    explainer: str | Explainer = "gradient",
    steps: int = 100,
    step_size: float | None = None,
    prediction_tolerance: float | None = None,
    bounds: tuple[float, float] = (0, 1),
    starts: int = 1,
    surrogate: nn.Module | None = None,
    constraint: Callable[[Tensor], Tensor] | None = None,
    where: Tensor | None = None,
    levels: int | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Manipulation:
    """Search each image's neighbourhood for the input whose explanation scores highest while the prediction stays.

    Maximises objective(phi(f_c, x')) subject to `||x' - x|| <= eps`, argmax f(x') = argmax f(x) and, where
    `prediction_tolerance` is given, `|p_c(x') - p_c(x)| <= prediction_tolerance`. An image for which nothing better is
    found comes back unchanged and flagged. The net is used in eval mode and given back as it was.

    >>> import torch
    >>> from atexlib import attack, nets
    >>> found = attack.manipulate(nets.ConvNet(), torch.rand(2, 1, 28, 28), attack.Untargeted(k=50), eps=0.1, steps=2)
    >>> bool(found.label_kept.all()), bool((found.distance <= 0.1).all())
    (True, True)

    Args:
        model: net that returns logits (B, C), the same for an image each time and whatever else is in its batch.
        x: clean images (B, C, H, W), float32 or float64, inside `bounds`.
        objective: `Untargeted`, `Targeted`, `CenterMass`, `TargetMap`, `Distance`, or any function that takes the clean
            maps and returns a function maps -> (B,).
        eps: radius of the ball, in the units of x (L-infinity: largest change of a pixel).
        norm: `linf` or `l2`.
        explainer: its name, or a function with the same arguments (`functools.partial` sets options).
        steps: gradient steps from each start.
        step_size: first step; it falls to zero along a cosine. eps if None.
        prediction_tolerance: most that the probability of the explained class may shift; None asks for the label alone.
        bounds: lowest and highest pixel value.
        starts: the first start is x itself; each other one is the best of eight random corners of the ball.
        surrogate: net whose second derivatives guide the search, for example `nets.with_softplus(model, beta)` for a
            ReLU net; scores, constraints and the result are the model's own.
        constraint: what else must hold, as a function of images (B, C, H, W) -> (B,) that is at most zero where it
            does, in units of about its own spread; differentiable, or else it is met by luck alone.
        where: true at the pixels that may change, shape of x; all of them if None.
        levels: grey levels that a changed pixel may have, spread evenly over `bounds`: 256 for what a file of 8 bits
            holds; None for any. In L-infinity alone.
        batch_size: images attacked at once, which bounds the memory; all of them if None. A function of your own as
            the objective then gets the clean maps of each batch in turn.
        generator: CPU generator of the random starts; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: x or a number out of range, an objective that does not fit the maps.

    Warns:
        UserWarning: once, if no image's map has a slope to follow, as in ReLU nets; `stepped` and `effort` say so too.

    Source: Tang et al. 2022, Eq. 1.
    """
    checks.interval("bounds", bounds)
    checks.batch("x", x, bounds=bounds)
    checks.fine("x", x)
    check_effort(eps=eps, norm=norm, steps=steps, starts=starts, step_size=step_size)
    if prediction_tolerance is not None:
        checks.number("prediction_tolerance", prediction_tolerance, high=1)
    explainer = registry.find(explainer)
    if batch_size is not None:
        checks.count("batch_size", batch_size)
    if where is not None and (not isinstance(where, Tensor) or where.shape != x.shape):
        what = tuple(where.shape) if isinstance(where, Tensor) else type(where).__name__
        raise ValueError(f"where is {what}; pass a tensor of True and False of the shape of x, {tuple(x.shape)}.")
    if levels is not None:
        checks.count("levels", levels, low=2)
        if norm != "linf":
            raise ValueError(f"levels is {levels!r} with the norm {norm!r}; pass levels=None, or the norm 'linf'.")
    model = plain(model)
    surrogate = None if surrogate is None else plain(surrogate, name="surrogate")
    check_objective(objective)
    generator = checks.generator(generator)
    search: dict[str, Any] = {
        "steps": steps,
        "step_size": step_size,
        "starts": starts,
        "generator": generator,
        "progress": progress,
    }
    check_steady(model, x)
    explainer = resolved(explainer, model, x)
    parts = []
    for rows in torch.arange(len(x)).split(int(batch_size or len(x))):
        ball = Ball(x[rows].detach(), eps, norm, bounds, None if where is None else where[rows].bool(), levels)
        aim = objective if batch_size is None else of_rows(objective, rows)
        options = {"explainer": explainer, "tolerance": prediction_tolerance, "surrogate": surrogate, **search}
        options["constraint"] = constraint
        parts.append(_manipulate(model, ball, aim, **options))
    effort = Effort.of([part.effort for part in parts])
    if not effort.stepped:
        warnings.warn(no_step(effort.why), stacklevel=3)  # `manipulate` is wrapped
    names = [field.name for field in fields(Manipulation) if field.name != "effort"]
    joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return Manipulation(**joined, effort=effort)


def _manipulate(
    model: nn.Module,
    ball: Ball,
    objective: Objective,
    *,
    explainer: Explainer,
    tolerance: float | None,
    surrogate: nn.Module | None,
    constraint: Callable[[Tensor], Tensor] | None,
    **search: Any,
) -> Manipulation:
    x = ball.center
    with frozen(model), frozen(surrogate) if surrogate is not None else nullcontext():
        with torch.no_grad():
            clean_logits = logits_of(model, x)
        checks.logits(clean_logits)
        target = clean_logits.argmax(1)
        clean_map = registry.tried(explainer, model, x, target)
        score = objective(clean_map)
        if not callable(score):
            raise ValueError(f"objective {objective!r} returned {score!r}; it must return a function maps -> (B,).")
        clean_score = score(clean_map)
        if not isinstance(clean_score, Tensor) or clean_score.shape != target.shape:
            raise ValueError(f"objective {objective!r} must score one number an image, shape ({len(x)},).")
        violation = prediction_violation(clean_logits, target, tolerance)
        guide_violation = None
        if surrogate is not None:  # its logits differ from the model's: measure its shift from its own clean ones
            with torch.no_grad():
                guide_violation = prediction_violation(logits_of(surrogate, x), target, tolerance)
        edge = None if tolerance is None and constraint is None else NEAR * (1 if tolerance is None else tolerance)
        best, best_score, ahead = ascend(
            model,
            target,
            score,
            ball,
            explainer=explainer,
            violation=violation,
            surrogate=surrogate,
            guide_violation=guide_violation,
            constraint=constraint,
            edge=edge,
            **search,
        )
        with torch.no_grad():
            holds = violation(logits_of(model, best)) < 0
        best = torch.where((holds & (best_score > clean_score)).view(-1, 1, 1, 1), best, x)
        changed_map = explainer(model, best, target)
        with torch.no_grad():
            logits = logits_of(model, best)
    probability, clean_probability = (of_class(values.softmax(1), target) for values in (logits, clean_logits))
    shift = (best - x).flatten(1)
    return Manipulation(
        x=best,
        target=target,
        clean_map=clean_map,
        map=changed_map,
        clean_score=clean_score,
        score=score(changed_map),
        label_kept=logits.argmax(1) == target,
        prediction_shift=(probability - clean_probability).abs(),
        logit_shift=(of_class(logits, target) - of_class(clean_logits, target)).abs(),
        distance=shift.abs().amax(1) if ball.norm == "linf" else torch.linalg.vector_norm(shift, dim=1),
        unchanged=~shift.any(1),
        stepped=ahead.stepped,
        effort=Effort(
            explainer=registry.described(explainer),
            constraint=f"{ball.norm} {ball.eps:.3g}, "
            + ("label kept" if tolerance is None else f"label kept, probability within {tolerance:g}"),
            steps=search["steps"],
            starts=search["starts"],
            images=len(x),
            stepped=int(ahead.stepped.sum()),
            why=ahead.why,
            seen=ahead.seen,
            guide=None if surrogate is None else f"a surrogate ({type(surrogate).__name__})",
        ),
    )


def prediction_violation(
    clean_logits: Tensor, target: Tensor, tolerance: float | None = None
) -> Callable[[Tensor], Tensor]:
    """The prediction constraint as a function of logits (B, C): below zero where the prediction stays, (B,).

    It is the margin by which another class beats the target's logit or, with a tolerance, the larger of that and
    `|p_c(x') - p_c(x)| - tolerance`.
    """
    clean_probability = of_class(clean_logits.softmax(1), target)

    def violation(logits: Tensor) -> Tensor:
        rivals = logits.scatter(1, target.unsqueeze(1), -torch.inf).amax(1)
        margin = rivals - of_class(logits, target)
        if tolerance is None:
            return margin
        shift = (of_class(logits.softmax(1), target) - clean_probability).abs()
        return torch.maximum(margin, shift - tolerance)

    return violation
