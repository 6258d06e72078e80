"""Files: JSON that is whole or not there, identities of runs, progress bars."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jal._core import files
from jal.types import Outputs


def test_as_json():
    info = Outputs(logits=jnp.array([[1.5, jnp.inf]]), value=np.float32(-np.inf))
    content = {"a": (1, info), 2: [True, None, np.int32(3), "x", float("nan")]}
    assert files.as_json(content) == {
        "a": [
            1,
            {
                "logits": [[1.5, None]],
                "features": None,
                "loss_score": None,
                "value": None,
                "member_logits": None,
            },
        ],
        "2": [True, None, 3, "x", None],
    }


def test_write_json_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": np.nan})
    assert path.read_text() == '{"a": null}\n'
    with pytest.raises(TypeError):
        files.write_json(path, {"b": 1, "c": object()})
    assert json.loads(path.read_text()) == {"a": None}
    files.write_json(path, [])
    assert json.loads(path.read_text()) == []
