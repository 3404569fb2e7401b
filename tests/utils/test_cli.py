import sys

import pytest
import torch

from tests.conftest import ROOT, run_script
from utils.cli import main, parse_arguments


@pytest.mark.parametrize(
    "words",
    [
        "a=1 b=2 --config c.yaml --resume runs/x",
        "a=1 --resume runs/x b=2 --config c.yaml",
        "--config c.yaml a=1 --resume runs/x b=2",
        "--resume runs/x --config c.yaml a=1 b=2",
    ],
)
def test_overrides_may_stand_anywhere(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["finetune.py", *words.split()])
    found = parse_arguments("", "--config", "default.yaml")
    assert vars(found) == {"config": "c.yaml", "resume": "runs/x", "overrides": ["a=1", "b=2"]}


def test_nothing_needs_to_be_said(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reproduce.py"])
    found = parse_arguments("", "--config", "default.yaml", resumable=False)
    assert vars(found) == {"config": "default.yaml", "overrides": []}


def test_a_command_takes_overrides_around_its_flags(tmp_path):
    config = str(ROOT / "configs" / "finetune.yaml")
    words = ["seed=1", "--resume", "nowhere", "run_name=a", "--config_ft", config, "seed=2"]
    output = run_script("finetune.py", *words, cwd=tmp_path, status=2)
    assert "nowhere" in output and "usage" not in output


def test_a_full_gpu_is_a_message_and_not_a_traceback(capsys):
    def run():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(SystemExit) as stopped:
        main(run)
    assert stopped.value.code == 2
    assert "dataset.batch_size" in capsys.readouterr().err


def test_other_runtime_errors_keep_their_traceback():
    def run():
        raise RuntimeError("a mistake in the program")

    with pytest.raises(RuntimeError, match="a mistake"):
        main(run)
