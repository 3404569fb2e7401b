"""The commands that users type, on a small separable set: results, resuming, errors."""

import csv
import json
import re
import shutil
import time

import numpy as np
import pytest
import torch

from models.event_classifier import EventClassifier
from preprocessing.packing import list_recordings
from preprocessing.splits import classifier_split, pretraining_split
from tests.conftest import ROOT, run_script, write_separable_events

N_TEST, CHANCE = 18, 1 / 3
# three standard errors above chance for 18 events
CLEARLY_BETTER = CHANCE + 3 * np.sqrt(CHANCE * (1 - CHANCE) / N_TEST)
SMALL_IMAGES = [
    "dataset.sampling_freq=100",
    "dataset.nperseg=20",
    "dataset.resize_size=32",
    "dataset.num_workers=0",
]
SCRIPTS = {
    "ssl": ("sslearn.py", "--config_ssl", "configs/ssl.yaml"),
    "finetune": ("finetune.py", "--config_ft", "configs/finetune.yaml"),
    "original": (
        "original_implementation/train.py",
        "--configs",
        "original_implementation/config.yaml",
    ),
}
SMALL_ENCODER = {
    "ssl": [
        "model_params.backbone_type=CompactEncoder",
        "model_params.proj_hid=64",
        "model_params.proj_out=8",
    ],
    "finetune": ["load_encoder.backbone_type=CompactEncoder"],
    "original": ["backbone_with_clf_type=ResNet18", "dataset.resize_size=16"],
}


def run(kind, folder, name, *overrides, cwd, status=0, resume=None, epochs=12, new=False):
    script, flag, config = SCRIPTS[kind]
    data = [
        "dataset.source=folder",
        f"dataset.root={folder}",
        "dataset.batch_size=16",
        "dataset.test_data_ratio=0.25",
    ]
    arguments = [
        *data,
        "dataset.train_data_ratio=0.75",
        *SMALL_IMAGES,
        *SMALL_ENCODER[kind],
        f"trainer_params.max_epochs={epochs}",
    ]
    resuming = ["--resume", str(resume)] if resume else []
    return run_script(
        script,
        flag,
        str(ROOT / config),
        *resuming,
        f"run_name={name}",
        *arguments,
        *overrides,
        cwd=cwd,
        status=status,
        new=new,
    )


def summary(cwd, kind, name) -> dict:
    return json.loads((cwd / "runs" / kind / name / "summary.json").read_text())


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("workplace")


@pytest.fixture(scope="session")
def pretrained(workplace, separable):
    periods = ["exp_params.knn_acc_record_ep_period=15", "exp_params.model_save_ep_period=15"]
    output = run(
        "ssl", separable, "pre", "exp_params.LR=3e-3", *periods, cwd=workplace, epochs=30, new=True
    )
    return workplace / "runs" / "ssl" / "pre", output


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
        encoder_file.keys() == {"epoch", "model_state_dict", "stem_stride", "seen_events"}
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


def test_test_events_that_pretraining_has_seen_are_counted(workplace, separable):
    """None with the split of the pretraining; some with another seed and sampling rate."""
    compact = (
        "model_params.backbone_type=CompactEncoder",
        "exp_params.knn_acc_record_ep_period=-1",
    )
    run("ssl", separable, "seen", *compact, cwd=workplace, epochs=1)
    checkpoints = workplace / "runs" / "ssl" / "seen" / "checkpoints"
    old = torch.load(checkpoints / "encoder-ep_1.ckpt", weights_only=True)
    del old["seen_events"]
    torch.save(old, checkpoints / "old.ckpt")
    labels = np.array([file.parent.name for file in list_recordings(separable)])
    trained, _ = pretraining_split(labels, 0.75, 0.25, seed=0)
    _, test = classifier_split(labels, 0.75, 0.25, seed=1)
    n_seen = len(np.intersect1d(trained, test))
    assert 5 < n_seen < N_TEST
    another = ("dataset.train_test_split_rand_seed=1", "dataset.sampling_freq=50")
    for name, file, overrides, expected in (
        ("same", "last.ckpt", (), 0),
        ("another", "encoder-ep_1.ckpt", another, n_seen),
        ("old", "old.ckpt", another, None),
    ):
        encoder = (
            f"load_encoder.ckpt_fname={checkpoints / file}",
            "load_encoder.backbone_type=CompactEncoder",
        )
        output = run(
            "finetune", separable, f"seen-{name}", *encoder, *overrides, cwd=workplace, epochs=1
        )
        assert summary(workplace, "finetune", f"seen-{name}")["pretraining"] == {
            "n_test_events_seen": expected
        }
        assert output.count("pretraining has seen") == (expected != 0)
        if expected:
            assert f"pretraining has seen {n_seen} of {N_TEST} test events" in output


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("scratch", []),
        ("finetuned", ["exp_params.freeze_bn_stat_train=true"]),
        ("linear", ["exp_params.freeze_encoders=true", "exp_params.LR=1e-2"]),
    ],
)
def test_classifiers_beat_chance(workplace, separable, pretrained, name, overrides):
    if name != "scratch":
        checkpoint = "encoder-ep_30.ckpt" if name == "finetuned" else "last.ckpt"
        overrides = [
            *overrides,
            f"load_encoder.ckpt_fname={pretrained[0] / 'checkpoints' / checkpoint}",
        ]
    output = run("finetune", separable, name, *overrides, cwd=workplace, new=name == "finetuned")
    if name != "scratch":
        _require_frozen(
            workplace / "runs" / "finetune" / name, pretrained[0], weights=name == "linear"
        )
    found = summary(workplace, "finetune", name)
    ensembles = {"ensemble", "ensemble_usable", "ensemble_weighted"}
    assert (
        set(found["metrics"]) == {*ensembles, "single_channel"}
        and found["data"]["n_test"] == N_TEST
    )
    assert found["metrics"]["ensemble"]["accuracy"] > CLEARLY_BETTER
    assert found["metrics"]["single_channel"]["accuracy"] > CLEARLY_BETTER
    assert np.sum(found["metrics"]["single_channel"]["confusion"]) == 3 * N_TEST
    plots = {p.name for p in (workplace / "runs" / "finetune" / name / "plots").iterdir()}
    assert plots >= {
        "curves.png",
        "recall.png",
        "confusion_ensemble.png",
        "confusion_single_channel.png",
        "event_low.png",
    }
    assert f"{N_TEST} test events" in output and "ensemble" in output


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


def test_the_previous_study_beats_chance(workplace, separable):
    run("original", separable, "stacked", cwd=workplace, new=True)
    metrics = summary(workplace, "original", "stacked")["metrics"]
    assert (
        set(metrics) == {"stacked_trace"} and metrics["stacked_trace"]["accuracy"] > CLEARLY_BETTER
    )


def test_a_checkpoint_classifies_by_itself(workplace, separable, pretrained):
    run("finetune", separable, "alone", cwd=workplace)
    model = EventClassifier.load_from_checkpoint(
        workplace / "runs" / "finetune" / "alone" / "checkpoints" / "last.ckpt", weights_only=True
    )
    from preprocessing.recordings import read_recording

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


@pytest.fixture
def on_a_cpu_with(tmp_path, monkeypatch):
    """Let the commands believe that the CPU has certain units, and no others."""

    def make(unit: str) -> None:
        patch = f"import torch.cpu\ntorch.cpu.get_capabilities = lambda: {{{unit!r}: True}}\n"
        (tmp_path / "sitecustomize.py").write_text(patch)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


AUTO = (
    "load_encoder.backbone_type=CompactEncoder",
    "trainer_params.gpus=[]",
    "trainer_params.precision=auto",
)


@pytest.mark.parametrize(("unit", "chosen"), [("avx512_bf16", "bf16-mixed"), ("avx2", "32-true")])
def test_training_and_prediction_choose_the_same_precision(
    workplace, separable, on_a_cpu_with, unit, chosen
):
    on_a_cpu_with(unit)
    output = run("finetune", separable, f"auto-{unit}", *AUTO, cwd=workplace, epochs=1)
    assert summary(workplace, "finetune", f"auto-{unit}")["precision"] == chosen
    checkpoint = workplace / "runs" / "finetune" / f"auto-{unit}" / "checkpoints" / "last.ckpt"
    config = [
        "--config_predict",
        str(ROOT / "configs" / "predict.yaml"),
        "--ckpt",
        str(checkpoint),
        "gpu=null",
    ]
    file = next((separable / "low").iterdir())
    predicted = run_script(
        "predict.py", *config, str(file), "--out", f"auto-{unit}.csv", cwd=workplace
    )
    for text in (output, predicted):
        assert (
            text.count("precision auto: ") == 1
            and f"precision auto: {chosen} (this CPU has" in text
        )


def test_images_too_small_for_bf16_get_float32_by_themselves(workplace, separable, on_a_cpu_with):
    on_a_cpu_with("avx512_bf16")
    output = run(
        "finetune",
        separable,
        "auto-small",
        *AUTO,
        "dataset.resize_size=16",
        cwd=workplace,
        epochs=1,
    )
    assert (
        "precision auto: 32-true (bf16 on a CPU gives wrong gradients for images of 16 x" in output
    )
    assert summary(workplace, "finetune", "auto-small")["precision"] == "32-true"


def test_a_handful_of_events_to_calibrate_on_is_said(workplace, separable):
    few = ("load_encoder.backbone_type=CompactEncoder", "dataset.calibration_ratio=0.1")
    output = run(
        "finetune", separable, "few", *few, "dataset.batch_size=8", cwd=workplace, epochs=4
    )
    assert output.count("6 held-out events are few to calibrate on") == 1
    assert 0.2 < summary(workplace, "finetune", "few")["calibration"]["temperature"] < 5


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


@pytest.mark.parametrize(
    ("kind", "loading"),
    [
        ("ssl", ["dataset.num_workers=2"]),
        ("finetune", ["dataset.num_workers=0"]),
        ("original", ["dataset.num_workers=2", "dataset.preload=ram"]),
    ],
)
def test_resumed_equals_uninterrupted(workplace, separable, kind, loading):
    """Stopped after 2 of 4 epochs and resumed: same weights and metrics as an uninterrupted run."""
    save = "exp_params.model_save_ep_period=1"
    run(kind, separable, f"whole_{kind}", save, cwd=workplace, epochs=4)
    whole = workplace / "runs" / kind / f"whole_{kind}"
    output = _train_and_stop_after(kind, separable, workplace, 2, save, *loading)
    assert "interrupted" in output
    stopped = workplace / "runs" / kind / f"stopped_{kind}"
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 1
    run(kind, separable, f"stopped_{kind}", save, *loading, cwd=workplace, epochs=4, resume=stopped)
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (whole, stopped)
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert (whole / "metrics.csv").read_text() == (stopped / "metrics.csv").read_text()


def test_training_from_a_packed_archive_needs_neither_obspy_nor_pooch_nor_wandb(
    workplace, separable, pretrained
):
    packed = workplace / summary(workplace, "ssl", "pre")["data"]["archive"]
    shim = workplace / "without"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "import sys\nfor name in ('obspy', 'pooch', 'wandb'): sys.modules[name] = None\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        run("finetune", packed, "without", cwd=workplace, epochs=1, new=True)


@pytest.mark.slow
def test_the_grid_runs_resumes_and_compares(workplace, separable, pretrained):
    """Two methods on one fraction; the second start trains nothing and gives the same table."""
    data = [
        "dataset.source=folder",
        f"dataset.root={separable}",
        "dataset.batch_size=16",
        "dataset.train_data_ratio=0.75",
        "dataset.test_data_ratio=0.25",
        *SMALL_IMAGES,
    ]
    lists = {
        "all": [*data, "trainer_params.max_epochs=1"],
        "ssl": SMALL_ENCODER["ssl"],
        "original": SMALL_ENCODER["original"],
    }
    (workplace / "grid.yaml").write_text(
        json.dumps(
            {
                "name": "g",
                "methods": ["original", "finetuned"],
                "label_fractions": [0.5],
                "seeds": [0],
                "overrides": lists,
            }
        )
    )
    arguments = [
        "--config",
        str(workplace / "grid.yaml"),
        f"config_ssl={ROOT}/configs/ssl.yaml",
        f"config_ft={ROOT}/configs/finetune.yaml",
    ]
    arguments.append(f"config_original={ROOT}/original_implementation/config.yaml")
    output = run_script("reproduce.py", *arguments, cwd=workplace)
    assert (
        "| finetuned | 50 % | ensemble |" in output
        and "| original | 50 % | stacked trace |" in output
    )
    folder = workplace / "runs" / "reproduce" / "g"
    table, logs = (
        (folder / "results.md").read_text(),
        {p: p.stat().st_mtime_ns for p in (folder / "logs").iterdir()},
    )
    assert len(logs) == 3 and (folder / "comparison.png").is_file()
    run_script("reproduce.py", *arguments, cwd=workplace)
    assert (folder / "results.md").read_text() == table
    assert {p: p.stat().st_mtime_ns for p in (folder / "logs").iterdir()} == logs


def _train_and_stop_after(kind, folder, cwd, n_epochs, *overrides) -> str:
    """Run the command with a Trainer that is interrupted, as by Ctrl-C, when an epoch begins."""
    shim = cwd / "shim"
    shim.mkdir(exist_ok=True)
    (shim / "sitecustomize.py").write_text(
        "import pytorch_lightning as pl\n"
        "def stop(self, trainer, module):\n"
        f"    if trainer.current_epoch == {n_epochs}: raise KeyboardInterrupt\n"
        "pl.Callback.on_train_epoch_start = stop\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        return run(kind, folder, f"stopped_{kind}", *overrides, cwd=cwd, epochs=4, status=130)


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["exp_params.lr=3"], "exp_params.lr: unknown key; did you mean exp_params.LR?"),
        (
            ["dataset.batch_size=64"],
            "dataset.batch_size is 64, but there are only 54 training events",
        ),
        (["load_encoder.ckpt_fname=nowhere.ckpt"], "no such file: nowhere.ckpt"),
        (
            ["load_encoder.ckpt_fname={pre}", "load_encoder.backbone_type=ResNet34Encoder"],
            "missing keys: model.layer1.1",
        ),
        (
            ["exp_params.n_classes=8"],
            "exp_params.n_classes: found 8; the data has 3: high, low, twice",
        ),
        (["dataset.test_data_ratio=0.01"], "gives 1 events for 3 classes"),
        (["dataset.root=/nowhere"], "/nowhere: no such folder"),
        (["dataset.duration_s=0.1"], "dataset.nperseg: found 20; events have only 10 samples"),
        (
            ["dataset.nperseg=1000", "dataset.resize_size=8"],
            "images have 8 x 0 pixels; at least 1 x 1 are needed",
        ),
        (
            [
                "trainer_params.precision=bf16-mixed",
                "dataset.resize_size=16",
                "trainer_params.gpus=[]",
            ],
            "on a CPU gives wrong gradients for images of 16 x",
        ),
        (
            ["trainer_params.strategy=magic"],
            "trainer_params.strategy: found 'magic'; should be 'auto' or 'ddp'",
        ),
    ],
)
def test_mistakes_get_one_message_and_status_2(
    workplace, separable, pretrained, overrides, message
):
    overrides = [
        text.format(pre=pretrained[0] / "checkpoints" / "encoder-ep_30.ckpt") for text in overrides
    ]
    output = run("finetune", separable, "wrong", *overrides, cwd=workplace, status=2)
    assert message in output and "Traceback" not in output
    assert not (workplace / "runs" / "finetune" / "wrong").exists()


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


def test_no_archive_and_no_network(tmp_path):
    started = time.monotonic()
    arguments = ["--config_ft", str(ROOT / "configs" / "finetune.yaml")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there
        output = run_script("finetune.py", *arguments, cwd=tmp_path, status=2)
    assert (
        "put the zip" in output
        and str(tmp_path / "data" / "aknes") in output
        and "Traceback" not in output
    )
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "script", ["sslearn.py", "finetune.py", "original_implementation/train.py"]
)
def test_help_is_quick(tmp_path, script):
    times = []
    for _ in range(3):
        started = time.monotonic()
        assert "key.path=value" in run_script(script, "--help", cwd=tmp_path, new=True)
        times.append(time.monotonic() - started)
    assert min(times) < 1.5


def test_the_real_aknes_archive_layout_is_found(tmp_path, aknes_event):
    """A user's copy in data/aknes is packed; a single class gives an error message."""
    target = tmp_path / "data" / "aknes" / "DataSamples" / "Regional"
    target.mkdir(parents=True)
    shutil.copy(aknes_event, target)
    output = run_script(
        "finetune.py",
        "--config_ft",
        str(ROOT / "configs" / "finetune.yaml"),
        cwd=tmp_path,
        status=2,
    )
    assert (
        "1 events of up to 24 channels, 16 s at 1000 Hz" in output
        and "1 classes of labelled events" in output
    )
