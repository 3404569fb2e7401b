"""A run of thousands of steps: memory and file handles stay flat, and every epoch has its row."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.small_trainings import arguments_of

# notes resident memory and open files after every epoch
SHIM = """
import gc, json, os
import pytorch_lightning as pl
notes = []
def n_open():
    return len(os.listdir("/proc/self/fd"))
def note(self, trainer, module):
    if type(self).__name__ != "SaveCheckpoints":
        return
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if notes and n_open() != notes[-1][-1]:
        gc.collect()  # pipes to loader workers that have ended may wait for that
    notes.append((trainer.global_step, resident, n_open()))
    with open("notes.json", "w") as file:
        json.dump(notes, file)
pl.Callback.on_train_epoch_start = note
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["ssl", "finetune"])
def test_memory_and_handles_are_flat_over_two_thousand_steps(tmp_path, separable, kind):
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "sitecustomize.py").write_text(SHIM)
    epochs = 125
    command = [
        sys.executable,
        *arguments_of(
            kind,
            separable,
            "long",
            epochs,
            "dataset.batch_size=3",
            "dataset.resize_size=16",
            "dataset.nperseg=40",
        ),
    ]
    command = [
        argument
        for argument in command
        if argument not in ("dataset.batch_size=16", "dataset.nperseg=20", "dataset.resize_size=32")
    ]
    command[command.index("exp_params.model_save_ep_period=1")] = (
        "exp_params.model_save_ep_period=25"
    )
    if kind == "ssl":
        command += ["exp_params.knn_acc_record_ep_period=25", "model_params.proj_out=2"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "shim"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    notes = json.loads((tmp_path / "notes.json").read_text())
    steps, resident, handles = zip(*notes)
    assert steps[-1] >= 1900 and len(notes) == epochs
    # what the first checkpoint allocates stays
    warm = next(k for k, n in enumerate(steps) if n >= 500)
    # what must not be is growth; a copy of the checkpoint comes and goes
    early, late = np.median(resident[warm : warm + 25]), np.median(resident[-25:])
    copy = (tmp_path / "runs" / kind / "long" / "checkpoints" / "last.ckpt").stat().st_size
    assert late < 1.03 * early and max(resident[warm:]) < early + 1.5 * copy, (
        [r >> 20 for r in resident[::10]],
        copy >> 20,
    )
    assert len(set(handles[warm:])) == 1
    rows = list(csv.DictReader((tmp_path / "runs" / kind / "long" / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(epochs))
    assert all(row["train/loss"] for row in rows) and rows[-1]["val/loss"]
