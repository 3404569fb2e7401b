"""Read one recording, in any format ObsPy knows, into one float32 block of channels that share a clock.

What leaves this module has no gaps, no NaN, one sampling rate and one time window. Samples keep the recorder's units: the
``log10(S + 1)`` of the images depends on their absolute size [L22].
"""

from dataclasses import dataclass
from fractions import Fraction
from math import inf
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from preprocessing.limits import LARGEST_SAMPLE, SAME_RATE
from preprocessing.traces import MAX_SAMPLES, RecordingError, read_traces, read_whole_traces

__all__ = ["Recording", "RecordingError", "join_channels", "read_recording", "read_traces"]

MAX_RESAMPLING_FACTOR = 1000
# 1900 and 2100, in ns since 1970: a start before or after them is a damaged header
EARLIEST_NS, LATEST_NS = (
    int(np.datetime64(year, "ns").astype(np.int64)) for year in ("1900", "2100")
)


@dataclass(frozen=True)
class Recording:
    """Hold the channels of one event on a common clock.

    ``waveforms`` is (S, T) float32 in recorder units, ``start_time`` an ISO 8601 string in UTC. ``left_out`` names each
    channel that was not used, with the reason; ``channels`` names the S that were.
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

    With ``sampling_rate_hz``, channels at another rate are resampled (polyphase, anti-aliased). Gaps, masked and non-finite
    samples up to ``max_gap_s`` seconds are bridged linearly; a channel with a longer one is left out. Raises
    ``RecordingError`` with file and reason when nothing usable remains.
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
    """Make a recording of ObsPy traces, as ``read_recording`` does; ``source`` is what messages call it."""
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
        raise RecordingError(f"{source}: no usable channel ({_few(left_out)})")
    rate_hz = sampling_rate_hz or _one_rate(source, channels)
    n_samples = sum(
        channel.samples.size * max(1.0, rate_hz / channel.rate_hz) for channel in channels
    )
    if n_samples > max_samples:
        raise RecordingError(
            f"{source}: would have {n_samples:.0f} samples at {rate_hz:g} Hz; at most {max_samples} are read"
        )
    n_resampled = sum(_resample(source, channel, rate_hz) for channel in channels)
    waveforms, start_ns = _common_window(source, channels, rate_hz)
    if not np.ptp(waveforms, axis=1).any():
        raise RecordingError(
            f"{source}: no usable channel (every channel is constant: {len(channels)} of {len(channels)})"
        )
    start_time = np.datetime64(start_ns, "ns").astype("datetime64[us]")
    names = tuple(channel.name for channel in channels)
    return Recording(
        waveforms, float(rate_hz), f"{start_time}Z", n_resampled, n_bridged, tuple(left_out), names
    )


def _channels(traces: list) -> list[list]:
    """Group the traces that are segments of one channel; traces without a name (SEG-2, SEG-Y) are a channel each."""
    named: dict[str, list] = {}
    for number, trace in enumerate(traces, start=1):
        name = trace.id if trace.id.strip(".") else f"channel {number}"
        named.setdefault(name, []).append(trace)
    for name, segments in list(named.items()):
        segments.sort(key=lambda trace: trace.stats.starttime.ns)
        whole = len({trace.stats.starttime.ns for trace in segments}) == 1 and len(segments) > 1
        if whole:  # same name, same start: different sensors whose names the format could not hold
            del named[name]
            named.update({f"{name} #{n}": [trace] for n, trace in enumerate(segments, start=1)})
    return [[(name, trace) for trace in segments] for name, segments in named.items()]


class _Unusable(Exception):
    """Say why a channel is left out."""


def _join(segments: list, max_gap_s: float, max_samples: float) -> tuple[_Channel, int]:
    """Join the segments of one channel; return it with 1 if something was bridged, else 0."""
    name, first = segments[0]
    rate_hz, start_ns = float(first.stats.sampling_rate), first.stats.starttime.ns
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise _Unusable(f"{name}: sampling rate {rate_hz} Hz")
    if not EARLIEST_NS <= start_ns < LATEST_NS:
        raise _Unusable(f"{name}: starts {start_ns / 1e9:.3g} s after 1970")
    offsets, end = [], 0
    for _, trace in segments:
        if trace.data.dtype.kind not in "iuf":  # a miniSEED log is text
            raise _Unusable(f"{name}: no numbers")
        if abs(trace.stats.sampling_rate / rate_hz - 1) > SAME_RATE:
            raise _Unusable(f"{name}: changes its sampling rate")
        offset = round((trace.stats.starttime.ns - start_ns) * 1e-9 * rate_hz)
        if (
            offset - end
        ) / rate_hz > max_gap_s:  # before anything is allocated: the gap may be years
            raise _Unusable(f"{name}: gap of {(offset - end) / rate_hz:.3g} s")
        offsets.append(offset)
        end = max(end, offset + trace.stats.npts)
    if not 1 < end <= max_samples:
        raise _Unusable(f"{name}: {end} samples")
    data = first.data
    if len(segments) > 1 or isinstance(data, np.ma.MaskedArray):
        data = np.full(end, np.nan)
        for offset, (_, trace) in zip(offsets, segments):
            with np.errstate(invalid="ignore"):  # signalling NaNs are missing samples, as all NaNs
                data[offset : offset + trace.stats.npts] = np.ma.filled(
                    np.ma.asarray(trace.data, dtype=np.float64), np.nan
                )
    samples = _bridge(name, data, round(max_gap_s * rate_hz), rate_hz)
    return _Channel(name, samples, start_ns, rate_hz), int(samples is not data)


def _bridge(name: str, samples: np.ndarray, max_missing: int, rate_hz: float) -> np.ndarray:
    """Interpolate short runs of missing samples; return the array itself if there are none."""
    with np.errstate(invalid="ignore"):
        if (
            samples.min() >= -LARGEST_SAMPLE and samples.max() <= LARGEST_SAMPLE
        ):  # NaN compares false
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
            f"{source}: its channels have different sampling rates ({found} Hz); set dataset.sampling_freq to one"
        )
    return rates[-1]


def _resample(source: str | Path, channel: _Channel, rate_hz: float) -> bool:
    """Bring a channel to ``rate_hz`` in place; return whether that was needed."""
    ratio = rate_hz / channel.rate_hz
    if abs(ratio - 1) <= SAME_RATE:
        return False
    if not 1 / MAX_RESAMPLING_FACTOR <= ratio <= MAX_RESAMPLING_FACTOR:
        raise RecordingError(
            f"{source}: {channel.name} has {channel.rate_hz:g} Hz, too far from the wanted {rate_hz:g} Hz"
        )
    factor = Fraction(ratio).limit_denominator(MAX_RESAMPLING_FACTOR)
    # "line": an offset or drift must not ring at the ends
    channel.samples = resample_poly(
        channel.samples.astype(np.float64), factor.numerator, factor.denominator, padtype="line"
    )
    channel.rate_hz = rate_hz
    return True


def _common_window(
    source: str | Path, channels: list[_Channel], rate_hz: float
) -> tuple[np.ndarray, int]:
    """Cut every channel to the time that all of them cover: (S, T) float32 and its start in ns since 1970."""
    start_ns = max(channel.start_ns for channel in channels)
    offsets = [round((start_ns - channel.start_ns) * 1e-9 * rate_hz) for channel in channels]
    n_samples = min(channel.samples.size - offset for channel, offset in zip(channels, offsets))
    if n_samples < 1:
        raise RecordingError(f"{source}: its channels have no time window in common")
    block = np.empty((len(channels), n_samples), dtype=np.float32)
    for row, channel, offset in zip(block, channels, offsets):
        row[:] = channel.samples[offset : offset + n_samples]
    return block, start_ns


def _few(reasons: list[str], n: int = 3) -> str:
    more = f"; and {len(reasons) - n} more" if len(reasons) > n else ""
    return "; ".join(reasons[:n]) + more
