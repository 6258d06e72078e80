"""A house people can live in: few folders, small files, functions that fit a screen."""

from pathlib import Path

from tests.house import code_lines, count, functions

# What may be longer, and why.
EXCEPTIONS = {
    "jal/selection/_diversity.py:_k_center": "one loop over the distances, bounds and "
    "centres that it sets up; apart, each piece would take most of them as arguments",
}
ROOT = Path(__file__).parent.parent
JAL = ROOT / "jal"


def folders():
    inside = [path for path in JAL.rglob("*") if path.is_dir()]
    return [path for path in inside if path.name != "__pycache__"]


def test_what_is_a_line_of_code():
    source = (
        '"""Doc."""\n\n# why\nx = """a\nb"""  # c\n\ndef f():\n    """D."""\n    y\n'
    )
    assert code_lines(source) == {4, 5, 7, 9}
    assert list(functions(source)) == [("f", 2)]


def test_the_top_can_be_seen_at_a_glance():
    assert len([path for path in folders() if path.parent == JAL]) <= 12
    assert len([path for path in JAL.iterdir() if path.is_file()]) <= 10


def test_folders_are_not_crowded():
    for folder in folders():
        files = [path for path in folder.iterdir() if path.is_file()]
        assert len(files) <= (20 if folder.name == "cli" else 14), folder


def test_files_hold_one_idea():
    large = {path: n for root in ("jal",) for path, n in count(ROOT / root).items()}
    assert not {path: n for path, n in large.items() if n > 350}


def test_functions_fit_a_screen():
    long = {
        f"{path.relative_to(ROOT)}:{name}": lines
        for path in JAL.rglob("*.py")
        for name, lines in functions(path.read_text())
        if lines > 60
    }
    assert long.keys() == EXCEPTIONS.keys()
