"""Read a recording, in any format ObsPy knows, as a float32 array of channels with a common clock.

The array has no gaps and no NaN; all channels have the same sampling rate and time window. Samples
stay in recorder units, because ``log10(S + 1)`` in the images depends on their scale [L22].
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from preprocessing.limits import LARGEST_SAMPLE, SAME_RATE, live_channels
from preprocessing.traces import MAX_SAMPLES, RecordingError, read_whole_traces

MAX_RESAMPLING_FACTOR = 1000
# 1900 and 2100, in ns since 1970: a start time outside this range means a damaged header
EARLIEST_NS, LATEST_NS = (
    int(np.datetime64(year, "ns").astype(np.int64)) for year in ("1900", "2100")
)


@dataclass(frozen=True)
class Recording:
    """The channels of one event on a common clock.

    ``waveforms`` is (S, T) float32 in recorder units, ``start_time`` is UTC in ISO 8601.
    ``channels`` has the names of the S channels; ``left_out`` has the name of each unusable channel
    and the reason. ``n_resampled`` and ``n_bridged`` count channels that were resampled, or had
    gaps interpolated.
    """

    waveforms: np.ndarray
    sampling_rate_hz: float
    start_time: str
    n_resampled: int = 0
    n_bridged: int = 0
    left_out: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


@dataclass
class _Channel:
    name: str
    samples: np.ndarray
    start_ns: int
    rate_hz: float


def read_recording(
    path: str | Path, sampling_rate_hz: float | None = None, max_gap_s: float = 0.0
) -> Recording:
    """Read a recording into (S, T) float32 on the common time window of its channels.

    With ``sampling_rate_hz``, channels of another rate are resampled (polyphase, anti-aliased).
    Gaps, masked and non-finite samples of up to ``max_gap_s`` seconds are interpolated linearly;
    channels with longer gaps are left out. Raises ``RecordingError`` with file and reason if the
    file cannot be read or has no usable channel.
    """
    return join_channels(
        path, read_whole_traces(Path(path)), sampling_rate_hz, max_gap_s, MAX_SAMPLES
    )


def join_channels(
    source: str | Path,
    traces: list,
    sampling_rate_hz: float | None,
    max_gap_s: float,
    max_samples: float = inf,
) -> Recording:
    """Make a recording from ObsPy traces, as ``read_recording`` does for a file.

    ``source`` is the name of the data in messages; at most ``max_samples`` are accepted. Raises
    ``RecordingError``.
    """
    channels, left_out, n_bridged = [], [], 0
    for segments in _channels(traces):
        try:
            channel, bridged = _join(segments, max_gap_s, max_samples)
        except _Unusable as reason:
            left_out.append(str(reason))
            continue
        channels.append(channel)
        n_bridged += bridged
    if not channels:
        raise RecordingError(f"{source}: no usable channel ({_first_reasons(left_out)})")
    rate_hz = sampling_rate_hz or _one_rate(source, channels)
    _require_size(source, channels, rate_hz, max_samples)
    n_resampled = sum(_resample(source, channel, rate_hz) for channel in channels)
    waveforms, start_ns = _common_window(source, channels, rate_hz)
    if not live_channels(waveforms).any():
        raise RecordingError(
            f"{source}: no usable channel (every channel is constant; found {len(channels)})"
        )
    start_time = np.datetime64(start_ns, "ns").astype("datetime64[us]")
    names = tuple(channel.name for channel in channels)
    return Recording(
        waveforms, float(rate_hz), f"{start_time}Z", n_resampled, n_bridged, tuple(left_out), names
    )


def _channels(traces: list) -> list[list]:
    """Group the traces by channel; return a list of (name, trace) per channel, sorted by time.

    Each trace without a name (SEG-2, SEG-Y) is a channel of its own.
    """
    named: dict[str, list] = {}
    for number, trace in enumerate(traces, start=1):
        name = trace.id if trace.id.strip(".") else f"channel {number}"
        named.setdefault(name, []).append(trace)
    for name, segments in list(named.items()):
        segments.sort(key=lambda trace: trace.stats.starttime.ns)
        # Same name and same start: different sensors, whose full names did not fit the format.
        if len(segments) > 1 and len({trace.stats.starttime.ns for trace in segments}) == 1:
            del named[name]
            named.update({f"{name} #{n}": [trace] for n, trace in enumerate(segments, start=1)})
    return [[(name, trace) for trace in segments] for name, segments in named.items()]


class _Unusable(Exception):
    """The reason why a channel is left out."""


def _join(segments: list, max_gap_s: float, max_samples: float) -> tuple[_Channel, int]:
    """Join the (name, trace) segments of a channel; also return 1 if samples were interpolated.

    Raises ``_Unusable``.
    """
    name, first = segments[0]
    rate_hz, start_ns = float(first.stats.sampling_rate), first.stats.starttime.ns
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise _Unusable(f"{name}: sampling rate {rate_hz} Hz")
    if not EARLIEST_NS <= start_ns < LATEST_NS:
        raise _Unusable(f"{name}: starts {start_ns / 1e9:.3g} s after 1970")
    offsets, end = _place(segments, start_ns, rate_hz, max_gap_s)
    if not 1 < end <= max_samples:
        raise _Unusable(f"{name}: {end} samples")
    data = first.data
    if len(segments) > 1 or isinstance(data, np.ma.MaskedArray):
        data = np.full(end, np.nan)
        for offset, (_, trace) in zip(offsets, segments):
            with np.errstate(invalid="ignore"):  # signalling NaNs are missing samples like all NaNs
                data[offset : offset + trace.stats.npts] = np.ma.filled(
                    np.ma.asarray(trace.data, dtype=np.float64), np.nan
                )
    samples = _interpolate(name, data, round(max_gap_s * rate_hz), rate_hz)
    return _Channel(name, samples, start_ns, rate_hz), int(samples is not data)


def _place(
    segments: list, start_ns: int, rate_hz: float, max_gap_s: float
) -> tuple[list[int], int]:
    """Return the first sample of each segment within its channel, and the channel's length.

    Checked before memory is allocated, because a gap may be years long. Raises ``_Unusable``.
    """
    offsets, end = [], 0
    for name, trace in segments:
        if trace.data.dtype.kind not in "iuf":  # log records of miniSEED are text
            raise _Unusable(f"{name}: samples are not numbers")
        if abs(trace.stats.sampling_rate / rate_hz - 1) > SAME_RATE:
            raise _Unusable(f"{name}: changes its sampling rate")
        offset = round((trace.stats.starttime.ns - start_ns) * 1e-9 * rate_hz)
        gap_s = (offset - end) / rate_hz
        if gap_s > max_gap_s:
            raise _Unusable(f"{name}: gap of {gap_s:.3g} s")
        offsets.append(offset)
        end = max(end, offset + trace.stats.npts)
    return offsets, end


def _interpolate(name: str, samples: np.ndarray, max_missing: int, rate_hz: float) -> np.ndarray:
    """Interpolate gaps of up to ``max_missing`` samples; return the same array if it has none.

    Raises ``_Unusable`` for longer gaps.
    """
    with np.errstate(invalid="ignore"):  # NaN compares as False, so it counts as missing
        if samples.min() >= -LARGEST_SAMPLE and samples.max() <= LARGEST_SAMPLE:
            return samples
        missing = ~(np.abs(samples) <= LARGEST_SAMPLE)
    edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
    longest = int((edges[1::2] - edges[::2]).max())
    if longest > max_missing or missing.all():
        raise _Unusable(f"{name}: {longest / rate_hz:.3g} s missing or not finite")
    where = np.arange(samples.size)
    return np.interp(where, where[~missing], samples[~missing])


def _one_rate(source: str | Path, channels: list[_Channel]) -> float:
    rates = sorted({channel.rate_hz for channel in channels})
    if rates[-1] / rates[0] - 1 > SAME_RATE:
        found = ", ".join(f"{rate:g}" for rate in rates)
        raise RecordingError(
            f"{source}: its channels have different sampling rates ({found} Hz); "
            "set dataset.sampling_freq to one rate"
        )
    return rates[-1]


def _require_size(
    source: str | Path, channels: list[_Channel], rate_hz: float, max_samples: float
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


def _resample(source: str | Path, channel: _Channel, rate_hz: float) -> bool:
    """Resample a channel to ``rate_hz`` in place; return False if it already has this rate."""
    ratio = rate_hz / channel.rate_hz
    if abs(ratio - 1) <= SAME_RATE:
        return False
    if not 1 / MAX_RESAMPLING_FACTOR <= ratio <= MAX_RESAMPLING_FACTOR:
        raise RecordingError(
            f"{source}: {channel.name} has {channel.rate_hz:g} Hz; this differs from the wanted "
            f"{rate_hz:g} Hz by more than a factor of {MAX_RESAMPLING_FACTOR}"
        )
    factor = Fraction(ratio).limit_denominator(MAX_RESAMPLING_FACTOR)
    # padtype "line" avoids ringing at the ends of channels with an offset or drift
    channel.samples = resample_poly(
        channel.samples.astype(np.float64), factor.numerator, factor.denominator, padtype="line"
    )
    channel.rate_hz = rate_hz
    return True


def _common_window(
    source: str | Path, channels: list[_Channel], rate_hz: float
) -> tuple[np.ndarray, int]:
    """Cut all channels to their common time window.

    Returns the waveforms (S, T), float32, and the start of the window in ns since 1970.
    """
    start_ns = max(channel.start_ns for channel in channels)
    offsets = [round((start_ns - channel.start_ns) * 1e-9 * rate_hz) for channel in channels]
    n_samples = min(channel.samples.size - offset for channel, offset in zip(channels, offsets))
    if n_samples < 1:
        raise RecordingError(f"{source}: its channels have no time window in common")
    block = np.empty((len(channels), n_samples), dtype=np.float32)
    for row, channel, offset in zip(block, channels, offsets):
        row[:] = channel.samples[offset : offset + n_samples]
    return block, start_ns


def _first_reasons(reasons: list[str], n: int = 3) -> str:
    more = f"; and {len(reasons) - n} more" if len(reasons) > n else ""
    return "; ".join(reasons[:n]) + more
