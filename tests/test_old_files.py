"""Checkpoints, run folders and archives of earlier versions open, and give the same numbers."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.encoders import build_encoder, load_encoder_weights
from models.event_classifier import EventClassifier
from prediction.classifier import load_classifier
from preprocessing.event_archive import EventArchive
from tests.conftest import ROOT, run_script

OLD = ROOT / "tests" / "data" / "before_rooms"
EXPECTED = json.loads((OLD / "expected.json").read_text())
SETTINGS = {
    "source": "folder",
    "root": "archive",
    "sampling_freq": 100,
    "nperseg": 20,
    "resize_size": 32,
    "num_workers": 0,
    "test_data_ratio": 0.25,
    "train_data_ratio": 0.75,
    "batch_size": 6,
    # at that time the defaults for events of any source
    "pre_trigger_s": 3,
    "amplitude": "counts",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A copy of the old files with whole checkpoints, as a user would have them."""
    place = shutil.copytree(OLD, tmp_path_factory.mktemp("old") / "place")
    for path in place.rglob("*.ckpt"):
        torch.save(fill(torch.load(path, weights_only=True)), path)
    return place


def fill(content, of_weights: bool = False):
    """Expand placeholders to full tensors; weights get reproducible random numbers."""
    if isinstance(content, torch.Tensor):
        if of_weights and content.numel() > 64 and content.ndim > 1:
            n_inputs = content.numel() / len(content)
            noise = np.random.RandomState(content.numel() % 2**31).standard_normal(content.shape)
            return torch.from_numpy(noise * (2 / n_inputs) ** 0.5).to(content.dtype)
        return content.contiguous().clone()
    if isinstance(content, dict):
        weights = ("state_dict", "model_state_dict")
        return type(content)((k, fill(v, of_weights or k in weights)) for k, v in content.items())
    if type(content) in (list, tuple):
        return type(content)(fill(value) for value in content)
    return content


@pytest.mark.parametrize("kind", ["finetune", "original"])
def test_an_old_classifier_gives_the_same_probabilities(place, kind):
    archive = EventArchive(place / "archive")
    archive.verify()
    waveforms = torch.from_numpy(np.stack([archive.waveforms(event) for event in (0, 8, 16)]))
    model, _ = load_classifier(place / f"runs/{kind}/old/checkpoints/last.ckpt")
    prediction = model.predict_events(waveforms)
    found = {
        "probabilities": prediction.log_probs.exp(),
        "logits_of_channels": prediction.sensor_log_probs,
    }
    for name, values in found.items():
        torch.testing.assert_close(values, torch.tensor(EXPECTED[kind][name]), atol=1e-5, rtol=1e-4)


def test_lightning_loads_an_old_classifier_by_itself(place):
    path = place / "runs/finetune/old/checkpoints/last.ckpt"
    model = EventClassifier.load_from_checkpoint(path, weights_only=True)
    assert model.class_names == ("high", "low", "twice") and model.calibrations


def test_an_old_encoder_file_gives_the_same_representation(place):
    encoder = build_encoder("CompactEncoder").eval()
    load_encoder_weights(encoder, place / "runs/ssl/old/checkpoints/encoder-ep_2.ckpt")
    image = torch.linspace(0, 1, 41 * 60).reshape(1, 1, 41, 60)
    with torch.no_grad():
        found = encoder(image)[0, :8]
    expected = torch.tensor(EXPECTED["ssl"]["representation"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_old_run_goes_on_and_ends_with_the_same_metrics(place):
    overrides = [f"dataset.{key}={value}" for key, value in SETTINGS.items()]
    overrides += ["trainer_params.max_epochs=4", "exp_params.model_save_ep_period=2"]
    run_script(
        "finetune.py",
        "--config_ft",
        str(ROOT / "configs/finetune.yaml"),
        "--resume",
        "runs/finetune/stopped",
        "run_name=stopped",
        "load_encoder.backbone_type=CompactEncoder",
        *overrides,
        cwd=place,
    )
    found = list(csv.DictReader((place / "runs/finetune/stopped/metrics.csv").open()))
    expected = list(csv.DictReader(EXPECTED["metrics_csv_after_resuming"].splitlines()))
    assert len(found) == len(expected) == 4
    for row, old in zip(found, expected):
        assert float(row["val/loss"]) > 0  # now of all channels, at that time of one
        for name, value in old.items():
            if name.startswith("val/"):
                continue
            assert float(row[name]) == pytest.approx(float(value), abs=2e-3), (row["epoch"], name)
