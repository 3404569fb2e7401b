"""The table that benchmarks print, and the work that its rows do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.timing import ratio
from preprocessing.dataset import EventDataset, Sensors, WaveformStore
from preprocessing.event_archive import EventArchive


@dataclass(frozen=True)
class Size:
    """Say how large the work is; the defaults are the paper's."""

    ssl_backbone: str = "ResNet34Encoder"
    classifier_backbone: str = "ResNet18Encoder"
    ssl_batch: int = 128
    supervised_batch: int = 64
    projector: int = 4096
    n_events: int = 128
    n_evaluated: int = 4
    n_packed: int = 3429
    n_memory: int = 300
    n_linear: int = 64
    n_rounds: int = 3


SMALL = Size("ResNet18Encoder", "ResNet18Encoder", 4, 2, 64, 8, 1, 16, 40, 16, 1)


@dataclass(frozen=True)
class Row:
    """Hold one line of the table."""

    what: str
    published: str
    here: str
    result: str
    goal: str
    reached: bool | None = None


@dataclass(frozen=True)
class Work:
    """Hold what the rows work on: the same events as files and as an archive."""

    size: Size
    files: list[Path]
    archive: EventArchive

    def dataset(self, sensors: Sensors, in_memory: bool) -> EventDataset:
        """Serve the events, from the archive's file or from memory."""
        store = WaveformStore(self.archive, np.arange(len(self.archive)), torch.device("cpu")) if in_memory else None
        return EventDataset(self.archive, np.zeros(len(self.archive), np.int64), sensors, seed=0, store=store)


def compare(slow: list[float], fast: list[float], n_items: int, goal: float, what: str, unit: str) -> Row:
    """Compare items per second."""
    factor = ratio(slow, fast)
    rates = [f"{n_items / median(seconds):.3g} {unit}/s" for seconds in (slow, fast)]
    return Row(what, *rates, f"{factor:.3g} x", f"≥ {goal:g} x", factor >= goal)


def to_markdown(rows: Sequence[Row]) -> str:
    """Write the rows as a table."""
    lines = ["| | published way | here | result | goal | |", "|---|---|---|---|---|---|"]
    verdict = {True: "reached", False: "**missed**", None: ""}
    lines += [
        f"| {row.what} | {row.published} | {row.here} | {row.result} | {row.goal} | {verdict[row.reached]} |" for row in rows
    ]
    return "\n".join(lines)
