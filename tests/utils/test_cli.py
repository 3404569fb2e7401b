import sys

import pytest

from tests.conftest import ROOT, run_script
from utils.cli import parse_arguments


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
