"""What the data cost: input, packing, starting, and whether memory and time grow as they should."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks import published
from benchmarks.network_rows import classifier, ssl_model
from benchmarks.networks import NATIVE_IMAGES, build_pretraining
from benchmarks.table import Row, Size, Work, compare
from benchmarks.timing import alternate, own_process, seconds_of
from preprocessing.dataset import EventDataModule, EventDataset
from preprocessing.event_archive import ArchiveWriter, EventArchive

ROOT = Path(__file__).resolve().parent.parent
PACKING = """
import sys, time
from preprocessing.packing import pack_recordings
from utils.parallel import keep_freed_memory; keep_freed_memory()
start = time.perf_counter()
pack_recordings(sys.argv[1], sys.argv[2])
with open("packing_s", "w") as file:
    file.write(str(time.perf_counter() - start))
"""
# writes the largest resident memory that the process has had
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


def published_items(item: Callable[[Path, np.random.Generator], Tensor], files: Sequence[Path]) -> Callable[[], None]:
    """Return the published way of making a batch of items of these files."""
    rng = np.random.default_rng(0)

    def make() -> None:
        torch.stack([item(path, rng) for path in files])

    return make


def input_rows(work: Work) -> Iterator[Row]:
    """Measure how many items per second become crops, or whole images."""
    keys = [(0, event) for event in range(len(work.files))]
    model, network = ssl_model(work.size), classifier(work.size)

    def crops(data: EventDataset) -> Callable[[], Tensor]:
        def make() -> Tensor:
            batch = data.__getitems__(keys)
            return model.cut_views(batch.waveforms, batch.draws)

        return make

    def images(data: EventDataset) -> Callable[[], Tensor]:
        return lambda: network.to_images(data.__getitems__(keys).waveforms[:, 0])

    for name, goal, item, sensors, make in (("SSL input", 50, published.ssl_item, "pair", crops),
                                            ("supervised input", 15, published.supervised_item, "one", images)):  # fmt: skip
        with own_process(published_items, item, work.files) as published_way:
            ways = {
                "published": published_way,
                "from the archive": make(work.dataset(sensors, in_memory=False)),
                "preload: ram": make(work.dataset(sensors, in_memory=True)),
            }
            seconds = alternate(ways, max(7, work.size.n_rounds))
        for way in ("from the archive", "preload: ram"):
            yield compare(seconds["published"], seconds[way], len(keys), goal, f"{name}, {way}", "items")


def packing_row(work: Work, folder: Path) -> Row:
    """Measure how many recordings per second become an archive, on all cores."""
    source = folder / "many" / "Regional"
    source.mkdir(parents=True)
    for number in range(work.size.n_packed):
        (source / f"{number}.dat").symlink_to(work.files[number % len(work.files)])
    # not in this process: its workers would first import all that a benchmark does
    _run([sys.executable, "-c", PACKING, str(source.parent), str(folder / "packed")], folder)
    rate = work.size.n_packed / float((folder / "packing_s").read_text(encoding="utf-8"))
    return Row(
        f"packing {work.size.n_packed} events on {os.cpu_count()} cores", "", f"{rate:.0f} events/s", "", "≥ 150", rate >= 150
    )


def start_rows(size: Size, folder: Path) -> Iterator[Row]:
    """Measure how long a user waits: for the help, and for the first step of a training."""
    script, archive = str(ROOT / "sslearn.py"), write_noise(folder / "start", size.n_memory)
    first_step = [sys.executable, "-c", FIRST_STEP, script, "--config_ssl", str(ROOT / "configs" / "demo_ssl.yaml"),
                  "dataset.source=folder", f"dataset.root={archive.archive_dir}", "dataset.batch_size=16", "dataset.preload=none", "dataset.n_simulated=null",
                  "run_name=bench"]  # fmt: skip
    for what, command, goal in (("--help", [sys.executable, script, "--help"], 1.5), ("from the command to the first training step",
                                                                                    first_step, 15.0)):  # fmt: skip
        seconds = seconds_of(lambda command=command: _run(command, folder))
        yield Row(what, "", f"{seconds:.2g} s", "", f"≤ {goal:g} s", seconds <= goal)


def _run(command: list[str], folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def write_noise(archive_dir: Path, n_events: int) -> EventArchive:
    """Write an archive of events of noise on two channels, in two classes."""
    rng = np.random.default_rng(0)
    with ArchiveWriter(archive_dir, 1000.0, 16.0) as writer:
        for number in range(n_events):
            writer.add(
                f"{number:06d}", rng.normal(0, 50, (2, 16000)).astype(np.float32), "ab"[number % 2], "2020-01-01T00:00:00Z"
            )
    return EventArchive(archive_dir)


def memory_row(size: Size, folder: Path) -> Row:
    """Compare the largest memory of trainings on 1x and 10x the events, with ``preload: none`` (Linux only)."""
    peaks = []
    for factor in (1, 10):
        archive = write_noise(folder / f"noise-{factor}x", size.n_memory * factor)
        command = [sys.executable, "-c", PEAK_MEMORY, str(ROOT / "sslearn.py"), "--config_ssl", str(ROOT / "configs" / "demo_ssl.yaml"),
                   "dataset.source=folder", f"dataset.root={archive.archive_dir}", "dataset.batch_size=16", "dataset.preload=none", "dataset.n_simulated=null",
                   "trainer_params.max_epochs=1", "exp_params.model_save_ep_period=-1", "exp_params.knn_acc_record_ep_period=-1",
                   f"run_name=memory-{factor}x"]  # fmt: skip
        _run(command, folder)
        peaks.append(int((folder / "peak_kb").read_text(encoding="utf-8")))
    growth = 100 * (peaks[1] / peaks[0] - 1)
    return Row(f"memory of a training at {size.n_memory} and {10 * size.n_memory} events, preload: none", "",
               f"{peaks[0] / 1024:.0f} and {peaks[1] / 1024:.0f} MB", f"{growth:+.1f} %", "within 10 %", abs(growth) <= 10)  # fmt: skip


class _EpochSeconds(pl.Callback):
    """Note how long each epoch took."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def linear_row(size: Size, folder: Path) -> Row:
    """Compare the cost of an epoch per event at 1x, 4x and 16x the events, by the fastest of the rounds."""
    archive = write_noise(folder / "noise-16x", 16 * size.n_linear)
    ways, watches = {}, {factor: _EpochSeconds() for factor in (1, 4, 16)}
    for factor, watch in watches.items():
        events = np.arange(size.n_linear * factor)
        data = EventDataModule(archive, events, events[:2], class_names=archive.class_names, batch_size=16, sensors_train="pair")
        ways[factor] = lambda data=data, watch=watch: _one_epoch(data, watch, folder)
    alternate(ways, size.n_rounds)
    each = {factor: min(watch.seconds[1:]) / (size.n_linear * factor) for factor, watch in watches.items()}
    spread = 100 * (max(each.values()) / min(each.values()) - 1)
    shown = ", ".join(f"{1e3 * seconds:.3g}" for seconds in each.values())
    return Row(f"an epoch at {size.n_linear}, {4 * size.n_linear} and {16 * size.n_linear} events", "", f"{shown} ms per event",
               f"{spread:.2g} % apart", "within 10 %", spread <= 10)  # fmt: skip


def _one_epoch(data: EventDataModule, watch: _EpochSeconds, folder: Path) -> None:
    model = build_pretraining("ResNet18Encoder", 512, NATIVE_IMAGES)
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, limit_val_batches=0, logger=False, callbacks=[watch], enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
                         use_distributed_sampler=False)  # fmt: skip
    trainer.fit(model, datamodule=data)
