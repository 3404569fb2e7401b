import sys

import pytest

from prediction.arguments import parse
from utils.errors import UserError


def parsed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["predict.py", "--ckpt", "last.ckpt", *words])
    return parse("")


def test_recordings_and_overrides_may_stand_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mseed", "day=34.mseed", "b"):
        (tmp_path / name).touch()
    words = ["a.mseed", "gpu=null", "--out", "o.csv", "day=34.mseed", "--strict", "chunk_s=60", "b"]
    found = parsed(monkeypatch, *words)
    assert [str(file) for file in found.files] == found.recordings
    assert found.recordings == ["a.mseed", "day=34.mseed", "b"]
    assert found.overrides == ["gpu=null", "chunk_s=60"]
    assert found.strict and not found.resume and str(found.out) == "o.csv"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.mseed", "--out", "o.csv"], "nowhere.mseed: no such file or folder"),
        (["a.mseed", "--out", "old.csv"], "old.csv: exists; choose another name"),
        (["--sds", "nowhere", "--streams", "*.*..*", "--out", "o.csv"], "nowhere: no such folder"),
        (["a.mseed", "--out", "."], "is a folder; give the name of a file"),
    ],
)
def test_paths_are_checked_before_the_model_is_loaded(monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.mseed", "old.csv"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=message):
        parsed(monkeypatch, *words)


@pytest.mark.parametrize("words", [["a.mseed"], ["--out", "o.csv"], ["--out", "o.csv", "gpu=null"]])
def test_recordings_and_a_table_are_needed(monkeypatch, capsys, words):
    with pytest.raises(SystemExit, match="2"):
        parsed(monkeypatch, *words)
    assert "recordings and --out FILE are needed" in capsys.readouterr().err
    assert str(parsed(monkeypatch, *words, "--export", "m.onnx").export) == "m.onnx"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--continuous", "--tune", "--quakeml", "e.xml"], "leave out --quakeml"),
        (["a", "--continuous", "--tune", "--per-sensor"], "leave out --per-sensor"),
        (["a", "--continuous", "--tune", "--annotate", "a.mseed"], "leave out --annotate"),
        (["a", "--continuous", "--tune", "--format", "json"], "leave out --format"),
        (
            ["--sds", "s", "--streams", "*", "--follow", "--strict"],
            "--strict goes without --follow",
        ),
    ],
)
def test_flags_without_effect_are_refused(monkeypatch, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        parsed(monkeypatch, *words, "--out", "o.csv")
    assert message in capsys.readouterr().err
