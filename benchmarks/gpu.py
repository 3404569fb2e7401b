"""Time the paper's whole experiment on a GPU: python -m benchmarks.gpu [--archive DIR]

Pretraining of 300 epochs, fine-tuning of 100, evaluation of the 364 test events, prediction of
60 000 events. The events are random noise (as many as in the real archive) or a packed archive.
ObsPy, wandb and pydantic are not needed. Without a GPU it runs on the CPU; use --small there.
"""

import argparse
import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from benchmarks.network_rows import BF16, build_classifier, build_pretraining
from benchmarks.timing import Row, parse, report, seconds_of, seconds_row
from benchmarks.work import Networks
from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg
from preprocessing.channels import UNLABELED
from preprocessing.data_module import EventDataModule
from preprocessing.dataset import Sensors, WaveformStore
from preprocessing.event_archive import EventArchive
from utils.precision import has_bf16

N_PROFILED_STEPS = 20


def quiet_trainer(
    n_epochs: int, device: torch.device, precision: str, **options: Any
) -> pl.Trainer:
    """Build a Trainer like that of the commands, but without files and messages."""
    return pl.Trainer(
        max_epochs=n_epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision=BF16 if precision == BF16 else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **options,
    )


@dataclass(frozen=True)
class Size(Networks):
    """Sizes of the experiment; the defaults are the paper's."""

    n_labelled: int = 1818
    n_unlabelled: int = 1611
    n_sensors: int = 24
    n_samples: int = 16_000
    classifier_backbones: tuple[str, ...] = ("ResNet18Encoder", "ResNet34Encoder")
    ssl_epochs: int = 300
    classifier_epochs: int = 100
    n_predicted: int = 60_000
    predicted_batch: int = 64
    resize_size: int | None = 128


SMALL = Size(
    ssl_backbone="ResNet18Encoder",
    ssl_batch=8,
    supervised_batch=8,
    projector=64,
    n_labelled=40,
    n_unlabelled=8,
    n_sensors=3,
    n_samples=4000,
    resize_size=32,
    classifier_backbones=("ResNet18Encoder",),
    ssl_epochs=1,
    classifier_epochs=1,
    n_predicted=16,
    predicted_batch=8,
)


class NoiseArchive:
    """Events of random noise, seeded by their number, with the interface of ``EventArchive``."""

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
        shape, rng = (self.live.shape[1], self.n_samples), np.random.default_rng(index)
        block = rng.standard_normal(shape, dtype=np.float32) * 50
        return block if sensors is None else block[sensors]


class Experiment:
    """The parts of the experiment on one device; the events are in its memory."""

    def __init__(self, archive: EventArchive, size: Size, device: torch.device):
        self.archive, self.size, self.device = archive, size, device
        rate_hz, rows = archive.sampling_rate_hz, size.resize_size
        self.spectrogram = {"sampling_rate_hz": rate_hz, "resize_size": rows}
        self.precision = BF16 if has_bf16(device) else "float32"
        self.labelled = np.flatnonzero(archive.labels != UNLABELED)
        self.loading_s = seconds_of(self._load)

    def _load(self) -> None:
        self.store = WaveformStore(self.archive, np.arange(len(self.archive)), self.device)

    def data(self, events: np.ndarray, batch_size: int, sensors: Sensors) -> EventDataModule:
        """Return a data module with four fifths of ``events`` for training, the rest for tests."""
        shuffled = np.random.default_rng(0).permutation(events)
        n_test = len(events) // 5
        data = EventDataModule(
            self.archive,
            shuffled[n_test:],
            shuffled[:n_test],
            batch_size=batch_size,
            class_names=self.archive.class_names,
            sensors_train=sensors,
            preload="device",
        )
        data.store = self.store
        return data

    def pretraining_model(self) -> VNIbCReg:
        """Build the pretraining model."""
        return build_pretraining(self.size.ssl_backbone, self.size.projector, self.spectrogram)

    def pretrain(self) -> float:
        """Return the seconds of pretraining on all events."""
        data = self.data(np.arange(len(self.archive)), self.size.ssl_batch, "pair")
        trainer = quiet_trainer(self.size.ssl_epochs, self.device, self.precision)
        model = self.pretraining_model()
        return seconds_of(lambda: trainer.fit(model, datamodule=data))

    def finetune(self, backbone: str) -> tuple[float, float, EventClassifier]:
        """Return the seconds of training and of evaluating the test events, and the classifier."""
        names = self.archive.class_names
        model = build_classifier(names, backbone, self.spectrogram, pre_trigger_s=1.0)
        data = self.data(self.labelled, self.size.supervised_batch, "one")
        trainer = quiet_trainer(self.size.classifier_epochs, self.device, self.precision)
        training_s = seconds_of(lambda: trainer.fit(model, datamodule=data))
        return (
            training_s,
            seconds_of(lambda: trainer.test(model, datamodule=data, verbose=False)),
            model,
        )

    def predict(self, model: EventClassifier) -> float:
        """Return the seconds of predicting ``n_predicted`` events (the archive's, repeated)."""
        model.to(self.device)
        n, batch = len(self.archive), self.size.predicted_batch
        sensors = torch.arange(self.archive.live.shape[1], device=self.device).expand(batch, -1)

        def work() -> None:
            for start in range(0, self.size.n_predicted, batch):
                events = torch.arange(start, start + batch, device=self.device) % n
                with torch.autocast(
                    self.device.type,
                    torch.bfloat16,
                    enabled=self.precision == BF16,
                ):
                    model.predict_events(self.store.take(events, sensors))

        return seconds_of(work)

    def busy_share(self) -> float | None:
        """Return the share of pretraining in which the GPU computes; None without a GPU."""
        if self.device.type != "cuda":
            return None
        data = self.data(np.arange(len(self.archive)), self.size.ssl_batch, "pair")
        watch = _BusyWatch()
        trainer = quiet_trainer(3, self.device, self.precision, callbacks=[watch])
        trainer.fit(self.pretraining_model(), datamodule=data)
        return watch.share


class _BusyWatch(pl.Callback):
    """Profile steps of the second epoch: time in GPU kernels divided by elapsed time."""

    share = float("nan")

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        batch: object,
        batch_idx: int,
    ) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            torch.cuda.synchronize()
            self.profiler = torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CUDA],
            )
            self.profiler.__enter__()
            self.start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        last = min(N_PROFILED_STEPS, trainer.num_training_batches) - 1
        if trainer.current_epoch == 1 and batch_idx == last:
            torch.cuda.synchronize()
            elapsed_s = time.perf_counter() - self.start
            self.profiler.__exit__(None, None, None)
            kernels_us = sum(event.self_device_time_total for event in self.profiler.key_averages())
            self.share = kernels_us * 1e-6 / elapsed_s


def measure(experiment: Experiment) -> Iterator[Row]:
    """Run the parts of the experiment; yield a row for each."""
    size, n_events = experiment.size, len(experiment.archive)
    n_sensors = experiment.archive.live.shape[1]
    yield seconds_row(f"loading {n_events} events to the device", experiment.loading_s)
    what = (
        f"pretraining, {size.ssl_backbone}, batch {size.ssl_batch}, "
        f"projector {size.projector}, {size.ssl_epochs} epochs"
    )
    yield seconds_row(what, experiment.pretrain(), 120)
    share = experiment.busy_share()
    shown = "no GPU" if share is None else f"{100 * share:.0f} %"
    reached = None if share is None else share >= 0.9
    yield Row("GPU busy during pretraining", "", shown, "", "≥ 90 %", reached)
    classifiers = []
    for backbone in size.classifier_backbones:
        training_s, evaluation_s, model = experiment.finetune(backbone)
        classifiers.append(copy.deepcopy(model))
        n_epochs = size.classifier_epochs
        what = f"fine-tuning, {backbone}, batch {size.supervised_batch}, {n_epochs} epochs"
        yield seconds_row(what, training_s, 60)
        n_evaluated = len(experiment.labelled) // 5
        yield seconds_row(f"evaluation of {n_evaluated} events, {backbone}", evaluation_s)
    backbone = size.classifier_backbones[0]
    what = f"prediction of {size.n_predicted} events x {n_sensors} sensors, {backbone}"
    yield seconds_row(what, experiment.predict(classifiers[0]), 90)


def main() -> None:
    """Parse the command line, measure, print the table and write it to --out."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--archive",
        help="a packed archive (default: noise of the real archive's size)",
    )
    arguments = parse(parser)
    size = SMALL if arguments.small else Size()
    archive: Any = EventArchive(arguments.archive) if arguments.archive else NoiseArchive(size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report(measure(Experiment(archive, size, device)), arguments.out)


if __name__ == "__main__":
    main()
