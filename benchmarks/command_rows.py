"""Time and memory of whole commands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.compact_rows import COMPACT, native_classifier
from benchmarks.data_rows import write_noise
from benchmarks.table import Row, seconds_row
from benchmarks.timing import seconds_of, take_turns
from benchmarks.work import Size, Work
from preprocessing.event_archive import EventArchive
from preprocessing.simulate.simulated_days import simulate_continuous

ROOT = Path(__file__).resolve().parent.parent
DAY_S = 86_400
SHORT_S = 60  # of continuous data: mostly the start of the command
EVENTS_PER_HOUR = 30
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
# ends the process at the end of the first training step
FIRST_STEP = """
import os, runpy, sys
from training.callbacks import SeedEveryStep
SeedEveryStep.on_train_batch_end = lambda *_: os._exit(0)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
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


def start_rows(size: Size, folder: Path) -> Iterator[Row]:
    """Measure the time until the help, and until the first training step has ended."""
    help_command = [sys.executable, str(ROOT / "sslearn.py"), "--help"]
    first_step = _pretraining(write_noise(folder / "start", size.n_memory), FIRST_STEP, "bench")
    for what, command, goal in (
        ("--help", help_command, 1.5),
        ("from the command to the first training step", first_step, 15.0),
    ):
        seconds = seconds_of(partial(_run, command, folder))
        yield seconds_row(what, seconds, goal)


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


def demo_row(size: Size, folder: Path) -> Row:
    """Measure `make demo`, simulation included, in a temporary folder."""
    place = folder / "demo"
    place.mkdir()
    # the demo's configurations name these folders relative to the current one
    for name in ("configs", "original_implementation"):
        (place / name).symlink_to(ROOT / name)
    command = [
        sys.executable,
        str(ROOT / "reproduce.py"),
        "--config",
        "configs/demo.yaml",
        *size.demo,
    ]
    seconds = seconds_of(lambda: _run(command, place))
    return Row(
        "make demo, from start to end",
        "",
        f"{seconds / 60:.2g} min",
        "",
        "≤ 3 min",
        seconds <= 180,
    )
