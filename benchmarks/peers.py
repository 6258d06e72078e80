"""The libraries that jal is measured beside; each may be missing.

    pip install -c constraints.txt torch --extra-index-url \
        https://download.pytorch.org/whl/cpu
    pip install -c constraints.txt -e '.[bench]'
    pip install -c constraints.txt --no-deps batchbald_redux

The last one asks for torchvision, which only its notebooks use, and a torchvision that
was built for another PyTorch keeps Baal from being imported.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import logging
import warnings
from collections.abc import Callable

from benchmarks.timing import Program, fastest

# Threads that PyTorch is tried with.
THREADS = (1, 2)
MODULES = {
    "PyTorch": ("torch",),
    "Baal": ("baal", "torch"),
    "scikit-activeml": ("skactiveml",),
    "batchbald_redux": ("batchbald_redux.batchbald", "torch"),
}
MISSING = "not installed"
DISTRIBUTIONS = ("torch", "baal", "scikit-activeml", "batchbald_redux", "scikit-learn")


@functools.cache
def installed(peer: str) -> bool:
    """Whether everything that the peer needs can be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in MODULES[peer]:
                importlib.import_module(module)
    except (ImportError, RuntimeError) as error:
        # A torchvision built for another torch raises RuntimeError.
        logging.getLogger(__name__).warning("%s is left out: %r", peer, error)
        return False
    return True


def program(peer: str, variants: Callable[[], dict[str, Callable]]) -> Program:
    """The fastest of the peer's variants, which are made only if it is installed."""
    return fastest(variants()) if installed(peer) else Program(None, note=MISSING)


def with_threads(run: Callable, label: str = "") -> dict[str, Callable]:
    """A variant of a PyTorch program for each number of threads."""
    import torch

    def of(threads):
        def variant():
            torch.set_num_threads(threads)
            with torch.inference_mode():
                return run()

        return variant

    words = lambda n: f"{n} thread{'s' if n > 1 else ''}"
    names = {n: ", ".join(filter(None, (words(n), label))) for n in THREADS}
    return {name: of(n) for n, name in names.items()}


def versions() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for name in DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
