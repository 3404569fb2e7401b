"""Measure recordings for the check: every channel of every file or packed event.

Waveforms are not kept: what remains of a channel are its name, time span, rate and a few numbers.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import detrend

from preprocessing import levels
from preprocessing.channels import (
    Channel,
    UnusableChannel,
    by_channel,
    join_segments,
    why_too_slow_or_fast,
)
from preprocessing.event_archive import EventArchive
from preprocessing.packing import MAX_SERIAL_FILES, PACKING
from preprocessing.recording_folder import EventToPack
from preprocessing.recordings import choose_window
from preprocessing.traces import MAX_SAMPLES, RecordingError, read_whole_traces
from utils.parallel import map_in_order

BRIDGED_GAP_S = 1.0  # channels with gaps up to this length could be kept: dataset.max_gap_s
SLOW_HZ = 1.0  # microseism and drift are slower
LEAST_PERIODS = 4.0  # of SLOW_HZ in a channel whose slow share is measured
LEAST_DEAD_SHARE = 0.05  # share of a channel with one value; less is not reported
# A clipped channel reaches the same largest or smallest value often, several samples in a row. In
# a quiet channel of a few counts this happens by chance, so it must have many values.
LEAST_CLIPPED_RUNS, LEAST_VALUES = 3, 50


@dataclass(frozen=True)
class MeasuredChannel:
    """What is known of one channel; ``span`` has its name, rate and times, without samples.

    ``noise`` is the rms of its quiet part, as training measures it (``preprocessing.levels``), and
    ``peak`` the largest distance from the median, in recorder units. ``slow_share`` is the share of
    its power below ``SLOW_HZ``, ``dead_share`` the longest stretch of one value, as share of the
    channel. What a channel is too short for is NaN.
    """

    span: Channel
    noise: float
    peak: float
    slow_share: float
    dead_share: float
    is_clipped: bool
    checksum: int

    @property
    def is_dead(self) -> bool:
        """True for a channel without a signal."""
        return self.dead_share == 1


@dataclass(frozen=True)
class MeasuredEvent:
    """What is known of one event; ``problem`` is the reason if it cannot be read.

    ``left_out`` has the channels that cannot be used at any sampling rate, with the reasons;
    ``n_with_short_gaps`` of them would be kept with ``dataset.max_gap_s`` = ``BRIDGED_GAP_S``.
    """

    name: str
    category: str
    channels: tuple[MeasuredChannel, ...] = ()
    left_out: tuple[str, ...] = ()
    padded: tuple[str, ...] = ()
    n_with_short_gaps: int = 0
    start_time: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Outcome:
    """What packing at one rate would make of an event: its length, or the reason against it."""

    length_s: float = 0.0
    left_out: tuple[str, ...] = ()
    padded: tuple[str, ...] = ()
    problem: str = ""


def measure_files(events: list[EventToPack]) -> Iterator[MeasuredEvent]:
    """Measure the events of a folder of recordings, in order, on all cores."""
    return map_in_order(measure_file, events, max_serial=MAX_SERIAL_FILES)


def not_read(root: Path) -> Iterator[str]:
    """Name what packing does not read in a folder: only ``root/<Class>/<recording>`` is read."""
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield f"{path}: a file outside of the class folders"
            continue
        inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        folders = sorted(entry for entry in inside if entry.is_dir())
        yield from (f"{folder}: a folder within a class" for folder in folders)
        if len(folders) == len(inside):
            yield f"{path}: a class without recordings"


def measure_archive(archive: EventArchive) -> Iterator[MeasuredEvent]:
    """Measure the events of a packed archive, in order, on all cores."""
    try:
        report = json.loads((archive.archive_dir / PACKING).read_text(encoding="utf-8"))["report"]
    except (OSError, ValueError, LookupError):
        report = {}  # simulated events have not been packed
    left_out, padded = report.get("left_out", {}), report.get("padded", {})
    measure = partial(_measure_packed, archive, left_out, padded)
    return map_in_order(measure, range(len(archive)), max_serial=MAX_SERIAL_FILES)


def measure_file(event: EventToPack) -> MeasuredEvent:
    """Measure the channels of one file."""
    try:
        traces = read_whole_traces(event.place)
    except RecordingError as error:
        return MeasuredEvent(event.name, event.category, problem=str(error))
    except OSError as error:
        problem = f"{event.place}: {error.strerror}"
        return MeasuredEvent(event.name, event.category, problem=problem)
    channels, left_out, n_short = [], [], 0
    for segments in by_channel(traces):
        try:
            channel, _ = join_segments(segments, 0.0, MAX_SAMPLES)
        except UnusableChannel as reason:
            left_out.append(str(reason))
            n_short += _can_be_bridged(segments)
            continue
        channels.append(measure_channel(channel))
    start = min((trace.stats.starttime for trace in traces), default="")
    return MeasuredEvent(
        event.name,
        event.category,
        tuple(channels),
        tuple(left_out),
        n_with_short_gaps=n_short,
        start_time=str(start),
    )


def _can_be_bridged(segments: list[Any]) -> bool:
    try:
        join_segments(segments, BRIDGED_GAP_S, MAX_SAMPLES)
    except UnusableChannel:
        return False
    return True


def _measure_packed(
    archive: EventArchive, left_out: dict[str, Any], padded: dict[str, Any], index: int
) -> MeasuredEvent:
    start_time = str(archive.metadata["trace_start_time"][index])
    rate_hz = archive.sampling_rate_hz
    files = archive.metadata.get("source_file")
    source = str(archive.names[index] if files is None else files[index])
    start_ns = 0
    if start_time:
        start_ns = int(np.datetime64(start_time.rstrip("Z"), "ns").astype(np.int64))
    end_ns = start_ns + round(archive.n_samples / rate_hz * 1e9)
    channels = [
        measure_channel(Channel(name, samples, start_ns, end_ns, rate_hz, rate_hz))
        for name, samples in zip(archive.channels(index), archive.waveforms(index))
    ]
    return MeasuredEvent(
        str(archive.names[index]),
        str(archive.labels[index]),
        tuple(channels),
        tuple(left_out.get(source, ())),
        tuple(padded.get(source, ())),
        start_time=start_time,
    )


def measure_channel(channel: Channel) -> MeasuredChannel:
    """Measure one channel without gaps."""
    samples = np.asarray(channel.samples, dtype=np.float32)
    centred = samples - np.median(samples)
    return MeasuredChannel(
        replace(channel, samples=np.empty(0, np.float32)),
        noise=levels.measure(samples[None], channel.rate_hz).noise,
        peak=float(np.abs(centred).max()),
        slow_share=_slow_share(centred, channel.rate_hz),
        dead_share=_longest_stretch(samples) / samples.size,
        is_clipped=_is_clipped(samples),
        checksum=zlib.crc32(samples.data),
    )


def _slow_share(samples: np.ndarray, rate_hz: float) -> float:
    """Return the share of the power below ``SLOW_HZ``, without a linear trend."""
    if samples.size < LEAST_PERIODS / SLOW_HZ * rate_hz or rate_hz <= 2 * SLOW_HZ:
        return np.nan
    spectrum = np.fft.rfft(detrend(samples) * np.hanning(samples.size))
    power = np.square(np.abs(spectrum))
    slow = np.fft.rfftfreq(samples.size, 1 / rate_hz) < SLOW_HZ
    total = power.sum()
    return float(power[slow].sum() / total) if total > 0 else np.nan


def _longest_stretch(samples: np.ndarray) -> int:
    """Return the length of the longest stretch of one value, in samples."""
    changes = np.flatnonzero(np.diff(samples))
    return int(np.diff(changes, prepend=-1, append=samples.size - 1).max())


def _is_clipped(samples: np.ndarray) -> bool:
    low, high = samples.min(), samples.max()
    n_runs = 0
    for extreme in (low, high):
        repeated = (samples[1:] == extreme) & (samples[:-1] == extreme)
        n_runs += int(np.count_nonzero(np.diff(repeated, prepend=False) & repeated))
    return n_runs >= LEAST_CLIPPED_RUNS and np.unique(samples).size >= LEAST_VALUES


def outcome(event: MeasuredEvent, rate_hz: float) -> Outcome:
    """Return what packing at ``rate_hz`` would make of an event that was read."""
    if event.problem:
        return Outcome(problem=event.problem)
    reasons = [why_too_slow_or_fast(channel.span, rate_hz) for channel in event.channels]
    left_out = [*event.left_out, *filter(None, reasons)]
    channels = [channel for channel, reason in zip(event.channels, reasons) if not reason]
    if not channels:
        return Outcome(left_out=tuple(left_out), problem=f"{event.name}: no usable channel")
    spans = [channel.span for channel in channels]
    window = choose_window(spans)
    if window is None:
        problem = f"{event.name}: its channels have no time window in common"
        return Outcome(left_out=tuple(left_out), problem=problem)
    left_out += window.why_left_out(spans)
    if all(channels[number].is_dead for number in window.kept):
        problem = f"{event.name}: every channel is constant"
        return Outcome(left_out=tuple(left_out), problem=problem)
    length_s = (window.end_ns - window.start_ns) * 1e-9
    padded = [
        f"{spans[number].name}: {(1 - window.coverage[number]) * length_s:.3g} s padded"
        for number in window.kept
        if window.coverage[number] < 1
    ]
    return Outcome(length_s, tuple(left_out), (*event.padded, *padded))
