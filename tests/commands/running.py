"""Run the training commands at toy size, on a small separable set."""

import json

import numpy as np
import pytest

from tests.conftest import ROOT, run_script

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


def train_and_stop_after(kind, folder, cwd, n_epochs, *overrides) -> str:
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


def require_better_than_chance(cwd, name, output) -> None:
    """Check what a run of finetune.py has written and printed, and that it has learned."""
    found = summary(cwd, "finetune", name)
    ensembles = {"ensemble", "ensemble_usable"}
    assert (
        set(found["metrics"]) == {*ensembles, "single_channel"}
        and found["data"]["n_test"] == N_TEST
    )
    assert found["metrics"]["ensemble"]["accuracy"] > CLEARLY_BETTER
    assert found["metrics"]["single_channel"]["accuracy"] > CLEARLY_BETTER
    assert np.sum(found["metrics"]["single_channel"]["confusion"]) == pytest.approx(N_TEST)
    plots = {p.name for p in (cwd / "runs" / "finetune" / name / "plots").iterdir()}
    assert plots >= {
        "curves.png",
        "recall.png",
        "confusion_ensemble.png",
        "confusion_single_channel.png",
        "event_low.png",
    }
    assert f"{N_TEST} test events" in output and "ensemble" in output
