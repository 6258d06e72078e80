"""The command line, a file a command: `jal score`, `select`, `plan`, `init`, ..."""

from jal.cli._app import app, main

__all__ = ["app", "main"]
