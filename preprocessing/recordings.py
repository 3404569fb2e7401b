"""Read a recording, in any format ObsPy knows, as a float32 array of channels with a common clock.

The array has no gaps and no NaN; all channels have the same sampling rate and time window. Samples
stay in recorder units, because ``log10(S + 1)`` in the images depends on their scale [L22].
"""

from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from preprocessing.channels import (
    SAME_RATE,
    Channel,
    UnusableChannel,
    by_channel,
    join_segments,
    live_channels,
    resample,
    why_too_slow_or_fast,
)
from preprocessing.traces import MAX_SAMPLES, RecordingError, delay_s, read_whole_traces

LEAST_SHARE_OF_CHANNELS = 0.5  # of an event's channels must share the window
LEAST_COVERAGE = 0.95  # of the window; a channel that covers less is left out


@dataclass(frozen=True)
class Recording:
    """The channels of one event on a common clock.

    ``waveforms`` is (S, T) float32 in recorder units, ``start_time`` is UTC in ISO 8601.
    ``channels`` and ``own_rates_hz`` have the name, and the sampling rate as recorded, of each of
    the S channels. ``left_out`` and ``padded`` have the name of each channel that was left out, or
    padded to the common time window, and the reason. ``n_resampled`` and ``n_bridged`` count
    channels that were resampled, or had gaps interpolated. ``delay_s`` is the DELAY of a SEG-2
    file, which is applied to the start time; None for other formats. ``onset_s`` is where the event
    begins, in s after the start; None if the source does not say it.
    """

    waveforms: np.ndarray
    sampling_rate_hz: float
    start_time: str
    n_resampled: int = 0
    n_bridged: int = 0
    left_out: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    padded: tuple[str, ...] = ()
    own_rates_hz: tuple[float, ...] = ()
    delay_s: float | None = None
    onset_s: float | None = None

    @property
    def own_rate_hz(self) -> float:
        """The median over channels of the sampling rate as recorded."""
        return float(np.median(self.own_rates_hz or [self.sampling_rate_hz]))


def read_recording(
    path: str | Path, sampling_rate_hz: float | None = None, max_gap_s: float = 0.0
) -> Recording:
    """Read a recording into (S, T) float32 on the time window that most of its channels share.

    With ``sampling_rate_hz``, channels of another rate are resampled (polyphase, anti-aliased).
    Gaps, masked and non-finite samples of up to ``max_gap_s`` seconds are interpolated linearly.
    Channels with longer gaps, without numbers, of far too low a rate or outside of the window are
    left out. Raises ``RecordingError`` with file and reason if the file cannot be read, has no
    usable channel, or no window that half of its channels share.
    """
    return join_channels(
        path, read_whole_traces(Path(path)), sampling_rate_hz, max_gap_s, MAX_SAMPLES
    )


def join_channels(
    source: str | Path,
    traces: list[Any],
    sampling_rate_hz: float | None,
    max_gap_s: float,
    max_samples: float = inf,
) -> Recording:
    """Make a recording from ObsPy traces, as ``read_recording`` does for a file.

    ``source`` is the name of the data in messages; at most ``max_samples`` are accepted. Raises
    ``RecordingError``.
    """
    channels, left_out, n_bridged = _join_each_channel(traces, max_gap_s, max_samples)
    channels = _of_useful_rates(channels, sampling_rate_hz, left_out)
    if not channels:
        raise RecordingError(f"{source}: no usable channel ({_first_reasons(left_out)})")
    window, n_found = choose_window(channels), len(channels)
    if window is None:
        raise _nothing_in_common(source, n_found)
    left_out += window.why_left_out(channels)
    channels = [channels[number] for number in window.kept]
    rate_hz = sampling_rate_hz or _one_rate(source, channels)
    _require_size(source, channels, rate_hz, max_samples)
    n_resampled = sum(resample(channel, rate_hz) for channel in channels)
    waveforms, padded = cut_to_window(channels, window, rate_hz)
    if not waveforms.size:
        raise _nothing_in_common(source, n_found)
    if not live_channels(waveforms).any():
        raise RecordingError(
            f"{source}: no usable channel (every channel is constant; found {len(channels)})"
        )
    start_time = np.datetime64(window.start_ns, "ns").astype("datetime64[us]")
    return Recording(
        waveforms,
        float(rate_hz),
        f"{start_time}Z",
        n_resampled,
        n_bridged,
        tuple(left_out),
        tuple(channel.name for channel in channels),
        tuple(padded),
        tuple(channel.own_rate_hz for channel in channels),
        delay_s(traces),
    )


def _nothing_in_common(source: str | Path, n_channels: int) -> RecordingError:
    return RecordingError(
        f"{source}: its channels have no time window in common "
        f"(no moment is in half of the {n_channels} channels)"
    )


def _join_each_channel(
    traces: list[Any], max_gap_s: float, max_samples: float
) -> tuple[list[Channel], list[str], int]:
    """Return the usable channels, why each of the others is left out, and the gaps filled."""
    channels, left_out, n_bridged = [], [], 0
    for segments in by_channel(traces):
        try:
            channel, bridged = join_segments(segments, max_gap_s, max_samples)
        except UnusableChannel as reason:
            left_out.append(str(reason))
            continue
        channels.append(channel)
        n_bridged += bridged
    return channels, left_out, n_bridged


def _of_useful_rates(
    channels: list[Channel], rate_hz: float | None, left_out: list[str]
) -> list[Channel]:
    """Return the channels that can be resampled to ``rate_hz``, by default the highest rate found.

    The reason for each of the others is added to ``left_out``.
    """
    rate_hz = rate_hz or max((channel.rate_hz for channel in channels), default=1.0)
    reasons = [why_too_slow_or_fast(channel, rate_hz) for channel in channels]
    left_out += filter(None, reasons)
    return [channel for channel, reason in zip(channels, reasons) if not reason]


def _one_rate(source: str | Path, channels: list[Channel]) -> float:
    rates = sorted({channel.rate_hz for channel in channels})
    if rates[-1] / rates[0] - 1 > SAME_RATE:
        found = ", ".join(f"{rate:g}" for rate in rates)
        raise RecordingError(
            f"{source}: its channels have different sampling rates ({found} Hz); "
            "set dataset.sampling_freq to one rate"
        )
    return rates[-1]


def _require_size(
    source: str | Path, channels: list[Channel], rate_hz: float, max_samples: float
) -> None:
    """Raise ``RecordingError`` if resampling would give too many samples."""
    n_samples = sum(
        channel.samples.size * max(1.0, rate_hz / channel.rate_hz) for channel in channels
    )
    if n_samples > max_samples:
        raise RecordingError(
            f"{source}: would have {n_samples:.0f} samples at {rate_hz:g} Hz; "
            f"at most {max_samples} are read"
        )


def _first_reasons(reasons: list[str], n: int = 3) -> str:
    more = f"; and {len(reasons) - n} more" if len(reasons) > n else ""
    return "; ".join(reasons[:n]) + more


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
