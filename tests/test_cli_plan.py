"""`jal plan`: the plan in words, the table, the plot, and what it refuses."""

import inspect
import json
import re
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from experiments.min_cost import worlds
from jal.cli import _app, _plan
from jal.mcal import THETAS

pytest.importorskip("matplotlib")
HEAD = "size,theta,tested,errors\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*options, code=0, errors="profile.csv"):
    arguments = ["plan", "--pool", 60_000, "--price", 0.04, "--errors", errors]
    result = CliRunner().invoke(_app.app, list(map(str, [*arguments, *options])))
    assert result.exit_code == code, result.output
    return result


def error(*options, **more):
    result = plan(*options, code=2, **more)
    assert result.stdout == "" and result.stderr.count("\n") == 1
    return result.stderr


def profile(sizes=(600, 1200, 1800, 2400), tested=3_000_000):
    """The synthetic world, measured on so many items that nothing is left to luck."""
    rates = worlds.errors(worlds.World(6, 0.05, 0.35, 60_000), sizes)
    rows = []
    for size, row in zip(sizes, rates, strict=True):
        for theta, rate in zip(THETAS, row, strict=True):
            rows.append(f"{size},{theta},{tested},{round(tested * rate)}")
    with open("profile.csv", "w") as file:
        file.write(HEAD + "\n".join(rows) + "\n\n")


def test_the_plan_of_the_synthetic_world(folder):
    profile()
    result = plan("--training-price", 0.0003, "--test-size", 3000)
    assert result.stdout.startswith("Train on 10,200 labels (7,800 more than now).")
    assert "then labels 42,000 of the 60,000 items, people the other 18,000" in (
        result.stdout
    )
    assert "make 747.54 USD, 68.9% less than 2,400.00 USD" in result.stdout
    cheapest = re.search(
        r"^ *(\S+) +70.0% +720.00 +27.54 +747.54  <- ", result.stdout, re.M
    )
    assert cheapest[1] == "10,200"
    assert "wrote plan.png" in result.stdout
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")
    again = plan("--training-price", 0.0003, "--test-size", 3000, "--out", "b.png")
    assert (folder / "b.png").exists()
    assert again.stdout.replace("b.png", "plan.png") == result.stdout


def test_the_plan_for_machines():
    profile()
    text = plan("--training-price", 0.0003, "--test-size", 3000).stdout
    found = json.loads(
        plan("--training-price", 0.0003, "--test-size", 3000, "--json").stdout
    )
    assert f"Train on {found['train_on']:,} labels" in text
    assert f"labels {found['by_model']:,} of the 60,000" in text
    assert f"make {found['cost']:,.2f} USD" in text
    assert found["by_model"] + found["by_people"] == 60_000
    assert found["people_alone"] == 2400 and found["plot"] == "plan.png"


def test_other_terms_change_the_plan():
    profile()
    options = ["--training-price", 0.0003, "--test-size", 3000]
    assert "Train on 13,200 labels" in plan(*options, "--constraint", "set").stdout
    totals = set()
    for more in (
        (),
        ("--confidence", 1.645),
        ("--theta-base", "remaining"),
        ("--max-error", 0.02),
        ("--batch", 6000),
        ("--plain",),
    ):
        totals.add(re.search(r"make (\S+) USD", plan(*options, *more).stdout)[1])
    assert len(totals) == 6


def test_hopeless_errors_leave_everything_to_people():
    with open("profile.csv", "w") as file:
        file.write(HEAD + "".join(f"{b},0.5,1000,999\n" for b in (600, 1200, 1800)))
    assert plan().stdout.startswith("People label all 60,000 items, for 2,400.00 USD")


def test_notes():
    profile(sizes=(600,), tested=3000)
    result = plan()
    assert "1 training size measured; a law needs three" in result.stdout
    assert "training costs nothing here" in result.stdout


def test_the_example_of_the_help_runs():
    text = inspect.getdoc(_plan.plan)
    rows = re.findall(r"^ +(\d+,[\d.]+,\d+,\d+)$", text, re.M)
    assert len(rows) == 6
    with open("profile.csv", "w") as file:
        file.write(HEAD + "\n".join(rows) + "\n")
    command = re.search(r"jal (plan .*?)\n\n|jal (plan .*)", text + "\n\n", re.S)[1]
    arguments = shlex.split(command.replace("\\\n", " "))
    result = CliRunner().invoke(_app.app, arguments)
    assert result.exit_code == 0, result.output
    assert "the model then labels" in result.stdout.replace("\n", " ").lower()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must be size,theta,tested,errors"),
        ("a,b\n1,2\n", "the first line must be"),
        (HEAD, "has no line but the first"),
        (HEAD + "600,0.5,100\n", "line 2: .* expected four numbers"),
        (HEAD + "600,0.5,100,x\n", "line 2: .* expected four numbers"),
        (HEAD + "600,nan,100,3\n", "line 2: .* a share above 0"),
        (HEAD + "600,1.5,100,3\n", "line 2: .* a share above 0"),
        (HEAD + "0,0.5,100,3\n", "a size is at least 1"),
        (HEAD + "600,0.5,100,101\n", "at most as many errors"),
        (HEAD + "600,0.5,100,-1\n", "at most as many errors"),
        (HEAD + "600,0.5,100,3\n600,0.5,100,4\n", "line 3: .* for the second time"),
    ],
)
def test_profiles_that_are_none(text, message):
    with open("profile.csv", "w") as file:
        file.write(text)
    assert re.search(message, error())


def test_options_out_of_range(folder):
    profile()
    assert "missing.csv" in error(errors="missing.csv")
    assert "price=-1" in error("--price", -1)
    assert "max_error=2" in error("--max-error", 2)
    assert "constraint='all'" in error("--constraint", "all")
    assert "theta_base='x'" in error("--theta-base", "x")
    assert "must end in .png" in error("--out", "plan.pdf")
    assert "--training-price -1" in error("--training-price", -1, "--test-size", 3000)
    assert "num_test + first_batch" in error()  # three million tested of 60,000
    assert "more than that" in error("--test-size", 59_000, "--batch", 10)
    assert not list(folder.glob("*.png"))
    (folder / "binary.csv").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    assert "binary.csv" in error(errors="binary.csv")
