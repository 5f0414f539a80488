"""From a loss to a defence: the one trainer of all defences that are no more than what they minimise."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import checks
from ...nets.training import (
    Examples,
    Fitted,
    check_examples,
    check_schedule,
    drawing_on,
    optimize,
    validate_by,
    working_copy,
)
from ..registry import Loss, Trainer, defense

OPTIONS = """

    A copy of a net is trained on by Adam; the net itself stays as it was.

    Args:
        model: trained net that returns logits (B, C).
        data: an ImageSet, a pair or a TensorDataset of images (N, C, H, W), floats in [0, 1], and labels (N,) from 0.
        epochs: passes over the images.
        validation: images and labels; the epoch with the lowest loss on the first is kept, the last if None.
        batch_size: images in a batch.
        lr: first learning rate of Adam; it falls to zero along a cosine.
        device: where to train, the trained net stays there; where the net is if None.
        generator: CPU generator of the order and of all samples; a new one with seed 0 if None.
        progress: show a progress bar.

    Raises:
        ValueError: a wrong shape, type or range; a loss that is not finite.
"""


def penalised(
    name: str,
    *,
    label: str,
    cost: float,
    strength: str,
    settings: Mapping[str, Any] | None = None,
    shape: Callable[[nn.Module, Mapping[str, Any]], nn.Module] | None = None,
) -> Callable[[Loss], Trainer]:
    """Make a trainer of the decorated `loss(net, x, y, generator, *, ...)`, and enter it in the register.

    The keyword-only arguments of the loss become options of the trainer: of whole numbers at least 1, of others at
    least 0. `settings` overrides their defaults in the register; the rest as the fields of `Defense`.

    >>> import torch.nn.functional as F
    >>> from atexlib import data, defend, nets
    >>> from atexlib.defend.losses.penalised import penalised
    >>> @penalised("squares", label="squared logits", cost=1, strength="weight")
    ... def squares(net, x, y, generator, *, weight: float = 0.1):
    ...     "Cross entropy and the squared logits."
    ...     return F.cross_entropy(net(x), y) + weight * net(x).square().mean()
    >>> squares(nets.ConvNet(), data.load("digits", "train").first(40), epochs=1, weight=1.0).best_epoch
    1
    >>> defend.DEFENSES.pop("squares").settings
    {'weight': 0.1}
    """

    def enter(loss: Loss) -> Trainer:
        own = [option for option in inspect.signature(loss).parameters.values() if option.kind is option.KEYWORD_ONLY]
        known = {option.name: option.default for option in own}
        chosen = {**known, **(settings or {})}

        def train(
            model: nn.Module,
            data: Examples,
            *,
            epochs: int,
            validation: Examples | None = None,
            batch_size: int = 100,
            lr: float = 1e-3,
            device: str | torch.device | None = None,
            generator: torch.Generator | None = None,
            progress: bool = False,
            **options: Any,
        ) -> Fitted:
            if unknown := set(options) - set(known):
                raise TypeError(f"{name}() has no option {', '.join(sorted(unknown))}; it has {', '.join(known)}.")
            options = {**known, **options}
            for key, value in options.items():
                (checks.count if isinstance(known[key], int) else checks.number)(key, value)
            checks.net("model", model)
            generator, device = checks.generator(generator), checks.device(device, model)
            check_schedule(epochs, batch_size, lr)
            checks.batch("images", checks.examples("data", data)[0], bounds=(0, 1))
            model = model if shape is None else shape(model, options)
            (x, y), validation = check_examples(model, data, validation, device=device)
            draws = drawing_on(device, generator)

            def held(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
                return loss(net, x, y, drawing_on(device, torch.Generator().manual_seed(0)), **options)

            return optimize(
                working_copy(model, device),
                lambda net, rows: loss(net, x[rows], y[rows], draws, **options),
                count=len(x),
                validate=validate_by(held, validation),
                epochs=epochs,
                batch_size=batch_size,
                lr=lr,
                device=device,
                generator=generator,
                progress=progress,
            )

        train.__name__ = train.__qualname__ = loss.__name__
        shared = list(inspect.signature(train).parameters.values())[:-1]
        train.__signature__ = inspect.Signature([*shared[:3], *own, *shared[3:]], return_annotation=Fitted)  # type: ignore[attr-defined]
        train.__module__, train.__doc__ = loss.__module__, (loss.__doc__ or "").rstrip() + OPTIONS
        return defense(name, label=label, settings=chosen, shape=shape, loss=loss, cost=cost, strength=strength)(train)

    return enter
