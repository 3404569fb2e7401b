"""Read one file as one event.

Does not import PyTorch: the processes that read files would each spend seconds on that.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from preprocessing.recordings import Recording, read_recording
from preprocessing.traces import RecordingError


@dataclass(frozen=True)
class Item:
    """One event to classify, or the reason why it cannot be classified."""

    key: str  # identifies its row of the table: the file, or the time of the trigger
    file: str
    recording: Recording | None
    reason: str = ""
    trigger_time: str = ""
    picks: dict[str, float] = field(default_factory=dict)  # channel to s after the trigger


def file_key(path: str | Path) -> str:
    """Identify a file by its absolute path, with links resolved."""
    return os.path.realpath(path)


def read_item(path: Path, rate_hz: float, n_samples: int, max_gap_s: float) -> Item:
    """Read a file, resampled to ``rate_hz`` and cut to ``n_samples``; or say why it is unusable."""
    try:
        recording = read_recording(path, rate_hz, max_gap_s)
        # cut here, because many recordings wait in memory
        cut = replace(recording, waveforms=recording.waveforms[:, :n_samples].copy())
        return Item(file_key(path), str(path), cut)
    except RecordingError as error:
        reason = str(error)
    except OSError as error:
        reason = str(error.strerror)
    return Item(file_key(path), str(path), None, " ".join(reason.removeprefix(f"{path}: ").split()))
