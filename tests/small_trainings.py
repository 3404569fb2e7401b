"""The smallest trainings, loaded as shipped, and a way to kill them at chosen moments."""

import json
import os
import subprocess
import sys

from tests.commands.running import SCRIPTS, SMALL_IMAGES
from tests.conftest import ROOT

SMALLEST = {
    "ssl": [
        "model_params.backbone_type=CompactEncoder",
        "model_params.proj_hid=128",
        "model_params.proj_out=8",
    ],
    "finetune": ["load_encoder.backbone_type=CompactEncoder"],
    "original": ["backbone_with_clf_type=ResNet18", "dataset.resize_size=16"],
}

AS_SHIPPED = "dataset.num_workers=2"


def arguments_of(kind, folder, name, epochs, *overrides) -> list[str]:
    script, flag, config = SCRIPTS[kind]
    data = [
        "dataset.source=folder",
        f"dataset.root={folder}",
        "dataset.batch_size=16",
        "dataset.test_data_ratio=0.25",
        "dataset.train_data_ratio=0.75",
    ]
    return [
        str(ROOT / script),
        flag,
        str(ROOT / config),
        f"run_name={name}",
        *data,
        *SMALL_IMAGES,
        AS_SHIPPED,
        *SMALLEST[kind],
        f"trainer_params.max_epochs={epochs}",
        "exp_params.model_save_ep_period=1",
        *overrides,
    ]


def start(moments, cwd, command, run_dir="") -> tuple[list[int], list[float]]:
    """Run ``command`` once for each moment, killing it then.

    Return the exit statuses, and how many seconds each took.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "killed_commands.py"),
            str(ROOT),
            json.dumps(moments),
            str(run_dir),
            "--",
            *command,
        ],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    statuses, seconds = json.loads(done.stdout.splitlines()[-1])
    assert len(statuses) == len(moments), done.stderr[-3000:]
    return statuses, seconds
