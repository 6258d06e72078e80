"""What `pip install jal` brings: the package, its types, its command; no more."""

import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import pytest

import jal

ROOT = Path(__file__).parent.parent
INFO = f"jal-{jal.__version__}.dist-info"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the source distribution, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist"]
    subprocess.run(
        [*build, "--outdir", folder, ROOT],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_every_module_and_template_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if not name.startswith(f"{INFO}/")}
    files = [path for path in (ROOT / "jal").rglob("*") if path.is_file()]
    wanted = {
        path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"
    }
    assert names == wanted
    assert "jal/session/templates/report.html.j2" in names
    assert wheel.read("jal/py.typed") == b""


def test_the_wheel_is_small(wheel):
    assert sum(info.compress_size for info in wheel.infolist()) < 500_000


def test_the_command_and_what_it_needs(wheel):
    entry_points = wheel.read(f"{INFO}/entry_points.txt").decode()
    assert "[console_scripts]\njal = jal.cli:main" in entry_points
    about = HeaderParser().parsestr(wheel.read(f"{INFO}/METADATA").decode())
    assert about["Version"] == jal.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert f"{INFO}/licenses/LICENSE" in wheel.namelist()
    needed = about.get_all("Requires-Dist") or []
    always = {text.split(">")[0] for text in needed if "extra ==" not in text}
    assert always == {"chex", "flax", "jax", "numpy", "optax"}
    assert any(text.startswith("typer") and "cli" in text for text in needed)
    assert any(text.startswith("jinja2") and "label" in text for text in needed)


def test_the_source_distribution_can_be_tested(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {PurePosixPath(*PurePosixPath(n).parts[1:]) for n in archive.getnames()}
    for name in (
        "jal/py.typed",
        "jal/session/templates/report.css",
        "tests/test_package.py",
        "Makefile",
        "CONTRIBUTING.md",
    ):
        assert PurePosixPath(name) in names
    for folder in ("outputs", ".venv", ".ci"):
        assert not any(name.parts[:1] == (folder,) for name in names)
