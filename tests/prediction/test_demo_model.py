"""The model that is shipped answers, also for the real event."""

import csv

from tests.conftest import ROOT, run_script

CHECKPOINT = ROOT / "docs" / "demo_model" / "classifier.ckpt"


def test_the_demo_model_classifies_a_recorded_earthquake(aknes_event, tmp_path):
    command = ["predict.py", "--ckpt", str(CHECKPOINT), str(aknes_event)]
    run_script(*command, "--out", "events.csv", cwd=tmp_path)  # a folder without configs
    (row,) = csv.DictReader((tmp_path / "events.csv").open())
    assert row["class"] == "Regional" and float(row["confidence"]) > 0.6
    assert CHECKPOINT.stat().st_size < 1.5e6
