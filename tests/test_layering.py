"""What may be imported where; who imports whom is a contract of import-linter."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OPTIONAL = {
    "PIL",
    "jinja2",
    "matplotlib",
    "orbax",
    "rich",
    "scipy",
    "sklearn",
    "tensorflow_datasets",
    "tqdm",
    "typer",
}
TREES = {
    path.relative_to(ROOT / "jal").as_posix(): ast.parse(path.read_text())
    for path in sorted((ROOT / "jal").rglob("*.py"))
}


def is_for_type_checkers(node) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node, *, when_imported: bool = False):
    """Dotted names that a tree imports, of those run on import or of all."""
    if when_imported and (
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or is_for_type_checkers(node)
    ):
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child, when_imported=when_imported)


def packages(tree, **options) -> set[str]:
    return {imported.split(".")[0] for imported in imports(tree, **options)}


def test_optional_libraries_are_imported_where_they_are_used():
    found = {}
    for name, tree in TREES.items():
        allowed = {"typer", "rich"} if name.startswith("cli/") else set()
        used = packages(tree, when_imported=True) & OPTIONAL - allowed
        if used or "tensorflow" in packages(tree):
            found[name] = used
    assert not found


def test_results_do_not_depend_on_the_clock_or_on_hidden_randomness():
    clock = {"time", "datetime", "random", "secrets", "uuid"}
    # Seconds of training are money; dates are read from files.
    allowed = {
        "mcal/_label.py": {"time"},
        "session/_label_studio_answers.py": {"datetime"},
    }
    found = {}
    for name, tree in TREES.items():
        source = (ROOT / "jal" / name).read_text()
        used = packages(tree) & clock - allowed.get(name, set())
        if used or "np.random" in source or "now()" in source:
            found[name] = used
    assert not found


def test_the_scan_sees_nested_and_conditional_imports():
    source = "if A:\n    import a.b\ndef f():\n    from c import d\n"
    source += "if TYPE_CHECKING:\n    import e\nclass C:\n    import g\n"
    assert list(imports(ast.parse(source))) == ["a.b", "c.d", "e", "g"]
    assert list(imports(ast.parse(source), when_imported=True)) == ["a.b", "g"]


def python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("parts", ["", "nn", "loop, strategies, learners, session"])
def test_importing_jal_imports_no_optional_library(parts):
    names = {*OPTIONAL, "flax", "tensorflow", "equinox", "torch"}
    code = f"import sys, jal; {parts and f'from jal import {parts};'}"
    assert python(code + f"print(sorted({names} & set(sys.modules)))") == "[]\n"


def test_importing_initialises_no_backend():
    """Neither does it fail where there is no device, nor does it take one."""
    code = """
import jax, jal, experiments.cost_sensitive.protocol
from jal.nn import small_cnn
try:
    jax.devices()
except RuntimeError:
    print("only now")
"""
    assert python(code, JAX_PLATFORMS="no_such_platform") == "only now\n"


def test_a_part_is_loaded_when_it_is_first_used():
    code = "import sys, jal; print('jal.loop' in sys.modules); jal.loop.run"
    assert python(code + "; print('jal.loop' in sys.modules)") == "False\nTrue\n"
    assert "AttributeError" in python(
        "import jal\ntry:\n  jal.typo\nexcept AttributeError as e:\n  print(repr(e))"
    )


def test_all_parts_are_listed():
    code = "import jal; print(set(jal.__all__) <= set(dir(jal)))\nfrom jal import *"
    assert python(code) == "True\n"
