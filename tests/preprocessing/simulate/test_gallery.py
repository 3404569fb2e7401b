"""The figure of simulated events, from the command line."""

import pytest

from preprocessing.simulate import __main__ as command
from preprocessing.simulate import gallery as simulate_gallery
from tests.conftest import AKNES_EVENT


def test_gallery_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate_gallery, "SOURCES", ("Spike", "Regional"))
    real = ["--real", str(AKNES_EVENT)] if AKNES_EVENT.is_file() else []
    command.main(["--gallery", str(tmp_path / "gallery.png"), *real])
    assert (tmp_path / "gallery.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "arguments", [["--gallery", "g.xyz"], ["--gallery", "g.png", "--seed", "-1"]]
)
def test_wrong_gallery_arguments_end_in_one_line_and_status_2(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert capsys.readouterr().err.count("\n") == 1 and list(tmp_path.iterdir()) == []


def test_a_recording_that_is_not_there_is_named(tmp_path, capsys):
    arguments = ["--gallery", str(tmp_path / "g.png"), "--real", str(tmp_path / "none.dat")]
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    message = capsys.readouterr().err
    assert "none.dat" in message and message.count("\n") == 1
