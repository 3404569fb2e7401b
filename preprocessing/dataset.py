"""Batches of waveforms, and the LightningDataModule that serves them.

Which sensors an event contributes, where it is cropped and how an epoch is ordered are functions of (seed, epoch, event):
a run is the same with any number of loader workers or processes, and a restart needs nothing but the epoch's number.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from preprocessing.event_archive import EventArchive
from utils.errors import UserError
from utils.workers import workers_for_loaders

N_DRAWS = 8  # uniform numbers per event and epoch: 2 choose sensors, 3 place crops, 3 scale images
N_SENSOR_DRAWS = 2
HELD_OUT, ORDER = 1, 2  # streams of random numbers beside the training stream 0

Sensors = Literal["one", "pair", "all"]
Preload = Literal["none", "ram", "device"]


class EventBatch(NamedTuple):
    """Carry B events: S sensors each, those that do not exist masked out and zero."""

    waveforms: Tensor  # (B, S, T) float32, recorder units
    mask: Tensor  # (B, S) bool
    sensors: Tensor  # (B, S) int64, channel numbers within the event
    labels: Tensor  # (B,) int64, -1 for unlabelled events
    events: Tensor  # (B,) int64, places in the archive
    draws: Tensor  # (B, 6) float32 in [0, 1), for the views


def event_draws(seed: int, stream: int, epoch: int, events: Sequence[int]) -> np.ndarray:
    """Return the (B, 8) uniform numbers that belong to these events in this epoch."""
    generators = (
        np.random.Philox(key=[seed, (stream << 60) | (epoch << 32) | int(event)])
        for event in events
    )
    return np.stack([np.random.Generator(generator).random(N_DRAWS) for generator in generators])


class EventDataset(Dataset):
    """Make batches from keys (epoch, event): ``one`` random living sensor, a ``pair`` drawn with replacement, or ``all``."""

    def __init__(
        self,
        archive: EventArchive,
        labels: np.ndarray,
        sensors: Sensors,
        seed: int,
        stream: int = 0,
        store: "WaveformStore | None" = None,
    ):
        self.archive, self.labels, self.sensors = archive, labels, sensors
        self.seed, self.stream, self.store = seed, stream, store

    def __getitems__(self, keys: list[tuple[int, int]]) -> EventBatch:
        """Return one batch; all keys belong to one epoch."""
        epoch, events = keys[0][0], np.array([event for _, event in keys])
        draws = event_draws(self.seed, self.stream, epoch, events)
        sensors = self._choose_sensors(events, draws[:, :N_SENSOR_DRAWS])
        return EventBatch(
            waveforms=self._read(events, sensors),
            mask=torch.from_numpy(sensors >= 0),
            sensors=torch.from_numpy(sensors),
            labels=torch.from_numpy(self.labels[events]),
            events=torch.from_numpy(events),
            draws=torch.from_numpy(draws[:, N_SENSOR_DRAWS:]).float(),
        )

    def _choose_sensors(self, events: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return (B, S) channel numbers of living sensors, -1 where there is none."""
        live = self.archive.live[events]
        n_live = live.sum(1)
        # stable: living sensors first, in their own order
        living = np.argsort(~live, axis=1, kind="stable")
        if self.sensors == "all":
            living[np.arange(live.shape[1]) >= n_live[:, None]] = -1
            return living[:, : n_live.max()]
        n_drawn = 2 if self.sensors == "pair" else 1
        return np.take_along_axis(
            living, (draws[:, :n_drawn] * n_live[:, None]).astype(np.int64), axis=1
        )

    def _read(self, events: np.ndarray, sensors: np.ndarray) -> Tensor:
        if self.store is not None:
            return self.store.take(torch.from_numpy(events), torch.from_numpy(sensors))
        waveforms = np.zeros((*sensors.shape, self.archive.n_samples), dtype=np.float32)
        for row, (event, chosen) in enumerate(zip(events, sensors)):
            chosen = chosen[chosen >= 0]
            waveforms[row, : len(chosen)] = self.archive.waveforms(event, chosen)
        return torch.from_numpy(waveforms)


class WaveformStore:
    """Keep the waveforms of some events in memory, (N * S_max + 1, T): in RAM shared by the workers, or on an accelerator.

    The last row is zeros, for sensors that do not exist.
    """

    def __init__(self, archive: EventArchive, events: np.ndarray, device: torch.device):
        self.n_sensors = archive.live.shape[1]
        row_of = torch.full((len(archive),), -1)
        row_of[torch.from_numpy(events)] = torch.arange(len(events)) * self.n_sensors
        # where they stay, before anything is written: filled and then moved, they would take their memory twice
        waveforms = torch.empty(len(events) * self.n_sensors + 1, archive.n_samples, device=device)
        self.waveforms = (waveforms.share_memory_() if device.type == "cpu" else waveforms).zero_()
        for row, event in enumerate(tqdm(events, desc="Loading", unit="event")):
            block = torch.from_numpy(archive.waveforms(event))
            self.waveforms[row * self.n_sensors :][: len(block)] = block
        self.row_of = row_of.to(device)

    def take(self, events: Tensor, sensors: Tensor) -> Tensor:
        """Return (B, S, T), zeros where a sensor is -1; (B, 0, 0) while the indices are on another device."""
        if self.waveforms.device != events.device:
            return torch.zeros(len(events), 0, 0)
        rows = torch.where(
            sensors < 0, len(self.waveforms) - 1, self.row_of[events][:, None] + sensors
        )
        return self.waveforms.index_select(0, rows.flatten()).reshape(*sensors.shape, -1)


class EpochBatches(Sampler):
    """Yield batches of (epoch, event) keys, each process its share of every batch.

    With ``epoch``, a function that tells the current one, the order is shuffled anew in each; without, it is fixed.
    """

    def __init__(
        self,
        events: np.ndarray,
        batch_size: int,
        seed: int,
        epoch: Callable[[], int] | None,
        drop_last: bool,
    ):
        self.events, self.batch_size, self.seed = events, batch_size, seed
        self.epoch, self.drop_last = epoch, drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.events), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, events = 0, self.events
        if self.epoch is not None:
            epoch = self.epoch()
            events = np.random.Generator(
                np.random.Philox(key=[self.seed, (ORDER << 60) | epoch])
            ).permutation(events)
        rank, world = _rank_and_world()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = events[start : start + self.batch_size]
            if self.drop_last:  # losses over the whole batch want equal shares
                batch = batch[: len(batch) // world * world]
            mine = batch[rank::world]
            # a process without a share repeats an event, so that all of them meet in every step
            yield [(epoch, int(event)) for event in (mine if len(mine) else batch[:1])]


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class _LazyLoader(DataLoader):
    """Begin an epoch with its first batch.

    Lightning makes the loader's iterator before it restores the progress of a resumed run. Loader processes, which
    read ahead, would read an epoch then that has been there before.
    """

    def __iter__(self) -> Iterator[EventBatch]:
        yield from super().__iter__()


class EventDataModule(pl.LightningDataModule):
    """Serve training, held-out and test batches of an archive.

    ``sensors_train`` and ``sensors_test`` say how many sensors of an event a batch holds; ``pair`` is self-supervised
    learning, which drops the incomplete last batch. ``calibration_events`` are evaluated with the test events. ``batch_size`` counts events over all processes. Raises ``UserError``
    for a batch that the training events cannot fill.
    """

    def __init__(
        self,
        archive: EventArchive,
        train_events: np.ndarray,
        test_events: np.ndarray,
        *,
        class_names: Sequence[str],
        batch_size: int,
        sensors_train: Sensors,
        sensors_test: Sensors = "all",
        seed: int = 0,
        num_workers: int = 0,
        preload: Preload = "none",
        calibration_events: np.ndarray | None = None,
    ):
        super().__init__()
        if len(train_events) < batch_size:
            raise UserError(
                f"dataset.batch_size is {batch_size}, but there are only {len(train_events)} training events; lower it"
            )
        if sensors_train == "pair" and len(test_events) < 2:
            raise UserError(
                f"{len(test_events)} held-out events are too few to monitor pretraining; raise dataset.test_data_ratio"
            )
        self.archive, self.train_events, self.test_events = archive, train_events, test_events
        self.calibration_events = (
            np.empty(0, dtype=np.int64) if calibration_events is None else calibration_events
        )
        self.class_names = tuple(class_names)
        ids = {name: number for number, name in enumerate(self.class_names)}
        self.labels = np.array(
            [ids.get(label, -1) for label in archive.labels.tolist()], dtype=np.int64
        )
        self.batch_size, self.seed = batch_size, seed
        self.sensors_train, self.sensors_test = sensors_train, sensors_test
        self.num_workers, self.preload = num_workers, preload
        self.store: WaveformStore | None = None

    def setup(self, stage: str) -> None:
        """Load the waveforms into memory if that was asked for."""
        if self.preload != "none" and self.store is None:
            device = (
                self.trainer.strategy.root_device
                if self.preload == "device"
                else torch.device("cpu")
            )
            events = np.concatenate([self.train_events, self.calibration_events, self.test_events])
            self.store = WaveformStore(self.archive, np.unique(events), device)

    def train_dataloader(self) -> DataLoader:
        """Serve shuffled training events."""
        drop_last = self.sensors_train == "pair"
        return self._loader(
            self.train_events, self.sensors_train, 0, lambda: self.trainer.current_epoch, drop_last
        )

    def val_dataloader(self) -> DataLoader:
        """Serve held-out events for the monitors of an epoch: always the same sensors and crops."""
        return self._loader(
            self.test_events, self.sensors_train, HELD_OUT, drop_last=self.sensors_train == "pair"
        )

    def test_dataloader(self) -> DataLoader:
        """Serve the test events, and those that calibrate, for the final evaluation."""
        return self._loader(
            np.concatenate([self.calibration_events, self.test_events]), self.sensors_test, HELD_OUT
        )

    def labelled_dataloader(self, training: bool) -> DataLoader:
        """Serve one fixed sensor of every labelled event of one side."""
        events = self.train_events if training else self.test_events
        return self._loader(events[self.labels[events] >= 0], "one", HELD_OUT)

    def on_after_batch_transfer(self, batch: EventBatch, dataloader_idx: int) -> EventBatch:
        """Take preloaded waveforms once the indices are on the device."""
        if self.store is None or batch.waveforms.numel():
            return batch
        return batch._replace(waveforms=self.store.take(batch.events, batch.sensors))

    def _loader(
        self,
        events: np.ndarray,
        sensors: Sensors,
        stream: int,
        epoch: Callable[[], int] | None = None,
        drop_last: bool = False,
    ) -> DataLoader:
        n_workers = (
            0 if self.preload == "device" else self.num_workers
        )  # then nothing is left to read
        # not wherever there is a GPU: pinning takes some of its memory, for a CPU training, too
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return _LazyLoader(
            EventDataset(self.archive, self.labels, sensors, self.seed, stream, self.store),
            batch_sampler=EpochBatches(
                events, min(self.batch_size, len(events)), self.seed, epoch, drop_last
            ),
            collate_fn=_as_is,
            num_workers=n_workers,
            persistent_workers=n_workers > 0,
            multiprocessing_context=workers_for_loaders() if n_workers else None,
            pin_memory=on_gpu,
        )


def _as_is(batch: EventBatch) -> EventBatch:
    return batch
