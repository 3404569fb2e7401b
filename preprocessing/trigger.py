"""Find events in continuous recordings: where STA/LTA rises on enough channels of the network at once.

The trigger is ObsPy's, with the rule of the recorder at Åknes: STA/LTA above 4 on ten channels within one second. [LS23]

[LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tqdm import tqdm

from preprocessing.continuous import NS, ContinuousData
from preprocessing.recordings import Recording, RecordingError, join_channels
from utils.schema_predict import TriggerParams

log = logging.getLogger(__name__)
SETTLE_S = 20.0  # what the filter, and what began before, may need ahead of a chunk


@dataclass(frozen=True)
class Window:
    """Say when the network triggered, in ns since 1970, and hold what was recorded around it; or why nothing usable was."""

    trigger_ns: int
    recording: Recording | None
    reason: str = ""


def find_events(data: ContinuousData, trigger: TriggerParams, chunk_s: float, pre_trigger_s: float, duration_s: float,
                sampling_rate_hz: float, known_ns: Sequence[int] = ()) -> Iterator[list[Window]]:  # fmt: skip
    """Go through recordings chunk by chunk; yield the windows of the events in each, every event once.

    A window begins ``pre_trigger_s`` before its trigger and lasts ``duration_s``; triggers within it belong to it. ``known_ns``
    are the triggers of an interrupted run's events: chunks before that of the last one are passed over, the rest is found as
    without the interruption.
    """
    before_s = trigger.lta_s + trigger.sta_s + max(pre_trigger_s, SETTLE_S)
    last_ns, told = None, False
    edges = list(pairwise([*range(data.start_ns, data.end_ns, int(chunk_s * NS)), data.end_ns + 1]))
    for start_ns, end_ns in tqdm(edges, desc="Watching", unit="chunk"):
        if known_ns and end_ns <= known_ns[-1]:
            last_ns = max((ns for ns in known_ns if ns < end_ns), default=None)
            continue
        stream = data.read(start_ns - int(before_s * NS), end_ns + int(duration_s * NS))
        n_channels = len({trace.id for trace in stream})
        if n_channels < trigger.channels and not told:
            told = True
            log.warning("Only %d channels in some of the recordings: with trigger.channels = %d nothing can trigger there", n_channels,
                        trigger.channels)  # fmt: skip
        windows = []
        for time_ns in _triggers(stream, trigger):
            within_last = last_ns is not None and time_ns < last_ns + int((duration_s - pre_trigger_s) * NS)
            if start_ns <= time_ns < end_ns and not within_last:
                windows.append(_cut(stream, time_ns, pre_trigger_s, duration_s, sampling_rate_hz))
                last_ns = time_ns
        yield windows


def _triggers(stream, trigger: TriggerParams) -> list[int]:
    """Return when the network triggers, in ns since 1970, in order."""
    from obspy.signal.trigger import coincidence_trigger

    filtered = stream.copy()
    for trace in list(filtered):
        if trace.stats.npts < (trigger.sta_s + trigger.lta_s) * trace.stats.sampling_rate:
            filtered.remove(trace)  # too short to tell
    filtered.detrend("demean").filter("highpass", freq=trigger.highpass_hz)
    events = coincidence_trigger(
        "classicstalta", trigger.thr_on, trigger.thr_off, filtered, trigger.channels,
        sta=trigger.sta_s, lta=trigger.lta_s, max_trigger_length=trigger.within_s,
    )  # fmt: skip
    # to the microsecond, as it is written
    return sorted(round(event["time"].ns / 1000) * 1000 for event in events)


def _cut(stream, trigger_ns: int, pre_trigger_s: float, duration_s: float, sampling_rate_hz: float) -> Window:
    """Cut the window of an event out of all channels that cover it."""
    from obspy import UTCDateTime

    start = UTCDateTime(ns=trigger_ns - int(pre_trigger_s * NS))
    cut = stream.slice(start, start + duration_s, nearest_sample=True)
    traces = []
    for trace in cut:
        wanted = round(duration_s * trace.stats.sampling_rate)
        if trace.stats.npts >= wanted - 1 and abs(trace.stats.starttime - start) <= trace.stats.delta:
            trace.data = trace.data[:wanted]
            traces.append(trace)
    if not traces:
        return Window(trigger_ns, None, "no channel covers the whole window (gap, or end of the recordings)")
    try:
        return Window(trigger_ns, join_channels("the window", traces, sampling_rate_hz, max_gap_s=0.0))
    except RecordingError as error:
        return Window(trigger_ns, None, str(error))
