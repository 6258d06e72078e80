"""`python -m jal` is the command `jal`."""

from jal import cli

if __name__ == "__main__":
    cli.main()
