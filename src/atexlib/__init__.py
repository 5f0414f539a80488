"""Manipulated explanations of neural networks: attacks, defences, and their honest measurement."""

import lazy_loader

# Rooms are imported when they are first used: `import atexlib` alone loads neither torch nor matplotlib.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules={
        "attack",
        "chapters",
        "data",
        "defend",
        "detect",
        "experiments",
        "explain",
        "judge",
        "maps",
        "nets",
        "show",
    },
    submod_attrs={"judge": ["audit"]},
)
__version__ = "0.1.0"
