"""ATEX (Eq. 4-6): adversarial training on explanations, as a loss for `training.optimize`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .. import checks
from ..explain import gradients
from ..nets.running import frozen, logits_of, predict, that_fit
from ..nets.training import (
    EVALUATED,
    Examples,
    Fitted,
    check_examples,
    check_schedule,
    drawing_on,
    optimize,
    validate_by,
    working_copy,
)
from .distill import distillation
from .neighbors import NOISES, NORMS, along, orthogonal, orthogonal_ascent
from .registry import defense

DIRECTIONS = ("random", "ascent", "mixed", "free")
WIDE = {"eps": 0.6, "orthogonal_samples": 2}


@defense(
    "atex_ascent",
    label="ATEX with ascent (ours)",
    settings={
        "eps": 0.08,
        "orthogonal_samples": 1,
        "directions": "ascent",
        "fidelity": 0.0,
        "label_weight": 1.0,
        "epochs": 3,
    },
    takes_maps=True,
)
@defense(
    "atex_free_pooling",
    label="average pooling, ATEX without the projection",
    settings=WIDE | {"directions": "free"},
    takes_maps=True,
    start="pooling",
)
@defense("atex_pooling", label="average pooling, ATEX, wide", settings=WIDE, takes_maps=True, start="pooling")
@defense(
    "atex_long",
    label="ATEX, wide, long",
    settings={"eps": 0.6, "along_samples": 2, "orthogonal_samples": 4, "steps_per_batch": 4, "epochs": 2},
    takes_maps=True,
)
@defense("atex_free", label="ATEX without the projection", settings=WIDE | {"directions": "free"}, takes_maps=True)
@defense("atex_0.1", label="ATEX, D = 0.1", settings=WIDE | {"eps": 0.1}, takes_maps=True)
@defense("atex_0.08", label="ATEX, D = 0.08", settings=WIDE | {"eps": 0.08}, takes_maps=True)
@defense("atex_0.06", label="ATEX, D = 0.06", settings=WIDE | {"eps": 0.06}, takes_maps=True)
@defense("atex_0.04", label="ATEX, D = 0.04", settings=WIDE | {"eps": 0.04}, takes_maps=True)
@defense("atex_0.02", label="ATEX, D = 0.02", settings=WIDE | {"eps": 0.02}, takes_maps=True)
@defense("atex", label="ATEX, wide", settings=WIDE, takes_maps=True)
def atex(
    model: nn.Module,
    data: Examples,
    *,
    eps: float,
    epochs: int,
    alpha: float = 1.0,
    fidelity: float = 1.0,
    label_weight: float = 0.0,
    temperature: float = 4.0,
    norm: str = "linf",
    noise: str = "symmetric",
    directions: str = "random",
    ascent_steps: int = 2,
    along_samples: int = 1,
    orthogonal_samples: int = 4,
    maps: Tensor | None = None,
    steps_per_batch: int = 1,
    batch_size: int = 100,
    lr: float = 1e-3,
    validation: Examples | None = None,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy g of a trained net f so that its predictions hold still orthogonally to f's explanations.

    Minimises J = fidelity L(g(x), f(x)) + alpha mean L(g(x_p), f(x_i)), with L = `distillation`. The sum of Eq. 4 over
    the samples is a mean here, so that alpha means the same for any number of them. No second derivative is needed.

    >>> from atexlib import data, defend, nets
    >>> fitted = defend.atex(nets.ConvNet(), data.load("digits", "train").first(40), eps=0.6, epochs=1, batch_size=20)
    >>> fitted.best_epoch
    1

    Args:
        model: f, a trained net that returns logits (B, C); it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats in [0, 1], and labels (N,) from 0.
            The labels serve `label_weight` and the checks, not the paper's loss.
        eps: D1 = D2, how far the samples lie, in the units of the images.
        epochs: passes over the images.
        alpha: weight of the samples' term.
        fidelity: weight of the term that keeps g near f on clean images; 1 as printed.
        label_weight: weight of cross entropy on clean images; not in the paper.
        temperature: T of the softened predictions.
        norm: how the radius is meant, `linf` or `l2`; see `neighbors.orthogonal`.
        noise: what u is drawn from, `symmetric` or `printed`.
        directions: `random` as in the paper. `ascent`: steps up the distillation loss inside the complement of the
            explanation, which is ours. `mixed`: both, twice the samples. `free`: noise in all directions, nothing
            projected: the method without its idea.
        ascent_steps: steps of `ascent`.
        along_samples: samples x_i for each image.
        orthogonal_samples: samples x_p for each x_i.
        maps: explanations of f at the images, as `smooth_maps` makes them; computed if None.
        steps_per_batch: optimiser steps, with new samples, on a batch before the next one.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        validation: images and labels; the epoch with the lowest J on the first of them is kept, the last if None. Their
            maps are SmoothGrad's with sigma = eps, whatever `maps` holds.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator of the order and of all samples; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; an unknown word; a loss that is not finite.

    Source: Tang et al. 2022, Eq. 4-6.
    """
    weights = {"alpha": alpha, "fidelity": fidelity, "label_weight": label_weight}
    for name, value in weights.items():
        checks.number(name, value)
    if not any(weights.values()):
        raise ValueError("alpha, fidelity and label_weight are all 0; at least one must be above it.")
    checks.number("eps", eps, open_low=True)
    checks.number("temperature", temperature, open_low=True)
    for name, word, allowed in (
        ("norm", norm, NORMS),
        ("noise", noise, NOISES),
        ("directions", directions, DIRECTIONS),
    ):
        checks.one_of(name, word, allowed)
    for name, value in {
        "ascent_steps": ascent_steps,
        "along_samples": along_samples,
        "orthogonal_samples": orthogonal_samples,
    }.items():
        checks.count(name, value)
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    check_schedule(epochs, batch_size, lr, steps_per_batch=steps_per_batch)
    if maps is not None:
        checks.batch("maps", maps)
        checks.same_shape("maps", maps, "images", checks.examples("data", data)[0])
    (images, labels), validation = check_examples(model, data, validation, device=device)
    teacher = working_copy(model, device)

    def samples(student: nn.Module, x: Tensor, phi: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The samples x_p of a batch and f(x_i), what g shall say there."""
        x_i, phi = (values.repeat(along_samples, 1, 1, 1) for values in (x, phi))
        x_i = along(x_i, phi, radius=eps, norm=norm, generator=generator)
        with torch.no_grad():
            wanted = logits_of(teacher, x_i)
        x_i, phi = (values.repeat(orthogonal_samples, 1, 1, 1) for values in (x_i, phi))
        wanted = wanted.repeat(orthogonal_samples, 1)
        x_p = []
        if directions == "free":
            shape, on = x_i.shape, generator.device
            u = torch.rand(shape, generator=generator, dtype=x_i.dtype, device=on).to(x_i.device)
            x_p.append(x_i + eps * (2 * u - 1))
        if directions in ("random", "mixed"):
            x_p.append(orthogonal(x_i, phi, radius=eps, norm=norm, noise=noise, generator=generator))
        if directions in ("ascent", "mixed"):
            with frozen(student):
                x_p.append(
                    orthogonal_ascent(
                        lambda z: distillation(logits_of(student, z), wanted, temperature=temperature),
                        x_i,
                        phi,
                        radius=eps,
                        steps=ascent_steps,
                        generator=generator,
                    )
                )
        return torch.cat(x_p), wanted.repeat(len(x_p), 1)

    def objective(
        student: nn.Module, x: Tensor, y: Tensor, phi: Tensor, clean: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        x_p, wanted = samples(student, x, phi, generator)
        logits, moved = logits_of(student, torch.cat([x, x_p])).tensor_split([len(x)])
        value = alpha * distillation(moved, wanted, temperature=temperature).mean()
        value = value + fidelity * distillation(logits, clean, temperature=temperature).mean()
        return value + label_weight * F.cross_entropy(logits, y)

    def maps_and_logits(x: Tensor, phi: Tensor | None = None) -> tuple[Tensor, Tensor]:
        phi = smooth_maps(teacher, x, sigma=eps, progress=progress) if phi is None else phi.to(device)
        return phi, predict(teacher, x)

    def held(student: nn.Module, *examples: Tensor) -> Tensor:
        return objective(student, *examples, generator=drawing_on(device, torch.Generator().manual_seed(0)))

    tensors, draws = (images, labels, *maps_and_logits(images, maps)), drawing_on(device, generator)
    if validation is not None:
        validation = (*validation, *maps_and_logits(validation[0][:EVALUATED]))
    return optimize(
        teacher,
        lambda student, rows: objective(student, *(values[rows] for values in tensors), generator=draws),
        count=len(images),
        validate=validate_by(held, validation),
        epochs=epochs,
        batch_size=batch_size,
        steps_per_batch=steps_per_batch,
        lr=lr,
        device=device,
        generator=generator,
        progress=progress,
    )


def smooth_maps(
    model: nn.Module,
    images: Tensor,
    *,
    samples: int = 10,
    sigma: float = 0.1,
    batch_size: int | None = None,
    progress: bool = False,
) -> Tensor:
    """SmoothGrad maps (N, C, H, W) of a frozen net at all images, of the classes it predicts: phi of Eq. 5.

    >>> import torch
    >>> from atexlib import defend, nets
    >>> net, x = nets.ConvNet(side=8, width=4, hidden=8), torch.rand(2, 1, 8, 8)
    >>> defend.smooth_maps(net, x, samples=4).shape
    torch.Size([2, 1, 8, 8])
    """
    checks.net("model", model)
    checks.batch("images", images)
    if batch_size is not None:
        checks.count("batch_size", batch_size)
    device = next(model.parameters(), images).device
    with frozen(model):
        return torch.cat(
            [
                gradients.smoothgrad(model, batch.to(device), samples=samples, sigma=sigma)
                for batch in tqdm(
                    images.split(int(batch_size or that_fit(images, device))),
                    desc="SmoothGrad maps",
                    disable=not progress,
                )
            ]
        )
