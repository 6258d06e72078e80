"""`python -m jal` is the command `jal`."""

from jal.cli import _app

if __name__ == "__main__":
    _app.main()
