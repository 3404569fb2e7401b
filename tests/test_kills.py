"""Kill anything at any time; start it again.

The end is as if nothing had happened, to the last bit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocessing.event_archive import EventArchive
from tests.commands.running import SMALL_IMAGES
from tests.conftest import ROOT
from tests.killed_commands import members, start_as_from_a_terminal, wait_for_the_end
from tests.small_trainings import SMALLEST, arguments_of, start

pytestmark = pytest.mark.slow
SIGKILLED = -signal.SIGKILL
N_KILLS = 5  # of each training


def state_of(run_dir) -> dict:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)


def require_equal(a, b, place="") -> None:
    """Compare nested dicts and lists of tensors and numbers exactly."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            require_equal(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for number, pair in enumerate(zip(a, b)):
            require_equal(*pair, f"{place}/{number}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    else:
        assert a == b, place


@pytest.mark.parametrize(
    ("kind", "loading"),
    [("ssl", []), ("finetune", ["dataset.preload=ram"]), ("original", [])],
)
def test_a_run_killed_at_many_moments_ends_like_one_that_was_not(tmp_path, packed, kind, loading):
    """Weights, optimiser, schedule, BatchNorm, metrics, predictions: exactly equal after kills all
    over the run.

    The killed run reads with two loader processes, the other in its own.
    """
    epochs = 4 if kind == "original" else 8
    jitter = (
        []
        if kind == "original"
        else [
            "augmentations=[NeighboringCrop,RandomAmplitudeJitter]"
            if kind == "ssl"
            else "augmentations=[RandomAmplitudeJitter]"
        ]
    )
    _, (duration_s,) = start(
        [None],
        tmp_path,
        arguments_of(kind, packed, "whole", epochs, *jitter, "dataset.num_workers=0"),
    )
    runs = tmp_path / "runs" / kind
    rng = np.random.default_rng(0)
    moments = [*(rng.uniform(0.1, 0.7, N_KILLS) * duration_s).round(2).tolist(), None]
    command = arguments_of(kind, packed, "killed", epochs, *jitter, *loading)
    statuses, _ = start(moments, tmp_path, command, Path("runs") / kind / "killed")
    assert statuses[-1] == 0 and statuses.count(SIGKILLED) >= 3, statuses
    whole, killed = state_of(runs / "whole"), state_of(runs / "killed")
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        require_equal(whole[key], killed[key], key)
    assert (runs / "whole" / "metrics.csv").read_text() == (
        runs / "killed" / "metrics.csv"
    ).read_text()
    metrics = [
        json.loads((runs / name / "summary.json").read_text())["metrics"]
        for name in ("whole", "killed")
    ]
    assert metrics[0] == metrics[1]
    assert sorted(p.name for p in (runs / "killed" / "plots").iterdir()) == sorted(
        p.name for p in (runs / "whole" / "plots").iterdir()
    )
    names = [
        sorted(p.name for p in (runs / name / "checkpoints").iterdir())
        for name in ("whole", "killed")
    ]
    assert names[0] == names[1] and len(names[0]) == 1 + epochs
    assert not list((runs / "killed").rglob("*partial*"))


def test_packing_killed_at_many_moments_ends_like_one_that_was_not(tmp_path, separable):
    code = tmp_path / "pack.py"
    code.write_text(
        "import sys\nfrom preprocessing.packing import open_or_pack\n"
        f"if __name__ == '__main__': open_or_pack({str(separable)!r}, sys.argv[1], 100.0, 12.0)\n"
    )
    start([None], tmp_path, [str(code), "whole"])
    started = time.monotonic()
    start([None], tmp_path, [str(code), "whole2"])
    moments = [*np.linspace(0.01, 1.2, 7).round(3).tolist(), None]
    statuses, _ = start(moments, tmp_path, [str(code), "killed"])
    assert statuses[-1] == 0 and SIGKILLED in statuses and time.monotonic() - started < 300
    whole, killed = EventArchive(tmp_path / "whole"), EventArchive(tmp_path / "killed")
    killed.verify()
    assert whole.fingerprint == killed.fingerprint and not (tmp_path / "killed.partial").exists()


def test_two_processes_pack_one_archive_once(tmp_path, separable):
    code = (
        "import logging\nfrom preprocessing.packing import open_or_pack\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "if __name__ == '__main__':\n"
        f"    open_or_pack({str(separable)!r}, {str(tmp_path / 'arc')!r}, 100.0, 12.0).verify()\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    messages = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert sorted(message.count("Packed 84 events") for message in messages) == [0, 1]


def test_simulation_killed_at_many_moments_ends_like_one_that_was_not(tmp_path):
    code = tmp_path / "simulate.py"
    code.write_text(
        "from preprocessing.sources import open_source\n"
        "from utils.dataset_sections import DatasetParams\n"
        "if __name__ == '__main__':\n"
        "    open_source(DatasetParams(source='simulated', n_simulated=100))\n"
    )
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    start([None], tmp_path / "whole", [str(code)])
    statuses, _ = start(
        [*np.linspace(0.05, 4.0, 5).round(2).tolist(), None], tmp_path / "killed", [str(code)]
    )
    assert statuses[-1] == 0 and SIGKILLED in statuses
    place = Path("data/archives/simulated-100-seed0")
    whole, killed = (
        EventArchive(tmp_path / "whole" / place),
        EventArchive(tmp_path / "killed" / place),
    )
    killed.verify()
    assert whole.fingerprint == killed.fingerprint


def test_a_killed_grid_goes_on_and_trains_nothing_twice(tmp_path, packed):
    lists = {
        "all": [
            "dataset.source=folder",
            f"dataset.root={packed}",
            "dataset.batch_size=16",
            "dataset.test_data_ratio=0.25",
            *SMALL_IMAGES,
            "trainer_params.max_epochs=2",
            "exp_params.model_save_ep_period=1",
        ],
        "original": SMALLEST["original"],
    }
    lists["scratch"] = SMALLEST["finetune"]
    (tmp_path / "grid.yaml").write_text(
        json.dumps(
            {
                "name": "g",
                "methods": ["original", "scratch"],
                "label_fractions": [0.5],
                "seeds": [0],
                "gpus": [],
                "overrides": lists,
            }
        )
    )
    paths = [
        f"config_{name}={ROOT}/{path}"
        for name, path in (
            ("ssl", "configs/ssl.yaml"),
            ("ft", "configs/finetune.yaml"),
            ("original", "original_implementation/config.yaml"),
        )
    ]
    command = [sys.executable, str(ROOT / "reproduce.py"), "--config", "grid.yaml", *paths]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for seconds in (4, 9):
        grid = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        grid.kill()  # the cell it has started lives on
        grid.wait()
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| scratch | 50 % | ensemble |" in done.stderr + done.stdout
    for kind, name in (
        ("original", "g-original-50pct-seed0"),
        ("finetune", "g-scratch-50pct-seed0"),
    ):
        rows = (tmp_path / "runs" / kind / name / "metrics.csv").read_text().splitlines()
        assert len(rows) == 3 and [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]


@pytest.mark.parametrize(
    ("number", "to_all", "seconds"),
    [(signal.SIGTERM, True, 0.0), (signal.SIGTERM, False, 1.0), (signal.SIGINT, True, 0.5)],
)
def test_a_stop_signal_saves_and_says_how_to_go_on(tmp_path, packed, number, to_all, seconds):
    """What a cluster sends to all processes of a job before it takes the machine away, and what
    Ctrl-C does.

    Nothing is saved regularly here, and loader processes are at work.
    """
    command = arguments_of("finetune", packed, "stopped", 400)
    command[command.index("exp_params.model_save_ep_period=1")] = (
        "exp_params.model_save_ep_period=400"
    )
    run_dir = tmp_path / "runs" / "finetune" / "stopped"
    with start_as_from_a_terminal(command, tmp_path) as training:
        deadline = time.monotonic() + 200
        while not (
            (run_dir / "metrics.csv").is_file()
            and len((run_dir / "metrics.csv").read_text().splitlines()) > 3
        ):
            assert time.monotonic() < deadline and training.poll() is None, training.stderr.read()
            time.sleep(0.05)
        time.sleep(seconds)
        assert not (run_dir / "checkpoints" / "last.ckpt").exists()
        assert len(members(training.pid)) >= 3  # with two loader processes at least
        (os.killpg if to_all else os.kill)(training.pid, number)
        _, message = training.communicate(timeout=200)
    status, word = {signal.SIGTERM: (143, "terminated"), signal.SIGINT: (130, "interrupted")}[
        number
    ]
    assert training.returncode == status, message[-3000:]
    assert f"{word}: go on by the same command with --resume runs/finetune/stopped" in message
    assert "Traceback" not in message
    wait_for_the_end(training.pid)
    checkpoint = state_of(run_dir)
    n_rows = len((run_dir / "metrics.csv").read_text().splitlines()) - 1
    assert n_rows - 1 <= checkpoint["epoch"] + 1 <= n_rows + 1 and checkpoint["epoch"] >= 2
    assert all(
        torch.isfinite(value).all()
        for value in checkpoint["state_dict"].values()
        if value.is_floating_point()
    )


def test_loader_processes_end_with_a_killed_training(tmp_path, packed):
    """They take no stop signal from others, so nothing else would end them."""
    run_dir = tmp_path / "runs" / "finetune" / "alone"
    with start_as_from_a_terminal(
        arguments_of("finetune", packed, "alone", 400), tmp_path
    ) as training:
        deadline = time.monotonic() + 200
        while not (run_dir / "metrics.csv").is_file() or len(members(training.pid)) < 3:
            assert time.monotonic() < deadline and training.poll() is None, training.stderr.read()
            time.sleep(0.05)
        training.kill()
        training.wait()
        wait_for_the_end(training.pid)


def test_a_kill_between_the_files_of_an_epoch_loses_neither(tmp_path, packed):
    """Killed as soon as the last epoch's first file is there, whichever it is, the run still ends
    with both.
    """
    command = [sys.executable, *arguments_of("finetune", packed, "between", 1)]
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text(
        "import os\nreplace = os.replace\n"
        "def and_die(source, target, *a, **k):\n"
        "    replace(source, target, *a, **k)\n"
        "    if str(target).endswith('.ckpt'): os.kill(os.getpid(), 9)\n"
        "os.replace = and_die\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(shim)},
        capture_output=True,
        timeout=200,
    )
    run_dir = tmp_path / "runs" / "finetune" / "between"
    assert (
        first.returncode == SIGKILLED and len(list((run_dir / "checkpoints").glob("*.ckpt"))) == 1
    )
    second = subprocess.run(
        [*command, "--resume", str(run_dir)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert second.returncode == 0, second.stderr[-2000:]
    assert {p.name for p in (run_dir / "checkpoints").iterdir()} == {
        "encoder-ep_1.ckpt",
        "last.ckpt",
    }
