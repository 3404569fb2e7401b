"""The recipe for few labels as commands: pretrain on whole events, fit a linear head."""

import csv
import json

import numpy as np
import pytest
import torch
import yaml

from models.event_classifier import EventClassifier
from models.linear_head import UNLEARNED_LOGIT
from tests.conftest import ROOT, run_script
from training.runs import require_same_config
from utils.config import load_config
from utils.schema import FinetuneConfig

DATA = [
    "dataset.source=folder",
    "dataset.sampling_freq=100",
    "dataset.nperseg=20",
    "dataset.test_data_ratio=0.25",
    "dataset.train_data_ratio=0.75",
]
N_TEST, CHANCE = 18, 1 / 3


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("few_labels")


@pytest.fixture(scope="module")
def pretrained(place, separable):
    run_script(
        "sslearn.py",
        "--config_ssl",
        f"{ROOT}/configs/few_labels_ssl.yaml",
        *DATA,
        f"dataset.root={separable}",
        "dataset.batch_size=32",
        "model_params.proj_out=16",
        "trainer_params.max_epochs=10",
        "exp_params.model_save_ep_period=10",
        cwd=place,
    )
    return place / "runs" / "ssl" / "few_labels"


def classify(place, separable, name, *overrides, status=0):
    return run_script(
        "finetune.py",
        "--config_ft",
        f"{ROOT}/configs/few_labels.yaml",
        *DATA,
        f"dataset.root={separable}",
        "dataset.batch_size=16",
        f"run_name={name}",
        *overrides,
        cwd=place,
        status=status,
    )


def summary(place, name) -> dict:
    return json.loads((place / "runs" / "finetune" / name / "summary.json").read_text())


def test_pretraining_on_whole_events_tells_its_effective_rank(pretrained):
    rows = list(csv.DictReader((pretrained / "metrics.csv").open()))
    rank = [float(row["val/effective_rank"]) for row in rows]
    assert len(rank) == 10 and all(1 <= value <= 128 for value in rank)
    assert "train/tnc" not in rows[0]


@pytest.fixture(scope="module")
def classified(place, separable, pretrained):
    encoder = f"load_encoder.ckpt_fname={pretrained}/checkpoints/encoder-ep_10.ckpt"
    output = classify(place, separable, "few", encoder, "dataset.calibration_ratio=0.2")
    return place / "runs" / "finetune" / "few", output


def test_the_head_is_fitted_on_a_frozen_encoder(classified, pretrained):
    folder, output = classified
    found = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    encoder = torch.load(pretrained / "checkpoints" / "encoder-ep_10.ckpt", weights_only=True)
    assert encoder["spectrogram"]["nperseg"] == 20 and encoder["spectrogram"]["resize_size"] is None
    for name, weights in encoder["model_state_dict"].items():
        assert torch.equal(found[f"encoder.{name}"], weights)
    (row,) = csv.DictReader((folder / "metrics.csv").open())
    assert float(row["train/accuracy"]) > CHANCE and 0 < float(row["train/loss"]) < 1.2
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    assert metrics["ensemble"]["n_events"] == N_TEST
    assert metrics["ensemble"]["accuracy"] > CHANCE + 3 * np.sqrt(CHANCE * (1 - CHANCE) / N_TEST)
    assert "Temperature" in output


def test_its_checkpoint_is_an_ordinary_classifier(classified, place, separable):
    folder, _ = classified
    checkpoint = folder / "checkpoints" / "last.ckpt"
    model = EventClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    assert model.classifier.bias.max() > UNLEARNED_LOGIT
    files = sorted((separable / model.class_names[0]).glob("*"))[:2]
    run_script(
        "predict.py",
        "--config",
        f"{ROOT}/configs/predict.yaml",
        "--ckpt",
        str(checkpoint),
        *map(str, files),
        "--out",
        "few.csv",
        cwd=place,
    )
    rows = list(csv.DictReader((place / "few.csv").open()))
    assert [row["class"] for row in rows] == [model.class_names[0]] * 2


def test_the_untrained_encoder_is_a_control(classified, place, separable):
    classify(place, separable, "untrained", "load_encoder.ckpt_fname=none")
    assert summary(place, "untrained")["metrics"].keys() == summary(place, "few")["metrics"].keys()


def test_the_same_command_gives_the_same_head(classified, place, separable, pretrained):
    encoder = f"load_encoder.ckpt_fname={pretrained}/checkpoints/encoder-ep_10.ckpt"
    data = ["dataset.calibration_ratio=0.2", "dataset.num_workers=0", "dataset.batch_size=7"]
    classify(place, separable, "again", encoder, *data)
    weights = [
        torch.load(place / "runs/finetune" / name / "checkpoints/last.ckpt", weights_only=True)
        for name in ("few", "again")
    ]
    first, second = (content["state_dict"]["classifier.weight"] for content in weights)
    torch.testing.assert_close(first, second, rtol=0.02, atol=0.02 * first.abs().max().item())


def test_a_removed_key_is_named_unless_it_did_nothing(place, separable, classified):
    """Configurations of runs that the last version has written name it with its former default."""
    output = classify(place, separable, "no", "exp_params.teacher_ckpt=a.ckpt", status=2)
    assert "exp_params.teacher_ckpt: removed: self-training gained nothing for" in output
    assert not (place / "runs" / "finetune" / "no").exists()
    config = classified[0] / "config.yaml"
    written = yaml.safe_load(config.read_text())
    written["exp_params"]["teacher_ckpt"] = "none"
    old = place / "old.yaml"
    old.write_text(yaml.safe_dump(written))
    load_config(old, FinetuneConfig)
    config.write_text(old.read_text())
    require_same_config(classified[0], load_config(old, FinetuneConfig))


def test_a_resumed_run_reports_the_fitted_head(classified, place, separable, pretrained):
    encoder = f"load_encoder.ckpt_fname={pretrained}/checkpoints/encoder-ep_10.ckpt"
    folder, _ = classified
    before = summary(place, "few")["metrics"]
    (folder / "summary.json").unlink()
    classify(
        place,
        separable,
        "few",
        encoder,
        "dataset.calibration_ratio=0.2",
        "--resume",
        str(folder),
    )
    assert summary(place, "few")["metrics"] == before


@pytest.mark.parametrize(
    ("batch", "n_epochs"),  # of 12 events; epochs are rounded up to twentieths
    [(["dataset.batch_size=8"], 20), ([], 40)],  # 2 steps an epoch; 1 of all events, as shipped
)
def test_few_labels_from_scratch_are_trained_for_the_steps_that_are_asked_for(
    place, separable, batch, n_epochs
):
    name = f"scratch{n_epochs}"
    run_script(
        "finetune.py",
        "--config_ft",
        f"{ROOT}/configs/few_labels_scratch.yaml",
        *DATA,
        f"dataset.root={separable}",
        "dataset.train_events_per_class=4",
        *batch,
        "trainer_params.max_epochs=1",
        "trainer_params.min_steps=31",
        f"run_name={name}",
        cwd=place,
    )
    rows = list(csv.DictReader((place / "runs" / "finetune" / name / "metrics.csv").open()))
    assert len(rows) == n_epochs
    assert rows[-1]["val/accuracy"]
