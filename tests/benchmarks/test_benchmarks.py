"""The benchmark commands run at tiny sizes; the measured numbers are not checked."""

import os
import subprocess
import sys

import pytest

from benchmarks import speed
from tests.conftest import ROOT

# packages that a GPU machine may lack
WITHOUT = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("obspy", "wandb", "pydantic", "pooch"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["gpu", "--small", "--out", sys.argv[1]]
runpy.run_module("benchmarks.gpu", run_name="__main__")
"""


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_gpu_experiment_needs_no_optional_package(tmp_path):
    run("-c", WITHOUT, str(tmp_path / "gpu.md"))
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert [line.split(",")[0].strip("| ") for line in lines[4:]][1:4:2] == [
        "pretraining",
        "fine-tuning",
    ]
    assert all(" s |" in line or "no GPU" in line for line in lines[4:])


@pytest.mark.slow
def test_every_row_of_the_speed_table(tmp_path):
    printed = run("-m", "benchmarks.speed", "--small", "--all", "--out", str(tmp_path / "speed.md"))
    assert "Measuring packing" in printed and " s] packing " in printed
    table = (tmp_path / "speed.md").read_text()
    for what in (
        "SSL input, preload: ram",
        "supervised input",
        "SSL step",
        "supervised step",
        "ensemble evaluation",
        "native 41 x 228",
        "packing",
        "memory of a training",
        "supervised step, CompactEncoder",
        "ensemble evaluation, CompactEncoder",
        "a day of 24 channels",
        "one file through predict.py",
    ):
        assert what in table


def test_a_row_that_does_not_exist_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["speed", "--rows", "sped"])
    with pytest.raises(SystemExit, match="2"):
        speed.main()
    message = capsys.readouterr().err
    assert "invalid choice" in message and "supervised_step" in message
