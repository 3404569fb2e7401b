"""finetune.py without pretraining, and the previous study, as users type them."""

import csv
import re

import numpy as np
import pytest
import torch

from models.event_classifier import EventClassifier
from preprocessing.recordings import read_recording
from tests.commands.running import (
    CLEARLY_BETTER,
    N_TEST,
    require_better_than_chance,
    run,
    summary,
)


@pytest.fixture(scope="module")
def from_scratch(workplace, separable):
    output = run("finetune", separable, "scratch", cwd=workplace)
    return workplace / "runs" / "finetune" / "scratch", output


def test_a_classifier_beats_chance(workplace, from_scratch):
    require_better_than_chance(workplace, "scratch", from_scratch[1])


@pytest.mark.slow
def test_the_previous_study_beats_chance(workplace, separable):
    run("original", separable, "stacked", cwd=workplace, new=True)
    metrics = summary(workplace, "original", "stacked")["metrics"]
    assert (
        set(metrics) == {"stacked_trace"} and metrics["stacked_trace"]["accuracy"] > CLEARLY_BETTER
    )


def test_the_curves_watch_the_ensembles_of_the_test_events(workplace, from_scratch):
    rows = list(csv.DictReader((from_scratch[0] / "metrics.csv").open()))
    ensemble = summary(workplace, "finetune", "scratch")["metrics"]["ensemble"]
    assert float(rows[-1]["val/accuracy"]) == pytest.approx(ensemble["accuracy"], abs=1e-5)


def test_a_checkpoint_classifies_by_itself(separable, from_scratch):
    checkpoint = from_scratch[0] / "checkpoints" / "last.ckpt"
    model = EventClassifier.load_from_checkpoint(checkpoint, weights_only=True)
    files = sorted(separable.glob("[!U]*/*.mseed"))
    waveforms = torch.stack([torch.from_numpy(read_recording(file).waveforms) for file in files])
    found = model.predict_waveforms(waveforms)
    torch.testing.assert_close(found.sum(1), torch.ones(len(files)))
    right = [model.class_names[k] == file.parent.name for k, file in zip(found.argmax(1), files)]
    assert np.mean(right) > CLEARLY_BETTER


def test_single_spectrogram_options(workplace, separable):
    run(
        "finetune",
        separable,
        "options",
        "dataset.return_single_spectrogram_train=false",
        "dataset.return_single_spectrogram_test=true",
        "augmentations=[RandomAmplitudeJitter]",
        "dataset.preload=ram",
        "trainer_params.precision=bf16-mixed",
        "exp_params.use_class_weight=false",
        "logger=[csv, tensorboard, wandb]",
        "exp_params.gradient_clip_val=1",
        "exp_params.label_smoothing=0.1",
        cwd=workplace,
        epochs=1,
    )
    metrics = summary(workplace, "finetune", "options")["metrics"]
    assert (
        set(metrics) == {"single_channel"}
        and np.sum(metrics["single_channel"]["confusion"]) == N_TEST
    )
    folder = workplace / "runs" / "finetune" / "options"
    assert list((folder / "tensorboard").glob("events*")) and list(
        (folder / "wandb").glob("offline-run-*")
    )


def test_calibration_on_a_handful_of_events_some_of_which_cannot_be_predicted(workplace, separable):
    """Nearly all others are classified correctly: the right temperature raises the confidence."""
    keys = (
        "dataset.calibration_ratio=0.1",
        "exp_params.head=logistic_regression",
        "exp_params.zero_weight_classes=[twice]",
    )
    output = run("finetune", separable, "few", *keys, cwd=workplace, epochs=100)
    assert output.count("6 held-out events are few to calibrate on") == 1
    found = summary(workplace, "finetune", "few")
    calibration, ensemble = found["calibration"], found["metrics"]["ensemble"]
    assert 0.2 < calibration["temperature"] < 1
    before, after = (calibration["test_events"][side] for side in ("before", "after"))
    assert after["nll"] < before["nll"] < ensemble["nll"] / 3
    error = "expected_calibration_error"  # of all events: confidence in a wrong class is an error
    assert before[error] == ensemble[error]


def test_one_class_to_learn_is_too_few(workplace, separable):
    keys = ("exp_params.zero_weight_classes=[low,high]", "exp_params.head=logistic_regression")
    output = run("finetune", separable, "one", *keys, cwd=workplace, status=2, epochs=100)
    assert "zero_weight_classes: leaves twice to learn from" in output


def test_training_from_a_packed_archive_needs_neither_obspy_nor_pooch_nor_wandb(
    workplace, from_scratch
):
    packed = workplace / summary(workplace, "finetune", "scratch")["data"]["archive"]
    shim = workplace / "without"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "import sys\nfor name in ('obspy', 'pooch', 'wandb'): sys.modules[name] = None\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        run("finetune", packed, "without", cwd=workplace, epochs=1, new=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(workplace, separable):
    shim = workplace / "nan"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "import torch\nfrom torch.nn import functional\ncalls = []\n"
        "def cross_entropy(*arguments, whole=functional.cross_entropy, **options):\n"
        "    calls.append(torch.is_grad_enabled())\n"
        # epoch 3, step 2
        "    return whole(*arguments, **options) * (torch.nan if sum(calls) == 3 * 2 + 2 else 1)\n"
        "functional.cross_entropy = cross_entropy\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        output = run(
            "finetune", separable, "nan", "dataset.batch_size=18", cwd=workplace, status=2, epochs=6
        )
    found = re.search(
        r"error: epoch 3, step 2: the loss is nan; events: (\S+, ){7}\S+ and 10 more", output
    )
    assert (found and "high__2020" in found[0]) or "low__2020" in found[0], output[-2000:]
    checkpoint = torch.load(
        workplace / "runs" / "finetune" / "nan" / "checkpoints" / "last.ckpt", weights_only=True
    )
    assert checkpoint["epoch"] == 1 and all(
        torch.isfinite(v).all() for v in checkpoint["state_dict"].values()
    )
    assert "Traceback" not in output
