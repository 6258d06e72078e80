"""The command line that the experiments share: options, defaults, mistakes."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from experiments.common import paired, runs
from experiments.common.options import Option, Program, changed, names

FOLDERS = sorted(
    path.parent.name for path in Path(runs.__file__).parents[1].glob("*/__main__.py")
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Of the program below."""

    steps: int = 3
    data: str = "digits"
    width: int = 8


@pytest.fixture
def program():
    made = Program("toy", "A toy.")

    @made.command(
        place=Option(Path, "Where."),
        seeds=5,
        out="outputs/toy",
        steps=Option(100, "Of training, at 90 %.", 1),
        k=Option(2, "Items."),
        full=Option(False, "All of it."),
        beta=Option(0.5, "Exponent."),
    )
    def show(options):
        """Shows what it was told.

        Example: python -m experiments.toy show .
        """
        if options.beta > 1:
            raise ValueError(f"beta = {options.beta}; at most 1")
        print(sorted(vars(options).items(), key=str))
        print(changed(Config(), options, data="mnist"))

    return made


def test_options_have_types_and_defaults(program, invoke):
    ended = invoke(program, "show", "here", "-k", 7, "--seeds", 2, "--full")
    assert ended.status == 0
    for text in (
        "('place', PosixPath('here'))",
        "('out', PosixPath('outputs/toy'))",
        "('k', 7)",
        "('seeds', 2)",
        "('full', True)",
        "('beta', 0.5)",
        "('data_dir', None)",
        "python -m experiments.toy show here -k 7 --seeds 2 --full",
        "Config(steps=100, data='mnist', width=8)",
    ):
        assert text in ended.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "required: place"),
        (["show", ".", "--steps", "0"], "0 is not 1 or more"),
        (["show", ".", "--steps", "x"], "invalid int value: 'x'"),
        (["show", ".", "--beta", "2"], "error: beta = 2.0; at most 1"),
        (["other"], "invalid choice: 'other'"),
    ],
)
def test_mistakes_end_with_status_2(program, invoke, arguments, message):
    ended = invoke(program, *arguments)
    assert ended.status == 2 and message in ended.output


def test_help_shows_defaults(program, invoke):
    shown = invoke(program, "show", "--help")
    text = " ".join(shown.output.split())
    assert shown.status == 0 and "Of training, at 90 %. (default: 100)" in text
    assert "Example: python -m experiments.toy show ." in text
    assert "None" not in text and "False" not in text
    assert "Shows what it was told." in invoke(program).output


def test_names_are_known_and_different():
    assert names("b, a", ["a", "b"], "methods") == ["b", "a"]
    assert names("all", ["a", "b"], "methods") == ["a", "b"]
    with pytest.raises(ValueError, match="methods 'c': there is no 'c'; allowed are a"):
        names("c", ["a", "b"], "methods")
    with pytest.raises(ValueError, match="each only once"):
        names("a,a", ["a", "b"], "methods")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_commands_with_help(folder, invoke):
    program = importlib.import_module(f"experiments.{folder}.__main__").program
    assert program.name == f"python -m experiments.{folder}"
    for command in program.commands.choices:
        shown = invoke(program, command, "--help")
        assert shown.status == 0
        example = f"Example: {program.name} {command}"
        assert example in shown.output or command == "worker"


def test_results_are_read_with_their_protocol(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"config": {"steps": 4}, "records": [{"seed": 0}]}')
    config, records = runs.read_results(path, "toy show", Config)
    assert config == Config(steps=4) and records == [{"seed": 0}]
    assert runs.read_results(path, "toy show") == (None, records)
    for text in ("{", "[]", '{"records": []}', '{"records": [1], "config": {"x": 1}}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a results file of toy show"):
            runs.read_results(path, "toy show", Config)


def test_comparisons_are_by_seed():
    records = [
        {"arm": arm, "seed": seed, "value": seed + lead}
        for arm, lead in (("a", 0.0), ("b", 2.0))
        for seed in range(3)
    ]
    arms = paired.by_arm([*records, {"arm": "a", "seed": 9, "value": None}])
    assert paired.mean_of(arms["a"], "value")["n"] == 3
    gap = paired.gap(arms["b"], arms["a"], "value")
    assert gap["mean"] == 2 and gap["interval"] == [2, 2]
    with pytest.raises(ValueError, match="'a', seed 0 occurs twice"):
        paired.by_arm([records[0], records[0]])
    assert paired.page("One.", [], ["| a |", "| b |"], "") == "One.\n\n| a |\n| b |"


@pytest.mark.parametrize(
    ("target", "options", "paid"),
    [
        (0.5, {}, 20),
        (0.5, {"interpolate": True}, 15),
        (0.6 + 1e-7, {}, None),
        (0.6 + 1e-7, {"tolerance": 1e-6}, 20),
        (0.3, {"interpolate": True}, 10),
    ],
)
def test_the_first_round_to_reach_an_accuracy(target, options, paid):
    found = paired.first_reach([0.4, 0.6, 0.2], [10, 20, 30], target, **options)
    assert found == (None if paid is None else pytest.approx(paid))
