"""sslearn.py as users type it, and what finetune.py makes of a pretrained encoder."""

import csv
import json

import numpy as np
import pytest
import torch

from preprocessing.recording_folder import list_recordings
from preprocessing.splits import Division, classifier_split, pretraining_split
from tests.commands.running import CHANCE, N_TEST, require_better_than_chance, run, summary
from tests.conftest import write_separable_events


def test_pretraining_lowers_the_loss_without_collapse(pretrained):
    folder, output = pretrained
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(30))
    loss = [float(row["train/loss"]) for row in rows]
    assert np.mean(loss[-3:]) < 0.75 * np.mean(loss[:2])
    assert float(rows[-1]["train/z_std"]) > 0.25  # a collapsed encoder gives 0
    assert [row["epoch"] for row in rows if row["val/knn_accuracy"]] == ["14", "29"]
    assert float(rows[-1]["val/knn_accuracy"]) > CHANCE
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {
        "last.ckpt",
        "encoder-ep_15.ckpt",
        "encoder-ep_30.ckpt",
    }
    assert {p.name for p in (folder / "plots").iterdir()} >= {
        "curves.png",
        "event_high.png",
        "event_Unlabeled.png",
    }
    assert (
        "no GPU" in output and output.count("no GPU") == 1
        if not torch.cuda.is_available()
        else True
    )
    encoder_file = torch.load(folder / "checkpoints" / "encoder-ep_30.ckpt", weights_only=True)
    assert (
        encoder_file.keys()
        == {"epoch", "model_state_dict", "stem_stride", "spectrogram", "seen_events"}
        and encoder_file["epoch"] == 30
    )
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    n_train = json.loads((folder / "summary.json").read_text())["data"]["n_train"]
    assert (
        checkpoint["seen_events"] == encoder_file["seen_events"]
        and len(set(encoder_file["seen_events"])) == n_train
    )
    assert checkpoint["config"]["model_params"]["name"] == "VNIbCReg"


def test_pretraining_leaves_out_the_classifiers_test_events(pretrained):
    data = json.loads((pretrained[0] / "summary.json").read_text())["data"]
    assert (data["n_events"], data["n_train"] + data["n_test"]) == (84, 84 - N_TEST)


def test_test_events_that_pretraining_has_seen_are_counted(workplace, separable, pretrained):
    """Some with another seed and sampling rate; unknown for an encoder of an earlier version."""
    checkpoints = pretrained[0] / "checkpoints"
    old = torch.load(checkpoints / "encoder-ep_30.ckpt", weights_only=True)
    del old["seen_events"]
    torch.save(old, workplace / "old.ckpt")
    labels = np.array([file.parent.name for file in list_recordings(separable)])
    trained, _ = pretraining_split(labels, Division(0.75, 0.25, seed=0))
    _, test = classifier_split(labels, Division(0.75, 0.25, seed=1))
    n_seen = len(np.intersect1d(trained, test))
    assert 5 < n_seen < N_TEST
    another = ("dataset.train_test_split_rand_seed=1", "dataset.sampling_freq=50")
    for name, file, expected in (
        ("another", checkpoints / "encoder-ep_30.ckpt", n_seen),
        ("old", workplace / "old.ckpt", None),
    ):
        encoder = (f"load_encoder.ckpt_fname={file}", "load_encoder.backbone_type=CompactEncoder")
        output = run(
            "finetune", separable, f"seen-{name}", *encoder, *another, cwd=workplace, epochs=1
        )
        assert summary(workplace, "finetune", f"seen-{name}")["pretraining"] == {
            "n_test_events_seen": expected,
            **({} if expected is None else {"n_test_events_seen_with_labels": 0}),
        }
        assert output.count("pretraining has seen") == 1
        if expected:
            assert f"pretraining has seen {n_seen} of {N_TEST} test events (without" in output


def test_test_events_that_taught_an_encoder_their_labels_are_counted(
    workplace, separable, pretrained
):
    """A classifier of another division as encoder: it also lists what pretrained it."""
    data = ["dataset.train_test_split_rand_seed=1", "dataset.calibration_ratio=0.2"]
    first = f"load_encoder.ckpt_fname={pretrained[0] / 'checkpoints' / 'encoder-ep_30.ckpt'}"
    run("finetune", separable, "teaches", first, *data, cwd=workplace, epochs=1)
    taught = workplace / "runs/finetune/teaches/checkpoints/last.ckpt"
    output = run(
        "finetune", separable, "is-taught", f"load_encoder.ckpt_fname={taught}", cwd=workplace,
        epochs=1,
    )  # fmt: skip
    labels = np.array([file.parent.name for file in list_recordings(separable)])
    train, _ = classifier_split(labels, Division(0.75, 0.25, seed=1))
    _, test = classifier_split(labels, Division(0.75, 0.25, seed=0))
    n_taught = len(np.intersect1d(train, test))
    found = summary(workplace, "finetune", "is-taught")["pretraining"]
    assert found["n_test_events_seen_with_labels"] == n_taught > 5
    assert f"({n_taught} of them with their labels)" in output and "much lower" in output


@pytest.mark.parametrize(
    ("name", "file", "overrides"),
    [
        ("finetuned", "encoder-ep_30.ckpt", ["exp_params.freeze_bn_stat_train=true"]),
        ("linear", "last.ckpt", ["exp_params.freeze_encoders=true", "exp_params.LR=1e-2"]),
    ],
)
def test_classifiers_beat_chance_and_see_no_test_event_of_their_own(
    workplace, separable, pretrained, name, file, overrides
):
    overrides = [*overrides, f"load_encoder.ckpt_fname={pretrained[0] / 'checkpoints' / file}"]
    output = run("finetune", separable, name, *overrides, cwd=workplace)
    _require_frozen(workplace / "runs" / "finetune" / name, pretrained[0], weights=name == "linear")
    require_better_than_chance(workplace, name, output)
    assert summary(workplace, "finetune", name)["pretraining"]["n_test_events_seen"] == 0
    assert "pretraining has seen" not in output


def _require_frozen(folder, pretrained, weights: bool) -> None:
    """The encoder has the statistics of the pretrained one, and also its weights if frozen."""
    before, after = (
        torch.load(path / "checkpoints" / f"encoder-ep_{epoch}.ckpt", weights_only=True)[
            "model_state_dict"
        ]
        for path, epoch in ((pretrained, 30), (folder, 12))
    )
    for key, value in before.items():
        if "running" in key or "num_batches" in key:
            assert torch.equal(after[key], value), key
    assert torch.equal(after["model.conv1.weight"], before["model.conv1.weight"]) == weights


def test_vibcreg_and_no_saving(workplace, separable):
    overrides = [
        "model_params.name=VIbCReg",
        "augmentations=[RandomCrop]",
        "exp_params.model_save_ep_period=-1",
        "dataset.exclude_test_events=false",
    ]
    run(
        "ssl",
        separable,
        "vibcreg",
        *overrides,
        "exp_params.knn_acc_record_ep_period=-1",
        cwd=workplace,
        epochs=1,
    )
    folder = workplace / "runs" / "ssl" / "vibcreg"
    assert not (folder / "checkpoints").exists()
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert "train/covariance" in header and "tnc" not in header and "knn" not in header


def test_pretraining_needs_no_labels(workplace):
    """A folder with Unlabeled only trains; the kNN accuracy is left out with one message."""
    folder = write_separable_events(workplace / "unlabelled", n_per_class=0, n_unlabeled=24)
    compact, always = (
        "model_params.backbone_type=CompactEncoder",
        "exp_params.knn_acc_record_ep_period=1",
    )
    output = run("ssl", folder, "unlabelled", compact, always, cwd=workplace, epochs=2)
    assert output.count("val/knn_accuracy is left out") == 1 and "classes: none" in output
    metrics = summary(workplace, "ssl", "unlabelled")["metrics"]
    assert metrics["train/loss"] > 0 and "val/knn_accuracy" not in metrics
    assert (
        workplace / "runs" / "ssl" / "unlabelled" / "checkpoints" / "encoder-ep_2.ckpt"
    ).is_file()


def test_a_gentle_stem_goes_from_pretraining_to_classifier(workplace, separable):
    run("ssl", separable, "gentle", "model_params.stem_stride=1", cwd=workplace, epochs=1)
    encoder = workplace / "runs" / "ssl" / "gentle" / "checkpoints" / "encoder-ep_1.ckpt"
    overrides = [f"load_encoder.ckpt_fname={encoder}", "exp_params.freeze_encoders=true"]
    output = run("finetune", separable, "not-gentle", *overrides, cwd=workplace, status=2, epochs=1)
    assert "was trained with stem_stride 1; set load_encoder.stem_stride to that" in output
    run(
        "finetune",
        separable,
        "gentle",
        *overrides,
        "load_encoder.stem_stride=1",
        cwd=workplace,
        epochs=1,
    )
    last = torch.load(
        workplace / "runs" / "finetune" / "gentle" / "checkpoints" / "last.ckpt", weights_only=True
    )
    assert last["hyper_parameters"]["stem_stride"] == 1
