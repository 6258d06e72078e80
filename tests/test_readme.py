"""What the README shows is what runs."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_examples_run(capsys):
    names = {}
    exec(blocks()[0], names)
    assert capsys.readouterr().out.startswith("[0.")
    (scores,) = [block for block in blocks() if "score_pool" in block]
    exec(scores, names)
    assert capsys.readouterr().out.endswith(" (500,) 0\n")
    (everything,) = [block for block in blocks() if "labelling.label(" in block]
    exec(everything, names)
    assert " of 20.00 USD: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["from_linen", "from_nnx", "from_equinox"])
def test_the_recipes_are_those_that_are_tested(name):
    (recipe,) = [block for block in blocks() if block.startswith(f"def {name}(")]
    assert recipe in (README.parent / "tests" / "test_embeddings.py").read_text()


def test_the_two_commands_stand_at_the_top():
    first = re.search(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == [
        "make demo",
        "make test",
    ]
