"""The model that is shipped answers, also for the real event."""

import csv
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from prediction import Classifier
from tests.conftest import ROOT, run_script
from utils.checkpoints import CheckpointError

CHECKPOINT = ROOT / "docs" / "demo_model" / "classifier.ckpt"


def test_the_demo_model_classifies_a_recorded_earthquake(aknes_event, tmp_path):
    command = ["predict.py", "--ckpt", str(CHECKPOINT), str(aknes_event)]
    run_script(*command, "--out", "events.csv", cwd=tmp_path)  # a folder without configs
    (row,) = csv.DictReader((tmp_path / "events.csv").open())
    assert row["class"] == "Regional" and float(row["confidence"]) > 0.6
    assert CHECKPOINT.stat().st_size < 1.5e6


def test_the_first_command_of_the_readme_works(tmp_path):
    """And its Python, and what docs/example says of the recording."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^python (predict\.py .*rockfall.*)$", readme, re.M)
    for name in ("docs", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    run_script(*line.split(), cwd=tmp_path)
    (row,) = csv.DictReader((tmp_path / "events.csv").open())
    assert row["class"] == "Rockfall" and float(row["confidence"]) > 0.9 and row["review"] == "0"
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 1
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    (tmp_path / "events.csv").unlink()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    (again,) = csv.DictReader((tmp_path / "events.csv").open())
    assert again["class"] == "Rockfall"


def test_a_prediction_imports_nothing_that_only_a_training_needs(aknes_event, tmp_path):
    """They took four of the five seconds of a prediction."""
    program = (
        "import atexit, runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "sys.argv = sys.argv[1:]\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [str(ROOT / "predict.py"), "--ckpt", "demo", str(aknes_event), "--out", "events.csv"]
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stdout.split())
    assert {"torch", "obspy", "prediction.predictor"} <= imported
    slow = {"pytorch_lightning", "torchmetrics", "torchvision", "sklearn", "matplotlib"}
    assert not imported & (slow | {"scipy.signal", "pandas", "tensorboard", "wandb"})


def test_weights_that_are_not_finite_are_refused(tmp_path):
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    checkpoint["state_dict"]["classifier.bias"][2] = torch.nan
    torch.save(checkpoint, tmp_path / "nan.ckpt")
    with pytest.raises(CheckpointError, match="nan.ckpt: 1 of .* not finite .*classifier.bias"):
        Classifier.load(tmp_path / "nan.ckpt")


def test_an_output_that_is_not_finite_is_an_error_and_no_class(monkeypatch):
    classifier = Classifier.load("demo", gpu=None, precision="32-true")
    network = classifier.predictor.model
    monkeypatch.setattr(network, "forward", lambda x: torch.full((len(x), 8), torch.nan))
    (event,) = classifier.classify(np.random.default_rng(0).normal(0, 9, (3, 16000)), 1000)
    assert event.error.startswith("the network's output is not finite") and not event.class_name
    assert event.confidence is None and not classifier.classify([]).to_catalog().events
