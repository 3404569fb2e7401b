import json

import numpy as np

from tests.conftest import ROOT
from training import feature_forest


def test_the_forest_classifies_the_test_events_of_the_classifier(separable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "feature_forest",
        "--config_ft",
        f"{ROOT}/configs/finetune.yaml",
        "dataset.source=folder",
        f"dataset.root={separable}",
        "dataset.sampling_freq=100",
        "dataset.batch_size=16",
        "dataset.train_data_ratio=0.75",
        "dataset.test_data_ratio=0.25",
        "run_name=f",
    ]
    monkeypatch.setattr("sys.argv", arguments)
    feature_forest.train_forest()
    folder = tmp_path / "runs" / "features" / "f"
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]["ensemble"]
    assert metrics["n_events"] == 18 and metrics["accuracy"] > 0.8
    with np.load(folder / "predictions.npz") as file:
        assert file["logits"].shape == (18, 1, 3)
        np.testing.assert_allclose(np.exp(file["logits"]).sum(-1), 1, rtol=1e-5)
        accuracy = (file["logits"][:, 0].argmax(1) == file["labels"]).mean()
    assert accuracy == metrics["accuracy"]
