"""The short scripts run, and show what they say they show."""

import re
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "experiments" / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def printed(name, capsys) -> list[str]:
    runpy.run_module(f"experiments.examples.{name}", run_name="__main__")
    return capsys.readouterr().out.splitlines()


def numbers(line) -> list[float]:
    return [float(text.replace(",", "")) for text in re.findall(r"[\d,]*\.?\d+", line)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_they_are_short_and_in_cells(name):
    lines = (FOLDER / f"{name}.py").read_text().splitlines()
    assert len(lines) < 70
    cells = [line for line in lines if line.startswith("# %%")]
    assert len(cells) >= 3 and all(line.endswith((".", "?")) for line in cells)


def test_score_a_pool(capsys):
    highest, lowest, everything = printed("score_a_pool", capsys)
    wrong = [numbers(line)[-1] for line in (highest, lowest, everything)]
    # Three times as often as on average where the score is high, hardly ever where low.
    assert wrong[0] > 3 * wrong[2] > 3 * wrong[1]


def test_bald_in_nnx(capsys):
    lines = [re.findall(r"[\w.]+", line) for line in printed("bald_in_nnx", capsys)]
    right = {(name, int(labels)): float(share) for name, labels, _, share, _ in lines}
    last = max(labels for _, labels in right)
    assert right["BALD", 20] == right["random", 20] < right["BALD", last]
    assert right["BALD", last] > right["random", last]


def test_plan_a_budget(capsys):
    costs = []
    for line in printed("plan_a_budget", capsys):
        limit, trained, machine, cost, alone, wrong = numbers(line)
        assert trained + machine + 400 <= 70_000 and alone == 2800
        assert (70_000 - machine) * 0.04 <= cost < alone
        # A plan of three small sizes is an estimate.
        assert 0 < wrong < 1.5 * limit
        costs.append(cost)
    stricter, looser = costs
    assert looser < stricter
