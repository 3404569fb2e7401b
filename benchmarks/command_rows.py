"""Time and memory of whole commands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.network_rows import COMPACT, native_classifier
from benchmarks.timing import Row, take_turns
from benchmarks.work import Size, Work
from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import EventArchive
from preprocessing.simulate.simulated_days import simulate_continuous

ROOT = Path(__file__).resolve().parent.parent
DAY_S = 86_400
SHORT_S = 60  # of continuous data: mostly the start of the command
EVENTS_PER_HOUR = 30
EARLIER_COMMIT = "89da3a0"  # predict.py still imported all that a training needs
N_PAIRS = 7  # of predictions by both commits
ONE_EPOCH = (
    "trainer_params.max_epochs=1",
    "exp_params.model_save_ep_period=-1",
    "exp_params.knn_acc_record_ep_period=-1",
)
PACKING = """
import sys, time
from preprocessing.packing import pack_recordings
from utils.parallel import keep_freed_memory; keep_freed_memory()
start = time.perf_counter()
pack_recordings(sys.argv[1], sys.argv[2])
with open("packing_s", "w") as file:
    file.write(str(time.perf_counter() - start))
"""
# writes the peak resident memory of the process
PEAK_MEMORY = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
with open("/proc/self/status") as status, open("peak_kb", "w") as peak:
    peak.write(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def _pretraining(archive: EventArchive, prelude: str, run_name: str, *overrides: str) -> list[str]:
    """Return the command of a pretraining on an archive file; ``prelude`` runs the script."""
    script, config = ROOT / "sslearn.py", ROOT / "configs" / "demo_ssl.yaml"
    dataset = {
        "source": "folder",
        "root": archive.archive_dir,
        "n_simulated": "null",
        "batch_size": 16,
        "preload": "none",
    }
    settings = [f"dataset.{key}={value}" for key, value in dataset.items()]
    settings.append("model_params.proj_out=8")  # smaller than the batch
    command = [sys.executable, "-c", prelude, str(script), "--config_ssl", str(config)]
    return [*command, *settings, f"run_name={run_name}", *overrides]


def _run(command: list[str], folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        output = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {output}")


def write_noise(archive_dir: Path, n_events: int) -> EventArchive:
    """Write an archive of random noise: two channels, two classes."""
    rng = np.random.default_rng(0)
    with ArchiveWriter(archive_dir, 1000.0, 16.0) as writer:
        for number in range(n_events):
            writer.add(
                f"{number:06d}",
                rng.normal(0, 50, (2, 16000)).astype(np.float32),
                "ab"[number % 2],
                "2020-01-01T00:00:00Z",
            )
    return EventArchive(archive_dir)


def packing_row(work: Work, folder: Path) -> Row:
    """Measure packing: recordings per second, on all cores."""
    n_events, source = work.size.n_packed, folder / "many" / "Regional"
    source.mkdir(parents=True)
    for number in range(n_events):
        (source / f"{number}.dat").symlink_to(work.files[number % len(work.files)])
    # in a separate process: workers of this one would first import the benchmarks
    _run([sys.executable, "-c", PACKING, str(source.parent), str(folder / "packed")], folder)
    rate = n_events / float((folder / "packing_s").read_text(encoding="utf-8"))
    what = f"packing {n_events} events on {os.cpu_count()} cores"
    return Row(what, "", f"{rate:.0f} events/s", "", "≥ 150", rate >= 150)


def memory_row(size: Size, folder: Path) -> Row:
    """Compare the peak memory of trainings on 1x and 10x the events (Linux only)."""
    peaks = []
    for factor in (1, 10):
        name = f"memory-{factor}x"
        archive = write_noise(folder / name, size.n_memory * factor)
        _run(_pretraining(archive, PEAK_MEMORY, name, *ONE_EPOCH), folder)
        peaks.append(int((folder / "peak_kb").read_text(encoding="utf-8")))
    growth = 100 * (peaks[1] / peaks[0] - 1)
    what = f"memory of a training at {size.n_memory} and {10 * size.n_memory} events, preload: none"
    return Row(
        what,
        "",
        f"{peaks[0] / 1024:.0f} and {peaks[1] / 1024:.0f} MB",
        f"{growth:+.1f} %",
        "within 10 %",
        abs(growth) <= 10,
    )


def continuous_row(size: Size, folder: Path) -> Row:
    """Measure predict.py on simulated continuous data, extrapolated to a day.

    The start of the command is counted once.
    """
    model = native_classifier(COMPACT, n_samples=16_000)
    checkpoint = {"hyper_parameters": dict(model.hparams), "state_dict": model.state_dict()}
    torch.save(checkpoint, folder / "untrained.ckpt")
    ways, lengths = {}, {"short": SHORT_S, "long": size.continuous_s}
    for name, duration_s in lengths.items():
        recording = folder / f"{name}.mseed"
        n_events = len(simulate_continuous(recording, 0, duration_s, EVENTS_PER_HOUR))
        command = [sys.executable, str(ROOT / "predict.py"), "--ckpt", "untrained.ckpt"]
        command += ["--config_predict", str(ROOT / "configs" / "predict.yaml")]
        command += ["--continuous", str(recording), "--out", f"{name}.csv"]
        ways[name] = partial(_run, command, folder)
    seconds = {name: found[0] for name, found in take_turns(ways, 1).items()}
    per_second = (seconds["long"] - seconds["short"]) / (size.continuous_s - SHORT_S)
    day_s = seconds["short"] + per_second * (DAY_S - SHORT_S)
    what = (
        f"a day of 24 channels at 1000 Hz through predict.py, {COMPACT}, "
        f"scaled from {size.continuous_s / 60:g} minutes with {n_events} events"
    )
    return Row(
        what,
        "",
        f"{day_s / 60:.2g} min",
        f"{DAY_S / day_s:.0f} x real time",
        "≤ 4 min",
        day_s <= 240,
    )


def prediction_row(work: Work, folder: Path, against: str) -> Row:
    """Measure processor time and memory of predict.py for one file, against another commit.

    Both run in turn. ``against`` is a commit of this repository; the row says so if it is not here.
    """
    what = f"one file through predict.py --ckpt demo (there: commit {against})"
    ways: dict[str, list[tuple[float, float]]] = {"there": [], "here": []}
    with _checkout(against, folder / "there") as there:
        if there is None:
            return Row(what, "this commit is not in the repository", "", "", "")
        for number in range(N_PAIRS):
            for name, tree in (("there", there), ("here", ROOT)):
                out = folder / f"{name}-{number}.csv"
                command = [str(tree / "predict.py"), "--ckpt", "demo", str(work.files[0])]
                cost = _cost([*command, "--out", str(out)], folder)
                if cost is None:  # that commit needs torchvision, this one only for tests
                    return Row(what, f"does not run {name} (make test installs all)", "", "", "")
                ways[name].append(cost)
    pairs = list(zip(ways["here"], ways["there"]))
    seconds, memory = (median(here[k] / there[k] for here, there in pairs) for k in range(2))
    shown = {
        name: f"{median(s for s, _ in costs):.2f} s, {median(mb for _, mb in costs):.0f} MB"
        for name, costs in ways.items()
    }
    result = f"{seconds:.2f} of the processor time, {memory:.2f} of the memory"
    goal = "≤ 0.45, ≤ 0.6"
    return Row(what, shown["there"], shown["here"], result, goal, seconds <= 0.45 and memory <= 0.6)


@contextmanager
def _checkout(commit: str, folder: Path) -> Iterator[Path | None]:
    """Check a commit out into a folder; None if it is not there. Removes it afterwards."""
    git = ["git", "-C", str(ROOT), "worktree"]
    made = subprocess.run(
        [*git, "add", "--detach", str(folder), commit], capture_output=True, check=False
    )
    try:
        yield folder if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def _cost(command: list[str], folder: Path) -> tuple[float, float] | None:
    """Run a Python script; return its processor time in s and peak memory in MB (Linux).

    None if it fails.
    """
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        return None
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
