"""Batches of waveforms: which sensors of an event, read from the archive or kept in memory.

The chosen sensors and the random numbers depend only on (seed, epoch, event).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.errors import UserError
from utils.progress import progress_bar

if TYPE_CHECKING:  # the models import this file, and need no HDF5
    from preprocessing.event_archive import EventArchive

N_VIEWS = 3  # at most so many views of an event
N_SENSOR_DRAWS = 2  # the first numbers choose the sensors; the others are EventBatch.draws
# Columns of EventBatch.draws: those of the first view, of the second, of the third. New columns are
# appended, so that the published views keep their random numbers.
CROP_DRAWS = slice(0, 3)  # place the crops
SCALE_DRAWS = slice(3, 6)  # RandomAmplitudeJitter
SHIFT_DRAWS = slice(6, 9)  # RandomTimeShift
MASK_DRAWS = slice(9, 21)  # RandomMask, four for each view
NOISE_DRAWS = slice(21, 27)  # RandomNoise, two for each view
N_DRAWS = N_SENSOR_DRAWS + NOISE_DRAWS.stop
TRAINING, HELD_OUT, ORDER = 0, 1, 2  # independent streams of random numbers


def event_draws(
    seed: int, stream: int, epoch: int, events: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Return the uniform random numbers (B, ``N_DRAWS``) of these events in this epoch."""
    generators = (
        np.random.Philox(key=[seed, (stream << 60) | (epoch << 32) | int(event)])
        for event in events
    )
    return np.stack([np.random.Generator(generator).random(N_DRAWS) for generator in generators])


Sensors = Literal["one", "pair", "all"]
Preload = Literal["none", "ram", "device"]


class EventBatch(NamedTuple):
    """B events of S sensors each; missing sensors are zero and False in ``mask``."""

    waveforms: Tensor  # (B, S, T) float32, recorder units
    mask: Tensor  # (B, S) bool
    sensors: Tensor  # (B, S) int64, channel numbers within the event
    labels: Tensor  # (B,) int64, -1 for unlabelled events
    events: Tensor  # (B,) int64, indices into the archive
    draws: Tensor  # (B, 27) float32, uniform in [0, 1); columns: preprocessing/dataset.py
    # (B, 2) float32, start and end of the quiet part of each event in s; zeros if it is not known
    quiet_s: Tensor | None = None


class EventDataset(Dataset[Any]):
    """Batches made from keys (epoch, event).

    ``sensors`` is ``one`` random live sensor per event, a ``pair`` of live sensors drawn with
    replacement, or ``all`` live sensors. ``labels`` has one class number per event of the archive,
    ``quiet_s`` (N, 2) start and end of its quiet part, if the models need it.
    """

    def __init__(
        self,
        archive: "EventArchive",
        labels: np.ndarray,
        sensors: Sensors,
        seed: int,
        stream: int = TRAINING,
        store: "WaveformStore | None" = None,
        quiet_s: np.ndarray | None = None,
    ):
        self.archive, self.labels, self.sensors = archive, labels, sensors
        self.quiet_s = np.zeros((len(archive), 2)) if quiet_s is None else quiet_s
        self.seed, self.stream, self.store = seed, stream, store

    def __getitems__(self, keys: list[tuple[int, int]]) -> EventBatch:
        """Return one batch; all keys must be of one epoch."""
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
            quiet_s=torch.from_numpy(self.quiet_s[events]).float(),
        )

    def _choose_sensors(self, events: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Return (B, S) channel numbers of live sensors, -1 for a missing one."""
        live = self.archive.live[events]
        n_live = live.sum(1)
        # live sensors first; a stable sort keeps their order
        ordered = np.argsort(~live, axis=1, kind="stable")
        if self.sensors == "all":
            ordered[np.arange(live.shape[1]) >= n_live[:, None]] = -1
            return ordered[:, : n_live.max()]
        n_drawn = 2 if self.sensors == "pair" else 1
        positions = (draws[:, :n_drawn] * n_live[:, None]).astype(np.int64)
        return np.take_along_axis(ordered, positions, axis=1)

    def _read(self, events: np.ndarray, sensors: np.ndarray) -> Tensor:
        if self.store is not None:
            return self.store.take(torch.from_numpy(events), torch.from_numpy(sensors))
        waveforms = np.zeros((*sensors.shape, self.archive.n_samples), dtype=np.float32)
        for row, (event, chosen) in enumerate(zip(events, sensors)):
            chosen = chosen[chosen >= 0]
            waveforms[row, : len(chosen)] = self.archive.waveforms(event, chosen)
        return torch.from_numpy(waveforms)


class WaveformStore:
    """Waveforms of some events in memory, (N * S_max + 1, T).

    On a CPU the memory is shared with loader workers. The last row is zero and stands for missing
    sensors.
    """

    def __init__(self, archive: "EventArchive", events: np.ndarray, device: torch.device):
        self.n_sensors = archive.live.shape[1]
        row_of = torch.full((len(archive),), -1)
        row_of[torch.from_numpy(events)] = torch.arange(len(events)) * self.n_sensors
        # allocated where they stay: moving filled waveforms would need the memory twice
        shape = len(events) * self.n_sensors + 1, archive.n_samples
        try:
            waveforms = torch.empty(shape, device=device)
        except torch.OutOfMemoryError as error:
            size_gb = 4e-9 * shape[0] * shape[1]
            raise UserError(
                f"dataset.preload: the waveforms take {size_gb:.1f} GB, more than is free on the "
                "GPU; use ram or none"
            ) from error
        self.waveforms = (waveforms.share_memory_() if device.type == "cpu" else waveforms).zero_()
        for row, event in enumerate(progress_bar(events, desc="Loading", unit="event")):
            block = torch.from_numpy(archive.waveforms(event))
            self.waveforms[row * self.n_sensors :][: len(block)] = block
        self.row_of = row_of.to(device)

    def take(self, events: Tensor, sensors: Tensor) -> Tensor:
        """Return waveforms (B, S, T) of ``events`` (B,) and ``sensors`` (B, S).

        A sensor of -1 gives zeros. The result is an empty (B, 0, 0) if the indices are on another
        device than the waveforms.
        """
        if self.waveforms.device != events.device:
            return torch.zeros(len(events), 0, 0)
        rows = torch.where(
            sensors < 0, len(self.waveforms) - 1, self.row_of[events][:, None] + sensors
        )
        return self.waveforms.index_select(0, rows.flatten()).reshape(*sensors.shape, -1)
