import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from training import devices
from utils.config import load_config
from utils.errors import UserError
from utils.schema import FinetuneConfig

LAUNCHERS = (
    "WORLD_SIZE",
    "SLURM_NTASKS",
    "SLURM_JOB_NAME",
    "SLURM_STEP_NUM_TASKS",
)


@pytest.fixture
def started(monkeypatch):
    """Set what torchrun and SLURM would, on a machine with ``n_gpus``."""

    def start(n_gpus, **environment):
        for name in LAUNCHERS:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)

    return start


def require(tmp_path, *overrides):
    (tmp_path / "c.yaml").write_text("dataset: {batch_size: 8}\n")
    devices.require_processes(load_config(tmp_path / "c.yaml", FinetuneConfig, overrides))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices.choose_devices((0,)) == ("cpu", 1) == devices.choose_devices(())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.choose_devices((0, 1)) == ("gpu", [0, 1]) and devices.choose_devices(()) == (
        "cpu",
        1,
    )
    with pytest.raises(UserError, match=r"found \[2\].*GPUs 0 to 1"):
        devices.choose_devices((2,))


@pytest.mark.parametrize(
    ("n_gpus", "overrides", "environment"),
    [
        (0, [], {}),
        (0, [], {"WORLD_SIZE": "1"}),  # one process by torchrun
        (0, [], {"SLURM_NTASKS": "1"}),
        (
            0,
            [],
            {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"},
        ),  # what the session may start
        (2, ["trainer_params.gpus=[0, 1]"], {}),  # Lightning starts the second
        (2, ["trainer_params.gpus=[0, 1]"], {"WORLD_SIZE": "2"}),
        (2, ["trainer_params.gpus=[0, 1]", "trainer_params.num_nodes=2"], {"SLURM_NTASKS": "4"}),
        (2, [], {"WORLD_SIZE": "1", "SLURM_NTASKS": "2"}),  # torchrun goes before SLURM
    ],
)
def test_as_many_processes_as_train_together_are_accepted(
    tmp_path, started, n_gpus, overrides, environment
):
    started(n_gpus, **environment)
    require(tmp_path, *overrides)


@pytest.mark.parametrize(
    ("n_gpus", "overrides", "environment", "message"),
    [
        (
            0,
            [],
            {"WORLD_SIZE": "2"},
            "found 2 processes started by torchrun or SLURM, but on a CPU one",
        ),
        (
            0,
            [],
            {"SLURM_NTASKS": "2"},
            "found 2 processes started by torchrun or SLURM, but on a CPU one",
        ),
        (2, ["trainer_params.gpus=[]"], {"WORLD_SIZE": "2"}, "but on a CPU one process trains"),
        (
            0,
            ["trainer_params.num_nodes=2"],
            {},
            "num_nodes: found 2, but on a CPU one process trains",
        ),
        (
            2,
            [],
            {"WORLD_SIZE": "2"},
            r"found 2 processes.*configuration is for 1: trainer_params.gpus is \[0\]",
        ),
        (
            2,
            ["trainer_params.gpus=[0, 1]"],
            {"SLURM_NTASKS": "1"},
            "found 1 process started.*is for 2",
        ),
        (2, ["trainer_params.gpus=[0, 1]"], {"WORLD_SIZE": "4"}, "found 4 processes.*is for 2"),
        (
            0,
            [],
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NAME": "bash"},
            "in an interactive session use torchrun",
        ),
        (
            3,
            ["trainer_params.gpus=[0, 1, 2]"],
            {},
            "8 events cannot be shared evenly by 3 processes",
        ),
    ],
)
def test_other_numbers_of_processes_are_refused(
    tmp_path, started, n_gpus, overrides, environment, message
):
    started(n_gpus, **environment)
    with pytest.raises(UserError, match=message):
        require(tmp_path, *overrides)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.cuda.device_count() > 1, reason="is about machines where two processes cannot train"
)
def test_torchrun_does_not_train_twice_side_by_side(tmp_path, separable):
    """Both processes stop before anything is read or written; torchrun adds its own report."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [
        "finetune.py",
        "--config_ft",
        str(ROOT / "configs" / "finetune.yaml"),
        "run_name=two",
    ]
    data = ["dataset.source=folder", f"dataset.root={separable}", "trainer_params.gpus=[]"]
    done = subprocess.run(
        [*launcher, str(ROOT / command[0]), *command[1:], *data],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1 and "exitcode  : 2" in done.stderr, done.stderr[-3000:]
    found = done.stderr.count("error: found 2 processes started by torchrun or SLURM")
    assert 1 <= found <= 2 and "UserError" not in done.stderr
    assert not list(tmp_path.iterdir())
