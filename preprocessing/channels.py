"""The channels of an event: join segments, bridge short gaps, resample, cut or pad to a length."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

UNLABELED = "Unlabeled"  # the class of events that only self-supervised learning may use
LARGEST_SAMPLE = 1e15  # recorder units; the power of larger samples would overflow float32
# Largest relative difference between sampling rates that count as equal. Clocks of recorders drift
# less; over 16 000 samples this is less than two samples.
SAME_RATE = 1e-4
MAX_RESAMPLING_FACTOR = 1000
# A slower channel has next to nothing in the wanted band: state of health, or long periods only.
LEAST_RATE_SHARE = 1 / 20
# 1900 and 2100, in ns since 1970: a start time outside this range means a damaged header
EARLIEST_NS, LATEST_NS = (
    int(np.datetime64(year, "ns").astype(np.int64)) for year in ("1900", "2100")
)


def live_channels(waveforms: np.ndarray) -> np.ndarray:
    """Return a mask (S,) of the channels of (S, T) with a signal; a constant channel has none."""
    return np.ptp(waveforms, axis=-1) > 0


class UnusableChannel(Exception):
    """The reason why a channel is left out, with its name."""


@dataclass
class Channel:
    """Samples of one channel without gaps, from ``start_ns`` to ``end_ns`` (ns since 1970).

    ``own_rate_hz`` is its sampling rate as recorded, ``rate_hz`` that of ``samples``.
    """

    name: str
    samples: np.ndarray
    start_ns: int
    end_ns: int
    rate_hz: float
    own_rate_hz: float


def channel_name(codes: str, number: int | str = "") -> str:
    """Return the name of a channel in tables: its codes (``NET.STA.LOC.CHA``).

    Channels of formats without codes (SEG-2, SEG-Y) are ``channel N`` by their place in the file;
    continuous data have that place as channel code.
    """
    *places, channel = codes.split(".")
    number = channel or str(number)
    return f"channel {number}" if number.isdigit() and not any(places) else codes


def by_channel(traces: list[Any]) -> list[list[Any]]:
    """Group the traces by channel; return a list of (name, trace) per channel, sorted by time.

    Each trace without a name (SEG-2, SEG-Y) is a channel of its own.
    """
    named: dict[str, list[Any]] = {}
    for number, trace in enumerate(traces, start=1):
        named.setdefault(channel_name(trace.id, number), []).append(trace)
    for name, segments in list(named.items()):
        segments.sort(key=lambda trace: trace.stats.starttime.ns)
        # Same name and same start: different sensors, whose full names did not fit the format.
        if len(segments) > 1 and len({trace.stats.starttime.ns for trace in segments}) == 1:
            del named[name]
            named.update({f"{name} #{n}": [trace] for n, trace in enumerate(segments, start=1)})
    return [[(name, trace) for trace in segments] for name, segments in named.items()]


def join_segments(segments: list[Any], max_gap_s: float, max_samples: float) -> tuple[Channel, int]:
    """Join the (name, trace) segments of a channel; also return 1 if samples were interpolated.

    Raises ``UnusableChannel``.
    """
    name, first = segments[0]
    rate_hz, start_ns = float(first.stats.sampling_rate), first.stats.starttime.ns
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise UnusableChannel(f"{name}: sampling rate {rate_hz} Hz")
    if not EARLIEST_NS <= start_ns < LATEST_NS:
        raise UnusableChannel(f"{name}: starts {start_ns / 1e9:.3g} s after 1970")
    offsets, end = _place(segments, start_ns, rate_hz, max_gap_s)
    if not 1 < end <= max_samples:
        raise UnusableChannel(f"{name}: {end} samples")
    data = first.data
    if len(segments) > 1 or isinstance(data, np.ma.MaskedArray):
        data = np.full(end, np.nan)
        for offset, (_, trace) in zip(offsets, segments):
            with np.errstate(invalid="ignore"):  # signalling NaNs are missing samples like all NaNs
                data[offset : offset + trace.stats.npts] = np.ma.filled(
                    np.ma.asarray(trace.data, dtype=np.float64), np.nan
                )
    samples = _interpolate(name, data, round(max_gap_s * rate_hz), rate_hz)
    end_ns = start_ns + round(end / rate_hz * 1e9)
    channel = Channel(name, samples, start_ns, end_ns, rate_hz, rate_hz)
    return channel, int(samples is not data)


def _place(
    segments: list[Any], start_ns: int, rate_hz: float, max_gap_s: float
) -> tuple[list[int], int]:
    """Return the first sample of each segment within its channel, and the channel's length.

    Checked before memory is allocated, because a gap may be years long. Raises ``UnusableChannel``.
    """
    offsets, end = [], 0
    for name, trace in segments:
        if trace.data.dtype.kind not in "iuf":  # log records of miniSEED are text
            raise UnusableChannel(f"{name}: samples are not numbers")
        if abs(trace.stats.sampling_rate / rate_hz - 1) > SAME_RATE:
            raise UnusableChannel(f"{name}: changes its sampling rate")
        offset = round((trace.stats.starttime.ns - start_ns) * 1e-9 * rate_hz)
        gap_s = (offset - end) / rate_hz
        if gap_s > max_gap_s:
            raise UnusableChannel(f"{name}: gap of {gap_s:.3g} s")
        offsets.append(offset)
        end = max(end, offset + trace.stats.npts)
    return offsets, end


def _interpolate(name: str, samples: np.ndarray, max_missing: int, rate_hz: float) -> np.ndarray:
    """Interpolate gaps of up to ``max_missing`` samples; return the same array if it has none.

    Raises ``UnusableChannel`` for longer gaps.
    """
    with np.errstate(invalid="ignore"):  # NaN compares as False, so it counts as missing
        if samples.min() >= -LARGEST_SAMPLE and samples.max() <= LARGEST_SAMPLE:
            return samples
        missing = ~(np.abs(samples) <= LARGEST_SAMPLE)
    edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
    longest = int((edges[1::2] - edges[::2]).max())
    if longest > max_missing or missing.all():
        raise UnusableChannel(f"{name}: {longest / rate_hz:.3g} s missing or not finite")
    where = np.arange(samples.size)
    return np.interp(where, where[~missing], samples[~missing])


def why_too_slow_or_fast(channel: Channel, rate_hz: float) -> str:
    """Return why a channel cannot be resampled to ``rate_hz``; an empty string if it can."""
    found = f"{channel.name}: {channel.rate_hz:g} Hz"
    if channel.rate_hz < LEAST_RATE_SHARE * rate_hz:
        share = 100 * channel.rate_hz / rate_hz
        return f"{found} has {share:.2g} % of the frequencies of {rate_hz:g} Hz; no seismometer?"
    if channel.rate_hz > MAX_RESAMPLING_FACTOR * rate_hz:
        return f"{found} is more than {MAX_RESAMPLING_FACTOR} times the wanted {rate_hz:g} Hz"
    return ""


def resample(channel: Channel, rate_hz: float) -> bool:
    """Resample a channel to ``rate_hz`` in place; return False if it already has this rate."""
    ratio = rate_hz / channel.rate_hz
    if abs(ratio - 1) <= SAME_RATE:
        return False
    from scipy.signal import resample_poly

    factor = Fraction(ratio).limit_denominator(MAX_RESAMPLING_FACTOR)
    # padtype "line" avoids ringing at the ends of channels with an offset or drift
    channel.samples = resample_poly(
        channel.samples.astype(np.float64), factor.numerator, factor.denominator, padtype="line"
    )
    channel.rate_hz = rate_hz
    return True


def fit_length(waveforms: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut an event (S, T) at its end, or pad each channel with its mean; returns (S, n_samples).

    The result is float32. Padding with the mean (computed in float64) avoids a step when the
    recorder has an offset. A constant channel stays constant.
    """
    block = np.ascontiguousarray(waveforms[:, :n_samples], dtype=np.float32)
    n_missing = n_samples - block.shape[1]
    if not n_missing:
        return block
    means = block.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    return np.concatenate([block, np.repeat(means, n_missing, axis=1)], axis=1)
