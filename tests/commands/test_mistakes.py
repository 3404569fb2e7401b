"""What users get wrong, ``--help``, and what a command says where there are no events."""

import shutil
import time

import pytest

from tests.commands.running import run
from tests.conftest import ROOT, run_script

# of a compact encoder
ENCODER = ROOT / "tests/data/before_rooms/runs/ssl/old/checkpoints/encoder-ep_2.ckpt"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["exp_params.lr=3"], "exp_params.lr: unknown key; did you mean exp_params.LR?"),
        (["load_encoder.ckpt_fname=nowhere.ckpt"], "no such file: nowhere.ckpt"),
        (
            [f"load_encoder.ckpt_fname={ENCODER}", "load_encoder.backbone_type=ResNet34Encoder"],
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
def test_mistakes_get_one_message_and_status_2(workplace, separable, overrides, message):
    output = run("finetune", separable, "wrong", *overrides, cwd=workplace, status=2)
    assert message in output and "Traceback" not in output
    assert not (workplace / "runs" / "finetune" / "wrong").exists()


def test_pretraining_needs_as_many_events_as_a_batch(workplace, separable):
    output = run("ssl", separable, "wrong", "dataset.batch_size=64", cwd=workplace, status=2)
    assert "dataset.batch_size is 64, but there are only 63 training events" in output
    assert "Traceback" not in output and not (workplace / "runs" / "ssl" / "wrong").exists()


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
    "script", ["sslearn.py", "finetune.py", "original_implementation/train.py", "predict.py"]
)
def test_help_is_quick(tmp_path, script):
    def seconds() -> float:
        started = time.monotonic()
        assert "key.path=value" in run_script(script, "--help", cwd=tmp_path, new=True)
        return time.monotonic() - started

    # once of three times: other tests run beside this one
    assert any(seconds() < 1.5 for _ in range(3))


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
