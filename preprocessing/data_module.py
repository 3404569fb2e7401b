"""The LightningDataModule that serves batches of an archive's events, and their order.

The order of an epoch depends only on (seed, epoch). A run therefore gives the same batches with any
number of loader workers or processes, and a resumed run needs only the number of its epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from preprocessing.dataset import (
    HELD_OUT,
    ORDER,
    TRAINING,
    EventBatch,
    EventDataset,
    Preload,
    Sensors,
    WaveformStore,
)
from utils.distributed import rank_and_world_size
from utils.errors import UserError
from utils.workers import workers_for_loaders

if TYPE_CHECKING:  # the models import this file, and need no HDF5
    from preprocessing.event_archive import EventArchive


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, event) keys; each process gets its share of every batch.

    ``epoch`` is a function that returns the current epoch; each epoch then has its own random
    order. With None the order is that of ``events``. ``drop_last`` drops the incomplete last batch.
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
        rank, world = rank_and_world_size()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = events[start : start + self.batch_size]
            if self.drop_last:  # losses over the whole batch need equal shares
                batch = batch[: len(batch) // world * world]
            share = batch[rank::world]
            # a process with an empty share repeats an event: every process must take every step
            yield [(epoch, int(event)) for event in (share if len(share) else batch[:1])]


class _LazyLoader(DataLoader[Any]):
    """DataLoader whose workers start to read when the first batch is requested.

    Lightning creates the iterator before it restores the epoch of a resumed run. Workers, which
    read ahead, would otherwise read batches of the wrong epoch.
    """

    def __iter__(self) -> Iterator[EventBatch]:  # type: ignore[override]  # starts on first use
        yield from super().__iter__()


class EventDataModule(pl.LightningDataModule):
    """Training, held-out and test batches of an archive.

    ``train_events``, ``test_events`` and ``calibration_events`` are indices into the archive;
    calibration events are evaluated together with the test events. ``sensors_train`` and
    ``sensors_test`` choose the sensors per event, see ``EventDataset``; ``pair`` is for
    self-supervised learning and drops the incomplete last batch. ``quiet_s`` (N, 2) is start and
    end of the quiet part of each event of the archive, in s. ``batch_size`` counts the events of
    all processes; fewer training events are one batch. Raises ``UserError`` for ``pair`` if there
    are fewer training events than ``batch_size``, or fewer than two held-out events.
    """

    def __init__(
        self,
        archive: "EventArchive",
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
        quiet_s: np.ndarray | None = None,
    ):
        super().__init__()
        none = np.empty(0, dtype=np.int64)
        self.calibration_events = none if calibration_events is None else calibration_events
        if sensors_train == "pair" and len(train_events) < batch_size:
            raise too_few_events(batch_size, len(train_events))
        if sensors_train == "pair" and len(test_events) < 2:
            raise UserError(
                f"{len(test_events)} held-out events are too few to monitor pretraining; "
                "raise dataset.test_data_ratio"
            )
        self.archive, self.train_events, self.test_events = archive, train_events, test_events
        # identities of the events that have trained the weights before, and those taught with
        # their labels; None: not known
        self.trained_before: tuple[list[int] | None, list[int]] = [], []
        self.class_names = tuple(class_names)
        ids = {name: number for number, name in enumerate(self.class_names)}
        self.labels = np.array(
            [ids.get(label, -1) for label in archive.labels.tolist()], dtype=np.int64
        )
        self.batch_size, self.seed = batch_size, seed
        self.sensors_train, self.sensors_test = sensors_train, sensors_test
        self.num_workers, self.preload, self.quiet_s = num_workers, preload, quiet_s
        self.store: WaveformStore | None = None

    @property
    def n_sensors(self) -> int:
        """Number of sensors of the largest event."""
        return self.archive.live.shape[1]

    def event_names(self, events: Tensor) -> list[str]:
        """Return the names of events (B,), as in ``EventBatch.events``."""
        return self.archive.names[events.cpu().numpy()].tolist()

    def labelled_events(self, training: bool) -> np.ndarray:
        """Return the labelled events among the training events, or among the test events."""
        events = self.train_events if training else self.test_events
        return events[self.labels[events] >= 0]

    def setup(self, stage: str) -> None:
        """Load the waveforms into memory if ``preload`` asks for it."""
        if self.preload != "none" and self.store is None:
            device = self._device() if self.preload == "device" else torch.device("cpu")
            events = np.concatenate([self.train_events, self.calibration_events, self.test_events])
            self.store = WaveformStore(self.archive, np.unique(events), device)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training events in random order."""
        drop_last = self.sensors_train == "pair"
        return self._loader(self.train_events, self.sensors_train, TRAINING, self._epoch, drop_last)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the events to watch in training, with the same sensors and crops in every epoch.

        They are the test events, as in the final evaluation; in pretraining pairs of their sensors.
        """
        pairs = self.sensors_train == "pair"
        sensors: Sensors = "pair" if pairs else self.sensors_test
        return self._loader(self.test_events, sensors, HELD_OUT, drop_last=pairs)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the calibration and test events for the final evaluation."""
        return self._loader(
            np.concatenate([self.calibration_events, self.test_events]), self.sensors_test, HELD_OUT
        )

    def event_batches(self, events: np.ndarray, sensors: Sensors) -> DataLoader[Any]:
        """Return batches of these events in their order, each with sensors that never change."""
        return self._loader(events, sensors, HELD_OUT)

    def labelled_batches(self, training: bool, device: torch.device) -> Iterator[EventBatch]:
        """Yield all ``labelled_events`` on ``device``, each with one sensor that never changes."""
        for batch in self.event_batches(self.labelled_events(training), "one"):
            yield self.to_device(batch, device)

    def to_device(self, batch: EventBatch, device: torch.device) -> EventBatch:
        """Return the batch on ``device``, with its waveforms."""
        return self.on_after_batch_transfer(self.transfer_batch_to_device(batch, device, 0), 0)

    def on_after_batch_transfer(self, batch: EventBatch, dataloader_idx: int) -> EventBatch:
        """Insert preloaded waveforms when the event numbers are on the device."""
        if self.store is None or batch.waveforms.numel():
            return batch
        return batch._replace(waveforms=self.store.take(batch.events, batch.sensors))

    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _epoch(self) -> int:
        assert self.trainer is not None, "training events are served to a trainer only"
        return self.trainer.current_epoch

    def _loader(
        self,
        events: np.ndarray,
        sensors: Sensors,
        stream: int,
        epoch: Callable[[], int] | None = None,
        drop_last: bool = False,
    ) -> DataLoader[Any]:
        # with waveforms on the device, workers have nothing to read
        n_workers = 0 if self.preload == "device" else self.num_workers
        return _LazyLoader(
            EventDataset(
                self.archive, self.labels, sensors, self.seed, stream, self.store, self.quiet_s
            ),
            batch_sampler=EpochBatches(
                events, min(self.batch_size, len(events)), self.seed, epoch, drop_last
            ),
            collate_fn=_as_is,
            num_workers=n_workers,
            persistent_workers=n_workers > 0,
            multiprocessing_context=workers_for_loaders() if n_workers else None,
            # only for training on a GPU: pinning takes GPU memory even if training is on the CPU
            pin_memory=self._device().type == "cuda",
        )


def too_few_events(batch_size: int, n_events: int) -> UserError:
    """Return the error for pretraining with fewer training events than a batch has."""
    return UserError(
        f"dataset.batch_size is {batch_size}, but there are only {n_events} training events; lower "
        "it (below 65 model_params.proj_out has to be smaller than it: for example "
        "dataset.batch_size=32 model_params.proj_out=16)"
    )


def data_module_of(trainer: pl.Trainer) -> EventDataModule:
    """Return the data module that a running trainer serves."""
    return trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it without declaring


def _as_is(batch: Any) -> Any:
    return batch
