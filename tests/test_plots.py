"""Figures are written whole or not at all."""

import pytest

from jal import plots

matplotlib_figure = pytest.importorskip("matplotlib.figure")


def make():
    figure = matplotlib_figure.Figure()
    figure.add_subplot().plot([0, 1])
    return figure


def test_save_writes_a_png_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "curve.png"
    plots.save(make(), path)
    plots.save(make(), str(path))
    assert [file.name for file in path.parent.iterdir()] == ["curve.png"]
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_save_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")
    figure = make()

    def break_off(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", break_off)
    with pytest.raises(OSError, match="disk full"):
        plots.save(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_writes_png_only(tmp_path):
    with pytest.raises(ValueError, match=r"curve\.pdf' must end in \.png"):
        plots.save(make(), tmp_path / "curve.pdf")
