"""Write a small event archive for tests."""

from pathlib import Path

import numpy as np

from preprocessing.archive_writer import ArchiveWriter


def write_archive(path: Path, waveforms: np.ndarray | None = None, **options) -> Path:
    """Write events (N, S, T) at 100 Hz, by default two of random numbers, (2, 3, 100)."""
    if waveforms is None:
        waveforms = np.random.default_rng(0).normal(size=(2, 3, 100)).astype(np.float32)
    with ArchiveWriter(path, 100.0, **options) as writer:
        for number, block in enumerate(waveforms):
            writer.add(
                f"event_{number}",
                block,
                category="AB"[number % 2],
                start_time="2020-01-01T00:00:00.000000Z",
                magnitude=number,
            )
    return path
