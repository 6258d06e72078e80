"""The command line that all experiments share: commands, options, messages."""

import argparse
import dataclasses
import inspect
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option of a command, or where it has no default an argument.

    Attributes:
      default: its type is that of the option; a type itself stands for no default.
      help: one line.
      least: the smallest number that is allowed.
      nargs: as in argparse, for arguments.
    """

    default: Any
    help: str
    least: int | None = None
    nargs: str | None = None


# Of several commands, each of which has a default of its own.
SHARED = {
    "data": Option("", "digits, mnist, fashion_mnist, cifar10, or an .npz file."),
    "seeds": Option(0, "Runs of each method, with seeds 0, 1, ...", 1),
    "workers": Option(0, "Processes at a time; 0: one a core.", 0),
    "out": Option(Path(), "Folder of checkpoints and results."),
}
DATA_DIR = Option(None, "TFDS directory; default: TFDS_DATA_DIR.")


class Program:
    """The commands of `python -m experiments.NAME`."""

    def __init__(self, name: str, description: str | None):
        self.name = f"python -m experiments.{name}"
        self.parser = argparse.ArgumentParser(self.name, description=description)
        self.commands = self.parser.add_subparsers(metavar="command", required=True)

    def command(self, name: str = "", /, **options: Any) -> Callable:
        """Makes a function of the options (a namespace) a command.

        Args:
          name: of the command; by default that of the function.
          **options: name -> `Option`, or the default of one that is `SHARED`. All
            commands have `data_dir`.
        """

        def add(function):
            text = inspect.getdoc(function) or ""
            parser = self.commands.add_parser(
                name or function.__name__,
                help=text.partition("\n")[0],
                description=text,
                formatter_class=_Help,
            )
            for option in {**options, "data_dir": DATA_DIR}.items():
                _add(parser, *option)
            parser.set_defaults(function=function)
            return function

        return add

    def __call__(self, arguments: Sequence[str] | None = None) -> None:
        """Runs the command that is asked for; mistakes end it with a line and status 2.

        Args:
          arguments: of the command line; None for those of this process.
        """
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        options = self.parser.parse_args(arguments or ["--help"])
        options.command = f"{self.name} {shlex.join(arguments)}"
        try:
            options.function(options)
        except (ValueError, OSError, ImportError) as error:
            self.parser.exit(2, f"error: {error}\n")


class _Help(
    argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter
):
    """The text as it is written, and the defaults that say something."""

    def _get_help_string(self, action):
        silent = action.default in (None, False, "")
        return action.help if silent else super()._get_help_string(action)


def _add(parser: argparse.ArgumentParser, name: str, option: Any) -> None:
    if not isinstance(option, Option):
        shared = SHARED[name]
        option = shared._replace(default=type(shared.default)(option))
    default, text, least, nargs = option
    settings: dict[str, Any] = {"default": default, "help": text.replace("%", "%%")}
    flag = f"{'-' if len(name) == 1 else '--'}{name.replace('_', '-')}"
    if isinstance(default, bool):
        settings["action"] = argparse.BooleanOptionalAction
    else:
        kind = default if isinstance(default, type) else type(default)
        kind = str if default is None else kind
        settings["type"] = kind if least is None else _at_least(kind, least)
    if isinstance(default, type) or nargs:
        flag = name
        settings |= {"nargs": nargs, "default": None if nargs == "+" else default}
    parser.add_argument(flag, **settings)


def _at_least(kind: type, least: int) -> Callable[[str], Any]:
    def read(text):
        if (value := kind(text)) < least:
            raise argparse.ArgumentTypeError(f"{text} is not {least} or more")
        return value

    read.__name__ = kind.__name__  # argparse names it where the text is no number
    return read


def changed(config: Any, options: argparse.Namespace, **changes: Any) -> Any:
    """A protocol, a dataclass, with those of its fields that are options."""
    fields = {field.name for field in dataclasses.fields(config)}
    given = {name: value for name, value in vars(options).items() if name in fields}
    return dataclasses.replace(config, **given | changes)


def names(text: str, allowed: Collection[str], what: str) -> list[str]:
    """The parts of a list separated by commas, each once and one of those allowed.

    Args:
      text: the list, or "all".
      allowed: the names there are.
      what: they are, for the message.

    Raises:
      ValueError: another name, or one twice.
    """
    parts = [part.strip() for part in text.split(",")]
    parts = list(allowed) if parts == ["all"] else parts
    unknown = [part for part in parts if part not in allowed]
    if unknown or len(set(parts)) < len(parts):
        raise ValueError(
            f"{what} {text!r}: "
            + (f"there is no {unknown[0]!r}" if unknown else "each only once")
            + f"; allowed are {', '.join(allowed)}, or all"
        )
    return parts
