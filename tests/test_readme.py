"""What the README shows is what runs."""

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parent.parent / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_examples_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    np.save("features.npy", features)
    names = {}
    exec(blocks()[0], names)
    assert capsys.readouterr().out.startswith("[0.")
    (scores,) = [block for block in blocks() if "score_pool" in block]
    exec(scores, names)
    assert capsys.readouterr().out.endswith(" (500,) 0\n")
    (everything,) = [block for block in blocks() if "labelling.label(" in block]
    exec(everything, names)
    assert " of 20.00 USD: " in capsys.readouterr().out
    (few,) = [block for block in blocks() if "linear_svm(" in block]
    exec(few, names)
    assert names["infos"].count.tolist() == [40, 60, 80, 100, 120, 140]


def test_features_of_another_framework(tmp_path, monkeypatch):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    (extract,) = [block for block in blocks() if "timm.create_model" in block]
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
