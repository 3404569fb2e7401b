"""Measure the paper's whole experiment on a GPU: python -m benchmarks.gpu [--archive DIR] [--small] [--out FILE]

Pretraining of 300 epochs, fine-tuning of 100, evaluation of the 364 test events, prediction of 60 000 events. Events are noise of
the real archive's size, made here, or a packed archive. Needs neither ObsPy nor wandb nor pydantic. Without a GPU it runs on
the CPU; give it --small there.
"""

import argparse
import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.networks import build_classifier, build_pretraining
from benchmarks.timing import machine, seconds_of
from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg
from preprocessing.dataset import EventDataModule, Sensors, WaveformStore
from preprocessing.event_archive import EventArchive
from preprocessing.limits import UNLABELED
from utils.parallel import keep_freed_memory

N_PROFILED_STEPS = 20


@dataclass(frozen=True)
class Size:
    """Say how large the work is; the defaults are the paper's."""

    n_labelled: int = 1818
    n_unlabelled: int = 1611
    n_sensors: int = 24
    n_samples: int = 16_000
    ssl_backbone: str = "ResNet34Encoder"
    classifier_backbones: tuple[str, ...] = ("ResNet18Encoder", "ResNet34Encoder")
    ssl_epochs: int = 300
    classifier_epochs: int = 100
    ssl_batch: int = 128
    classifier_batch: int = 64
    projector: int = 4096
    n_predicted: int = 60_000
    predicted_batch: int = 64
    resize_size: int | None = 128


SMALL = Size(40, 8, 3, 4000, "ResNet18Encoder", ("ResNet18Encoder",), 1, 1, 8, 8, 64, 16, 8, 32)


class NoiseArchive:
    """Stand in for an archive: events of noise that are a function of their number."""

    sampling_rate_hz = 1000.0

    def __init__(self, size: Size):
        self.n_samples = size.n_samples
        classes = [f"class {number % 8}" for number in range(size.n_labelled)]
        self.labels = np.array(classes + [UNLABELED] * size.n_unlabelled)
        self.class_names = tuple(sorted(set(classes)))
        self.names = np.array([f"{number:06d}" for number in range(len(self.labels))])
        self.live = np.ones((len(self.labels), size.n_sensors), dtype=bool)

    def __len__(self) -> int:
        return len(self.labels)

    def waveforms(self, index: int, sensors: Sequence[int] | None = None) -> np.ndarray:
        """Return one event (S, T)."""
        block = np.random.default_rng(index).standard_normal((self.live.shape[1], self.n_samples), dtype=np.float32) * 50
        return block if sensors is None else block[sensors]


class Experiment:
    """Run the parts of the experiment on one device, all of them on the same events in its memory."""

    def __init__(self, archive: EventArchive | NoiseArchive, size: Size, device: torch.device):
        self.archive, self.size, self.device = archive, size, device
        self.spectrogram = {"sampling_rate_hz": archive.sampling_rate_hz, "resize_size": size.resize_size}
        self.on_gpu = device.type == "cuda"
        everything = np.arange(len(archive))
        self.loading_s = seconds_of(lambda: setattr(self, "store", WaveformStore(archive, everything, device)))

    def data(self, events: np.ndarray, batch_size: int, sensors: Sensors) -> EventDataModule:
        """Serve four fifths of ``events`` for training and the rest for tests."""
        shuffled = np.random.default_rng(0).permutation(events)
        n_test = len(events) // 5
        data = EventDataModule(self.archive, shuffled[n_test:], shuffled[:n_test], class_names=self.archive.class_names,
                               batch_size=batch_size, sensors_train=sensors, preload="device")  # fmt: skip
        data.store = self.store
        return data

    def trainer(self, n_epochs: int) -> pl.Trainer:
        """Build a Trainer like that of the entry scripts, without their files."""
        return pl.Trainer(accelerator="gpu" if self.on_gpu else "cpu", devices=1, max_epochs=n_epochs, logger=False,
                          precision="bf16-mixed" if self.on_gpu else "32-true", enable_checkpointing=False,
                          enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False)  # fmt: skip

    def pretraining_model(self) -> VNIbCReg:
        """Build the model of pretraining."""
        return build_pretraining(self.size.ssl_backbone, self.size.projector, self.spectrogram)

    def pretrain(self) -> float:
        """Return the seconds of pretraining on all events."""
        data = self.data(np.arange(len(self.archive)), self.size.ssl_batch, "pair")
        return seconds_of(lambda: self.trainer(self.size.ssl_epochs).fit(self.pretraining_model(), datamodule=data))

    def finetune(self, backbone: str) -> tuple[float, float, EventClassifier]:
        """Return the seconds of training and of evaluating the test events, and the classifier."""
        names = self.archive.class_names
        model = build_classifier(names, backbone, self.spectrogram, pre_trigger_s=1.0)
        data = self.data(np.flatnonzero(self.archive.labels != UNLABELED), self.size.classifier_batch, "one")
        trainer = self.trainer(self.size.classifier_epochs)
        training_s = seconds_of(lambda: trainer.fit(model, datamodule=data))
        return training_s, seconds_of(lambda: trainer.test(model, datamodule=data, verbose=False)), model

    def predict(self, model: EventClassifier) -> float:
        """Return the seconds of predicting events, those of the archive again and again."""
        model.to(self.device)
        n, batch = len(self.archive), self.size.predicted_batch
        sensors = torch.arange(self.archive.live.shape[1], device=self.device).expand(batch, -1)

        def work() -> None:
            for start in range(0, self.size.n_predicted, batch):
                events = torch.arange(start, start + batch, device=self.device) % n
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu):
                    model.predict_events(self.store.take(events, sensors))

        return seconds_of(work)

    def busy_share(self) -> float | None:
        """Return the share of time in which the GPU computes during pretraining; None without a GPU."""
        if not self.on_gpu:
            return None
        data = self.data(np.arange(len(self.archive)), self.size.ssl_batch, "pair")
        watch = _BusyWatch()
        trainer = self.trainer(3)
        trainer.callbacks.append(watch)
        trainer.fit(self.pretraining_model(), datamodule=data)
        return watch.share


class _BusyWatch(pl.Callback):
    """Profile some steps of the second epoch: the kernels' time over the time that went by."""

    share = float("nan")

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            torch.cuda.synchronize()
            self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
            self.profiler.__enter__()
            self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int) -> None:
        last = min(N_PROFILED_STEPS, trainer.num_training_batches) - 1
        if trainer.current_epoch == 1 and batch_idx == last:
            torch.cuda.synchronize()
            elapsed_s = time.perf_counter() - self.start
            self.profiler.__exit__(None, None, None)
            kernels_us = sum(event.self_device_time_total for event in self.profiler.key_averages())
            self.share = kernels_us * 1e-6 / elapsed_s


def measure(experiment: Experiment) -> list[tuple[str, str, str]]:
    """Run everything; return lines of what, result and goal."""
    size, lines = experiment.size, []

    def note(what: str, result: str, goal: str = "") -> None:
        lines.append((what, result, goal))
        print(f"{what}: {result} {f'(goal {goal})' if goal else ''}", flush=True)

    note(f"loading {len(experiment.archive)} events to the device", f"{experiment.loading_s:.1f} s")
    what = f"pretraining, {size.ssl_backbone}, batch {size.ssl_batch}, projector {size.projector}, {size.ssl_epochs} epochs"
    note(what, f"{experiment.pretrain():.1f} s", "≤ 120 s")
    share = experiment.busy_share()
    note("GPU busy during pretraining", "no GPU" if share is None else f"{100 * share:.0f} %", "≥ 90 %")
    classifiers = []
    for backbone in size.classifier_backbones:
        training_s, evaluation_s, model = experiment.finetune(backbone)
        classifiers.append(copy.deepcopy(model))
        note(
            f"fine-tuning, {backbone}, batch {size.classifier_batch}, {size.classifier_epochs} epochs",
            f"{training_s:.1f} s",
            "≤ 60 s",
        )
        note(f"evaluation of {len(model.evaluation.labels)} events, {backbone}", f"{evaluation_s:.1f} s")
    what = f"prediction of {size.n_predicted} events x {experiment.archive.live.shape[1]} sensors, {size.classifier_backbones[0]}"
    note(what, f"{experiment.predict(classifiers[0]):.1f} s", "≤ 90 s")
    return lines


def main() -> None:
    """Read the command line, measure, print a table and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", help="a packed archive (default: noise of the real archive's size)")
    parser.add_argument("--small", action="store_true", help="toy sizes, to see that it works; the numbers mean nothing")
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the commands do
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    size = SMALL if arguments.small else Size()
    archive = EventArchive(arguments.archive) if arguments.archive else NoiseArchive(size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines: Sequence[tuple[str, str, str]] = measure(Experiment(archive, size, device))
    table = "\n".join(["| | result | goal |", "|---|---|---|", *(f"| {' | '.join(line)} |" for line in lines)])
    table = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}\n\n{table}\n"
    print(table)
    if arguments.out:
        arguments.out.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
