"""How an exercise's answer is judged: a hint for each slip, and never a stop."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


def hint(
    answer: Callable[..., Any],
    given: tuple[Any, ...],
    known: Mapping[str, Any],
    *,
    wanted: str,
    other: str | Callable[[Tensor], str] = "that is not what was asked for",
    tolerance: float = 1e-4,
) -> str:
    """What to tell the author of an answer to an exercise; whatever the answer does, this does not stop.

    >>> import torch
    >>> from atexlib import chapters
    >>> known = {"right": torch.tensor(3.0), "that is the product": torch.tensor(2.0)}
    >>> chapters.hint(lambda a, b: a * b, (1, 2), known, wanted="a number")
    'that is the product'

    Args:
        answer: the function that was to be written.
        given: what it is called with; it gets a copy.
        known: a hint, and the value that an answer returns which deserves it; the right one first.
        wanted: what to return, in words, for an answer of another type or shape.
        other: the hint for a value that is not known, or a function that makes it from the value.
        tolerance: how far an answer may be from a known value, absolute and relative.

    Returns:
        The hint of the first known value that the answer comes near.
    """
    right = torch.as_tensor(next(iter(known.values())))
    try:
        found = answer(*copy.deepcopy(given))
    except Exception as error:
        first = str(error).partition("\n")[0]
        return f"it stops: {type(error).__name__}, {first}"
    if found is None:
        return "not attempted"
    try:
        found = torch.as_tensor(found).detach().to("cpu", right.dtype)
    except Exception:
        return f"return {wanted}"
    if found.shape != right.shape and not found.numel() == right.numel() == 1:
        return f"return {wanted}"
    found = found.reshape(right.shape)
    for text, value in known.items():
        if torch.allclose(found, torch.as_tensor(value).to(found), atol=tolerance, rtol=tolerance, equal_nan=True):
            return text
    if not found.isfinite().all():
        return "there are nan or infinite entries: what do you divide by?"
    return other if isinstance(other, str) else other(found)
