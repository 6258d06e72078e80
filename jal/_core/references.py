"""Functions that a text names: MODULE:FUNCTION or FILE.py:FUNCTION."""

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def call(reference: str, argument: str, *, instead: str = "leave it out") -> Any:
    """What the function returns that a text names.

    Args:
      reference: MODULE:FUNCTION, of a module of this folder or an installed one, or
        FILE.py:FUNCTION; it is called without arguments.
      argument: what the user calls the text, for errors.
      instead: what else the user could give.

    Returns:
      What it returns.

    Raises:
      ValueError: there is no such function.
      RuntimeError: it raised; the cause is its error.

    >>> call("tempfile:gettempprefix", "model")
    'tmp'
    """
    place, _, name = reference.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not name.isidentifier() or not (is_module or place.endswith(".py")):
        raise ValueError(
            f"{argument} {reference!r}; expected MODULE:FUNCTION, FILE.py:FUNCTION or "
            f"{instead}"
        )
    module = _import(place, argument)
    function = getattr(module, name, None)
    if not callable(function):
        there = [
            other
            for other, member in vars(module).items()
            if inspect.isfunction(member) and member.__module__ == module.__name__
        ]
        raise ValueError(
            f"{argument} {reference!r}: {place} has no function {name!r}, only "
            f"{', '.join(there) or 'none at all'}"
        )
    check_takes(function, (), f"{reference}()")
    with blamed(f"{reference}()"):
        return function()


def absolute(reference: str) -> str:
    """The same reference, from whatever folder it is looked up later.

    Args:
      reference: MODULE:FUNCTION or FILE.py:FUNCTION.

    Returns:
      The latter with the whole path of the file.

    >>> absolute("module:function")
    'module:function'
    """
    place, _, name = reference.rpartition(":")
    return f"{Path(place).absolute()}:{name}" if place.endswith(".py") else reference


def check_takes(function: Callable, arguments: tuple, call: str) -> None:
    """Refuses a function that cannot be called with some arguments.

    Args:
      function: the user's.
      arguments: positional ones.
      call: how the error writes the call.

    Raises:
      ValueError: it takes others.

    >>> check_takes(len, ("text",), "len(text)")
    """
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise ValueError(f"{call} is how jal calls it, but: {error}") from error


@contextlib.contextmanager
def blamed(what: str) -> Iterator[None]:
    """Names the user's function that failed; the traceback shows where.

    Args:
      what: the call.

    Returns:
      A context manager.

    Raises:
      RuntimeError: what is within raised.

    >>> with blamed("predict()"):
    ...     pass
    """
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{what} failed: {error}") from error


def _import(place: str, argument: str) -> Any:
    """The module of that name, or of that file."""
    folders, name = [Path.cwd()], place
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise ValueError(f"{argument}: there is no file {path}")
        # Like a script, a file can import what stands beside it.
        folders, name = [path.parent, *folders], str(path)
    for folder in reversed(folders):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    if name in sys.modules:
        return sys.modules[name]
    try:
        if not place.endswith(".py"):
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, name)
        assert spec is not None and spec.loader is not None
        # Dataclasses look their module up while they are made.
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ImportError as error:
        if f"{place}.".startswith(f"{error.name}."):
            raise ValueError(
                f"{argument}: there is no module {error.name!r}, neither in "
                f"{folders[0]} nor installed"
            ) from error
        raise ValueError(f"{argument}: importing {place}: {error}") from error
