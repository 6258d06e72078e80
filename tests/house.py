"""How large the house is: `python tests/house.py jal experiments` counts lines of code.

A line of code is one that holds more than a docstring, a comment or nothing.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

_NOTHING = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> set[int]:
    """The numbers of the lines of code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NOTHING:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Name and lines of code of each function, those within it included."""
    lines = code_lines(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = range(node.lineno, (node.end_lineno or 0) + 1)
            yield node.name, len(lines & set(own))


def count(folder: str | Path) -> dict[str, int]:
    """Lines of code of each file below a folder."""
    paths = sorted(Path(folder).rglob("*.py"))
    return {str(path): len(code_lines(path.read_text())) for path in paths}


def main(*folders: str) -> None:
    for folder in folders:
        sizes = count(folder)
        for path, number in sizes.items():
            print(f"{number:5} {path}")
        print(f"{sum(sizes.values()):5} {folder} in all")


if __name__ == "__main__":
    main(*sys.argv[1:])
