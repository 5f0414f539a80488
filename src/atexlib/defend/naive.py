"""The naive defence (Eq. 2): explanations near an image shall be like the one at it, by double backprop."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import checks
from ..attack.ball import Ball
from ..attack.kinks import slopes
from ..attack.objectives import Distance, Objective
from ..explain import gradients
from ..nets.running import frozen, logits_of, of_class, predict
from ..nets.training import (
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
from .registry import defense

NEIGHBORS = ("random", "ascent")
TARGET_MAPS = ("gradient", "smoothgrad")


@defense("naive_light", label="naive, weight 2", settings={"eps": 0.1, "weight": 2.0})
@defense("naive", label="naive", settings={"eps": 0.1, "weight": 4.0})
def naive(
    model: nn.Module,
    data: Examples,
    *,
    eps: float,
    epochs: int,
    a1: float = 1.0,
    a2: float = 1.0,
    weight: float = 1.0,
    distance: Objective = Distance(),  # noqa: B008 (frozen)
    neighbors: str = "random",
    samples: int = 1,
    target_map: str = "gradient",
    teacher: nn.Module | None = None,
    fidelity: float = 0.0,
    temperature: float = 2.0,
    batch_size: int = 100,
    lr: float = 1e-3,
    validation: Examples | None = None,
    device: str | torch.device | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Fitted:
    """Train a copy of a net so that its explanations near each image are like the one at the image: double backprop.

    Minimises a1 L(g(x), y) + a2 mean L(g(x'), y) + weight mean d(phi(g_y, x'), phi(g_y, x)), L being cross entropy and
    phi the gradient. The sums of Eq. 2 over the neighbours are means here.

    >>> from atexlib import data, defend, nets
    >>> fitted = defend.naive(nets.ConvNet(), data.load("digits", "train").first(40), eps=0.1, epochs=1, batch_size=20)
    >>> [sorted(entry) for entry in fitted.history]
    [['epoch', 'loss']]

    Args:
        model: net to start from, trained or not; it stays as it was.
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats in [0, 1], and labels (N,) from 0.
        eps: radius of the L-infinity ball of the neighbours x'.
        epochs: passes over the images.
        a1: weight of the clean images' cross entropy.
        a2: weight of the neighbours' cross entropy.
        weight: weight of d.
        distance: d, any objective of `objectives`: what an attacker would raise is what training lowers.
        neighbors: `random`: uniform in the ball; `ascent`: one sign step up d from there, which costs a second
            derivative more.
        samples: neighbours of each image.
        target_map: the map at x: `gradient` of g, or `smoothgrad` of g, held fixed in each step.
        teacher: net whose softened predictions at x stand for a part of the labels, at x and at x'.
        fidelity: that part, in [0, 1]; 0 without a teacher.
        temperature: T of the softened predictions, as in `distillation`.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        validation: images and labels; the epoch with the lowest loss on the first is kept, the last if None.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator of the order and of all samples; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; an unknown word; a loss that is not finite.

    Source: Tang et al. 2022, Eq. 2.
    """
    for name, value in {"a1": a1, "a2": a2, "weight": weight}.items():
        checks.number(name, value)
    checks.number("eps", eps, open_low=True)
    checks.count("samples", samples)
    checks.one_of("neighbors", neighbors, NEIGHBORS)
    checks.one_of("target_map", target_map, TARGET_MAPS)
    checks.number("fidelity", fidelity, high=1)
    checks.number("temperature", temperature, open_low=True)
    if teacher is not None:
        checks.net("teacher", teacher)
    if (teacher is None) != (fidelity == 0):
        raise ValueError(f"fidelity is {fidelity} and teacher is {teacher}; pass both, or neither.")
    if not callable(distance) or isinstance(distance, type):
        raise ValueError(f"distance is {distance!r}; pass an objective, for example Distance().")
    checks.net("model", model)
    generator, device = checks.generator(generator), checks.device(device, model)
    check_schedule(epochs, batch_size, lr)
    checks.batch("images", checks.examples("data", data)[0], bounds=(0, 1))
    (x, y), validation = check_examples(model, data, validation, device=device)
    student, draws = working_copy(model, device), drawing_on(device, generator)
    if neighbors == "ascent":
        with frozen(student):
            ahead = slopes(student, Ball(x[:2], eps, "linf", (0, 1)), y[:2], gradients.gradient, torch.Generator())
        if not ahead.stepped.any():
            warnings.warn(
                "The gradient map does not change with the image to first order, as in every ReLU net: neighbors="
                "'ascent' is no more than 'random'. Start from nets.with_softplus(model, beta=10).",
                stacklevel=2,
            )

    def near(net: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Neighbours x' of the images."""
        ball = Ball(x, eps, "linf", (0, 1))
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)
        z = ball.project(x + eps * (2 * noise - 1))
        if neighbors == "random":
            return z
        with frozen(net), torch.enable_grad():
            score = distance(gradients.gradient(net, x, y))
            z.requires_grad_()
            slope = torch.autograd.grad(score(gradients.gradient(net, z, y, create_graph=True)).sum(), z)[0]
        return ball.project(z.detach() + eps * slope.sign())

    def classify(logits: Tensor, y: Tensor, wanted: Tensor) -> Tensor:
        value = F.cross_entropy(logits, y)
        if teacher is None:
            return value
        told = distillation(logits, wanted, temperature=temperature).mean()
        return (1 - fidelity) * value + fidelity * told

    def objective(net: nn.Module, x: Tensor, y: Tensor, wanted: Tensor, *, generator: torch.Generator) -> Tensor:
        many, classes = x.repeat(samples, 1, 1, 1), y.repeat(samples)
        z = torch.cat([x, near(net, many, classes, generator)]).requires_grad_()
        with torch.enable_grad():
            logits = logits_of(net, z)
            maps = torch.autograd.grad(of_class(logits, torch.cat([y, classes])).sum(), z, create_graph=True)[0]
        (at_x, at_z), (clean, moved) = (values.tensor_split([len(x)]) for values in (logits, maps))
        if target_map == "smoothgrad":
            clean = gradients.smoothgrad(net, x, y, samples=10, sigma=eps)
        value = a1 * classify(at_x, y, wanted) + a2 * classify(at_z, classes, wanted.repeat(samples, 1))
        return value + weight * distance(clean.repeat(samples, 1, 1, 1))(moved).mean()

    def held(net: nn.Module, *examples: Tensor) -> Tensor:
        return objective(net, *examples, generator=drawing_on(device, torch.Generator().manual_seed(0)))

    def told(x: Tensor) -> Tensor:
        """What the teacher says of images; without one nobody asks."""
        return x.new_zeros(len(x), 1) if teacher is None else predict(teacher, x).to(device)

    tensors = (x, y, told(x))
    if validation is not None:
        validation = (*validation, told(validation[0]))
    return optimize(
        student,
        lambda net, rows: objective(net, *(values[rows] for values in tensors), generator=draws),
        count=len(x),
        validate=validate_by(held, validation),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        generator=generator,
        progress=progress,
    )
