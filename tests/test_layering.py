"""Who imports whom: a module sees lower floors only, and few see other libraries."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [
    {
        "types",
        "convolution",
        "masked_dense",
        "normalization",
        "numerics",
        "files",
        "_tables",
        "augmentation",
    },
    {"_distances"},
    {"batchbald", "diversity", "typicality"},
    {
        "predictive",
        "acquisition",
        "selection",
        "cost",
        "losses",
        "pool",
        "sources",
        "score_files",
        "ranking",
        "error_laws",
        "training_price",
        "journal",
        "annotations",
        "_label_studio_answers",
        "label_studio",
        "votes",
        "label_store",
        "_checkpoints",
    },
    {"linear"},
    {"learners", "networks", "scoring"},
    {"strategies", "vaal", "min_cost", "plots"},
    {"status"},
    {
        "_session_round",
        "session",
        "loop",
        "driver",
        "campaign",
        "labelling",
        "cost_plots",
        "_report_words",
        "_report_style",
        "_report_pictures",
        "html_report",
    },
    {"_cli_output"},
    {
        "_cli_hosts",
        "_cli_score",
        "_cli_select",
    },
    {"_cli_pool"},
    {"_cli_items"},
    {"_cli_status"},
    {"_cli_session"},
    {
        "_cli_label",
        "_cli_plan",
    },  # of the command line alone
    {"cli", "__main__"},
    {"__init__"},  # makes the modules reachable as attributes
]
SAME_FLOOR = {
    ("driver", "loop"),
    ("labelling", "campaign"),
    ("__main__", "cli"),
    ("_label_studio_answers", "annotations"),
    ("label_studio", "_label_studio_answers"),
    ("label_studio", "annotations"),
    ("votes", "annotations"),
    ("label_store", "annotations"),
    ("label_store", "votes"),
    ("session", "loop"),
    *(("html_report", f"_report_{part}") for part in ("words", "style", "pictures")),
    ("_report_pictures", "_report_words"),
    ("session", "_session_round"),
    ("_session_round", "loop"),
}
OPTIONAL = {
    "PIL",
    "matplotlib",
    "orbax",
    "scipy",
    "sklearn",
    "tensorflow_datasets",
    "tqdm",
    "typer",
}
MODULES = {path.stem: path for path in sorted((ROOT / "jal").glob("*.py"))}
every_module = pytest.mark.parametrize("name", MODULES)


def floor(name: str) -> int:
    (number,) = (i for i, names in enumerate(FLOORS) if name in names)
    return number


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


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def packages(name: str, **options) -> set[str]:
    return {imported.split(".")[0] for imported in imports(tree(name), **options)}


def test_every_module_has_a_floor():
    assert set(MODULES) <= set.union(*FLOORS)
    assert sum(map(len, FLOORS)) == len(set.union(*FLOORS))
    assert not [p for p in (ROOT / "jal").rglob("*.py") if p.parent.name != "jal"]


@every_module
def test_a_module_imports_lower_floors_only(name):
    own = [i.split(".") for i in imports(tree(name)) if i.split(".")[0] == "jal"]
    for imported in own:
        assert len(imported) > 1, "modules are imported by name"
        other = imported[1]
        assert floor(other) < floor(name) or (name, other) in SAME_FLOOR, imported


@every_module
def test_only_networks_imports_flax(name):
    assert ("flax" in packages(name)) == (name == "networks")


@every_module
def test_optional_libraries_are_imported_where_they_are_used(name):
    allowed = {"typer"} if "cli" in name else set()
    assert packages(name, when_imported=True) & OPTIONAL <= allowed
    assert "tensorflow" not in packages(name)


@every_module
def test_results_do_not_depend_on_the_clock_or_on_hidden_randomness(name):
    clock = {"time", "datetime", "random", "secrets", "uuid"}
    # Seconds of training are money; dates are read from files.
    allowed = {"labelling": {"time"}, "_label_studio_answers": {"datetime"}}
    assert packages(name) & clock <= allowed.get(name, set())
    source = MODULES[name].read_text()
    assert "np.random" not in source and "now()" not in source


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


def test_importing_jal_imports_no_optional_library():
    names = {*OPTIONAL, "flax", "tensorflow", "equinox", "torch"}
    code = f"import sys, jal; print(sorted({names} & set(sys.modules)))"
    assert python(code) == "[]\n"


def test_importing_initialises_no_backend():
    """Neither does it fail where there is no device, nor does it take one."""
    code = """
import jax, jal, jal.networks, experiments.cost_sensitive
try:
    jax.devices()
except RuntimeError:
    print("only now")
"""
    assert python(code, JAX_PLATFORMS="no_such_platform") == "only now\n"
