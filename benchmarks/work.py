"""Sizes of the benchmarks, and the events they use."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from preprocessing.dataset import EventDataset, Sensors, WaveformStore
from preprocessing.event_archive import EventArchive


@dataclass(frozen=True)
class Networks:
    """Sizes of networks and batches; the defaults are the paper's."""

    ssl_backbone: str = "ResNet34Encoder"
    ssl_batch: int = 128
    supervised_batch: int = 64
    projector: int = 4096


@dataclass(frozen=True)
class Size(Networks):
    """Sizes of the measurements of ``benchmarks.speed``."""

    classifier_backbone: str = "ResNet18Encoder"
    n_events: int = 128
    n_evaluated: int = 4
    n_packed: int = 3429
    n_memory: int = 300
    continuous_s: float = 3600
    n_rounds: int = 3
    rounds_s: float = math.inf  # of all rounds of a comparison; the first may take longer


PAPER = Size()
# a quarter of the batches: minutes on any machine
QUICK = Size(
    ssl_batch=32,
    supervised_batch=16,
    n_events=64,
    n_evaluated=2,
    n_packed=1000,
    continuous_s=1800,
    rounds_s=10,
)
SMALL = Size(
    "ResNet18Encoder",
    4,
    2,
    64,
    n_events=8,
    n_evaluated=1,
    n_packed=16,
    n_memory=40,
    continuous_s=120,
    n_rounds=1,
)


@dataclass(frozen=True)
class Work:
    """The same events as SEG-2 files and as an archive, and the sizes of the benchmark."""

    size: Size
    files: list[Path]
    archive: EventArchive

    def dataset(self, sensors: Sensors, in_memory: bool) -> EventDataset:
        """Return the events as a dataset that reads from the file or from memory."""
        events, device = np.arange(len(self.archive)), torch.device("cpu")
        store = WaveformStore(self.archive, events, device) if in_memory else None
        return EventDataset(self.archive, np.zeros(len(events), np.int64), sensors, 0, store=store)
