"""A net from somebody's file, so that it can be judged by one command."""

import importlib.util
from pathlib import Path

from torch import nn


def made_by(where: str) -> nn.Module:
    """The net that a function of a Python file makes, in eval mode; `where` is `FILE.py:function`.

    The file is run: judge only what you trust.

    >>> import pathlib, tempfile
    >>> from atexlib import judge
    >>> text = "from torch import nn; make_net = lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 2))"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "mine.py"
    ...     _ = path.write_text(text)
    ...     len(judge.made_by(f"{path}:make_net"))
    2

    Raises:
        ValueError: no such file, no such function in it, or one that returns no net.
    """
    file, _, name = where.rpartition(":")
    path = Path(file).expanduser()
    if not name.isidentifier() or path.suffix != ".py":
        raise ValueError(
            f"the net is {where!r}; say FILE.py:function, a file and the function in it that makes the net."
        )
    if not path.is_file():
        raise ValueError(f"there is no file {path}; say where the function {name} stands.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    make = getattr(module, name, None)
    if not callable(make):
        raise ValueError(f"{path} holds no function {name}; it must hold one without arguments that returns the net.")
    net = make()
    if not isinstance(net, nn.Module):
        raise ValueError(f"{name} in {path} returned {type(net).__name__}; it must return a torch.nn.Module.")
    return net.eval()
