"""What the README shows is what runs, and what it points to is there."""

import re
from pathlib import Path

import numpy as np
import pytest

import jal

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
GUIDES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "experiments" / "README.md",
]


def blocks(path=README):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def block(content):
    (found,) = [block for block in blocks() if content in block]
    return found


def test_the_examples_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    np.save("features.npy", features)
    names = {}
    exec(blocks()[0], names)
    assert capsys.readouterr().out.startswith("[0.")
    exec(block("score_pool"), names)
    assert capsys.readouterr().out.endswith(" (500,) 0\n")
    exec(block("result = label("), names)
    assert " of 20.00 USD: " in capsys.readouterr().out
    exec(block("linear_svm("), names)
    assert names["infos"].count.tolist() == [40, 60, 80, 100, 120, 140]


def test_features_of_another_framework(tmp_path, monkeypatch):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    extract = block("timm.create_model")
    assert extract.count("\n") == 5
    monkeypatch.chdir(tmp_path)
    images = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    dataset = torch.utils.data.TensorDataset(images, torch.zeros(5))
    # No weights can be fetched here: those of the initialisation will do.
    exec(
        extract.replace("pretrained=True", "pretrained=False"),
        dict(timm=timm, torch=torch, np=np, dataset=dataset),
    )
    features = np.load("features.npy")
    assert features.shape == (5, 512) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "guide"),
    [
        ("from_linen", "README.md"),
        ("from_nnx", "CONTRIBUTING.md"),
        ("from_equinox", "CONTRIBUTING.md"),
    ],
)
def test_the_recipes_are_those_that_are_tested(name, guide):
    found = [b for b in blocks(ROOT / guide) if b.startswith(f"def {name}(")]
    (recipe,) = found
    assert recipe in (ROOT / "tests" / "test_embeddings.py").read_text()


def test_the_two_commands_stand_at_the_top():
    first = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == [
        "make demo",
        "make test",
    ]


def test_it_can_be_read_to_the_end():
    assert len(README.read_text().splitlines()) < 250


def anchor(title):
    """What GitHub makes of a title in a link."""
    return re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_pictures_exist(guide):
    text = re.sub(r"```.*?```", "", guide.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links or guide.parent.name == "benchmarks" or guide.stem == "CONTRIBUTING"
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, title = link.partition("#")
        path = guide.parent / name if name else guide
        assert path.exists(), link
        if title:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            assert title in map(anchor, titles), link


def test_what_the_tables_name_exists():
    text = README.read_text()

    def first_cells(header):
        table = text.partition(f"\n| {header}")[2].partition("\n\n")[0]
        return " ".join(row.split("|")[1] for row in table.splitlines()[2:])

    cells = first_cells("strategy | needs")
    called = re.findall(r"`(?:strategies\.)?(\w+)\(", cells)
    assert {"random", "from_scores", "k_center", "ta_vaal"} <= set(called)
    for name in called:
        assert hasattr(jal.strategies, name), name
    for name in re.findall(r"acquisition\.(\w+)", cells):
        assert hasattr(jal.acquisition, name), name


def test_the_tree_is_that_of_the_package():
    tree = README.read_text().partition("```\njal/\n")[2].partition("```")[0]
    named = set(re.findall(r"^  (\w+(?:\.py|/))", tree, re.M))
    there = {
        path.name + "/" * path.is_dir()
        for path in (ROOT / "jal").iterdir()
        if not path.name.startswith("_") and path.name != "py.typed"
    }
    assert named == there
