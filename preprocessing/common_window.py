"""Choose a time window that many channels of an event share, and cut them to it.

The same rule for packing and for prediction: one channel that starts late, dies early or lies
elsewhere does not shorten the event. Such channels are left out, each with a reason.
"""

from math import ceil
from typing import NamedTuple

import numpy as np

from preprocessing.channels import Channel

LEAST_SHARE_OF_CHANNELS = 0.5  # of an event's channels must share the window
LEAST_COVERAGE = 0.95  # of the window; a channel that covers less is left out


class CommonWindow(NamedTuple):
    """The window of an event, in ns since 1970, and what becomes of each of its S channels."""

    start_ns: int
    end_ns: int
    coverage: np.ndarray  # (S,) share of the window that each channel covers

    @property
    def kept(self) -> np.ndarray:
        """Indices of the channels that cover enough of the window."""
        return np.flatnonzero(self.coverage >= LEAST_COVERAGE)

    def why_left_out(self, channels: list[Channel]) -> list[str]:
        """Return the name of each channel that is left out, with the reason."""
        length_s = (self.end_ns - self.start_ns) * 1e-9
        return [
            f"{channel.name}: covers {100 * share:.0f} % of the event's {length_s:.4g} s"
            for channel, share in zip(channels, self.coverage)
            if share < LEAST_COVERAGE
        ]


def choose_window(channels: list[Channel]) -> CommonWindow | None:
    """Choose, of the windows that half of the channels cover, that with the most recorded data.

    That is the largest product of its length and the number of channels that cover it.

    Returns None if there is no window that at least half of the channels cover completely.
    """
    starts = np.array([channel.start_ns for channel in channels])
    ends = np.array([channel.end_ns for channel in channels])
    first, start_ids = np.unique(starts, return_inverse=True)
    last, end_ids = np.unique(ends, return_inverse=True)
    # how many channels start at or before first[i] and end at or after last[j]
    covering = np.zeros((len(first), len(last)), dtype=np.int64)
    np.add.at(covering, (start_ids, end_ids), 1)
    covering = covering.cumsum(0)[:, ::-1].cumsum(1)[:, ::-1]
    length_ns = last - first[:, None]
    allowed = (covering >= ceil(LEAST_SHARE_OF_CHANNELS * len(channels))) & (length_ns > 0)
    if not allowed.any():
        return None
    row, column = np.unravel_index(
        np.where(allowed, covering * length_ns.astype(float), -1).argmax(), covering.shape
    )
    start_ns, end_ns = int(first[row]), int(last[column])
    covered = np.minimum(ends, end_ns) - np.maximum(starts, start_ns)
    return CommonWindow(start_ns, end_ns, covered.clip(0) / (end_ns - start_ns))


def cut_to_window(
    channels: list[Channel], window: CommonWindow, rate_hz: float
) -> tuple[np.ndarray, list[str]]:
    """Cut channels of one rate to a window; also return which of them were padded.

    The waveforms are (S, T) float32. What a channel lacks at either end is filled with its mean.
    """
    offsets = [round((window.start_ns - channel.start_ns) * 1e-9 * rate_hz) for channel in channels]
    n_samples = min(
        channel.samples.size - offset
        for channel, offset in zip(channels, offsets)
        if channel.start_ns <= window.start_ns and channel.end_ns >= window.end_ns
    )
    if n_samples < 1:  # channels that overlap by less than a sample
        return np.empty((len(channels), 0), dtype=np.float32), []
    block = np.empty((len(channels), n_samples), dtype=np.float32)
    padded = []
    for row, channel, offset in zip(block, channels, offsets):
        found = channel.samples[max(0, offset) : offset + n_samples]
        n_missing = n_samples - found.size
        if n_missing:
            row[:] = channel.samples.mean(dtype=np.float64)
            padded.append(f"{channel.name}: {n_missing / rate_hz:.3g} s padded with its mean")
        begin = max(0, -offset)
        row[begin : begin + found.size] = found
    return block, padded
