"""Speed of the input: making crops and images, and time per event of growing archives."""

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
from benchmarks.table import Row, compare
from benchmarks.timing import alternate, own_process
from benchmarks.trainer import quiet_trainer
from benchmarks.work import Size, Work
from preprocessing.archive_writer import ArchiveWriter
from preprocessing.data_module import EventDataModule
from preprocessing.dataset import EventDataset, Sensors
from preprocessing.event_archive import EventArchive


def published_items(
    item: Callable[[Path, np.random.Generator], Tensor],
    files: Sequence[Path],
) -> Callable[[], None]:
    """Return the published way to make a batch of items from files."""
    rng = np.random.default_rng(0)

    def make() -> None:
        torch.stack([item(path, rng) for path in files])

    return make


def input_rows(work: Work) -> Iterator[Row]:
    """Measure items per second: crops for pretraining and whole images."""
    keys = [(0, event) for event in range(len(work.files))]
    model, network = ssl_model(work.size), classifier(work.size.classifier_backbone)

    def crops(data: EventDataset) -> Callable[[], Tensor]:
        def make() -> Tensor:
            batch = data.__getitems__(keys)
            return model.cut_views(batch.waveforms, batch.draws)

        return make

    def images(data: EventDataset) -> Callable[[], Tensor]:
        return lambda: network.to_images(data.__getitems__(keys).waveforms[:, 0])

    kinds: tuple[tuple[str, float, Callable, Sensors, Callable], ...] = (
        ("SSL input", 50, published.ssl_item, "pair", crops),
        ("supervised input", 15, published.supervised_item, "one", images),
    )
    for name, goal, item, sensors, make in kinds:
        with own_process(published_items, item, work.files) as published_way:
            ways = {
                "published": published_way,
                "from the archive": make(work.dataset(sensors, in_memory=False)),
                "preload: ram": make(work.dataset(sensors, in_memory=True)),
            }
            seconds = alternate(ways, max(7, work.size.n_rounds), work.size.rounds_s)
        for way in ("from the archive", "preload: ram"):
            yield compare(
                seconds["published"],
                seconds[way],
                len(keys),
                goal,
                f"{name}, {way}",
                "items",
            )


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


class _EpochSeconds(pl.Callback):
    """Record the seconds of each epoch."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def linear_row(size: Size, folder: Path) -> Row:
    """Compare an epoch's cost per event at 1x, 4x, 16x the events, from the fastest round."""
    archive = write_noise(folder / "linear", 16 * size.n_linear)
    ways, watches = {}, {factor: _EpochSeconds() for factor in (1, 4, 16)}
    for factor, watch in watches.items():
        events = np.arange(size.n_linear * factor)
        data = EventDataModule(
            archive,
            events,
            events[:2],
            class_names=archive.class_names,
            batch_size=16,
            sensors_train="pair",
        )
        ways[factor] = lambda data=data, watch=watch: _one_epoch(data, watch, folder)
    alternate(ways, size.n_rounds, size.rounds_s)
    fastest = {factor: min(watch.seconds[1:]) for factor, watch in watches.items()}
    each = {factor: seconds / (size.n_linear * factor) for factor, seconds in fastest.items()}
    spread = 100 * (max(each.values()) / min(each.values()) - 1)
    shown = ", ".join(f"{1e3 * seconds:.3g}" for seconds in each.values())
    n = size.n_linear
    return Row(
        f"an epoch at {n}, {4 * n} and {16 * n} events",
        "",
        f"{shown} ms per event",
        f"{spread:.2g} % apart",
        "within 10 %",
        spread <= 10,
    )


def _one_epoch(data: EventDataModule, watch: _EpochSeconds, folder: Path) -> None:
    model = build_pretraining("ResNet18Encoder", 512, NATIVE_IMAGES)
    trainer = quiet_trainer(
        1,
        torch.device("cpu"),
        "float32",
        limit_val_batches=0,
        callbacks=[watch],
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=data)
