"""Find events in continuous recordings by a coincidence trigger on STA/LTA.

ObsPy's coincidence trigger with the rule of the recorder at Åknes: STA/LTA above 4 on ten channels
within one second. [LS23]

[LS23] Langet & Silverberg, Earth Surf. Dynam. 11, 89, 2023.
"""

import logging
from bisect import bisect, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from obspy import UTCDateTime

from prediction.continuous.continuous_data import Source
from prediction.continuous.miniseed import NS
from prediction.events import EventWindow
from prediction.predict_config import TriggerParams
from preprocessing.channels import channel_name
from preprocessing.recordings import Recording, join_channels
from preprocessing.traces import RecordingError
from utils.progress import progress_bar

log = logging.getLogger(__name__)
MIN_WINDOW_FRACTION = 0.5  # that must be recorded, where the recordings or channels end
SETTLE_S = 20.0  # data before a chunk, for the filter and for events that began earlier


Trigger = tuple[int, dict[str, float]]  # ns since 1970, and picks: see ``_first_of_each_station``


def utc(time_ns: int) -> str:
    """Return a time in ns since 1970 as UTC in ISO 8601, to the microsecond."""
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[us]')}Z"


def time_ns(text: str) -> int:
    """Return a time that ``utc`` has written in ns since 1970."""
    return int(np.datetime64(text[:-1], "ns").astype(np.int64))


def find_events(
    data: Source,
    source: str,
    trigger: TriggerParams,
    chunk_s: float,
    pre_trigger_s: float,
    duration_s: float,
    sampling_rate_hz: float,
    max_gap_s: float = 0.0,
    known_ns: Sequence[int] = (),
) -> Iterator[list[EventWindow]]:
    """Yield the windows of the events in each chunk of the recordings, every event once.

    A window begins ``pre_trigger_s`` before its trigger and lasts ``duration_s``; later triggers
    within it belong to the same event. ``known_ns`` are the triggers that an interrupted run has
    found: chunks before the last of them are skipped, the rest is found as without interruption.
    """
    finder = EventFinder(
        data, source, trigger, pre_trigger_s, duration_s, sampling_rate_hz, max_gap_s
    )
    edges = list(pairwise([*range(data.start_ns, data.end_ns, int(chunk_s * NS)), data.end_ns + 1]))
    for start_ns, end_ns in progress_bar(edges, desc="Scanning", unit="chunk"):
        if known_ns and end_ns <= known_ns[-1]:
            finder.known = [ns for ns in known_ns if ns < end_ns]
            continue
        yield finder.search(start_ns, end_ns)


@dataclass
class EventFinder:
    """Search recordings piece by piece; what is found does not depend on the pieces.

    Each piece is read with some time before it, in which filter and STA/LTA settle. ``known`` are
    the triggers found so far, in order: a trigger within the window of one of them, or with one of
    them in its own window, is the same event.
    """

    data: Source
    source: str  # the file of the events
    trigger: TriggerParams
    pre_trigger_s: float
    duration_s: float
    sampling_rate_hz: float
    max_gap_s: float = 0.0
    known: list[int] = field(default_factory=list)
    warned: set[str] = field(default_factory=set)

    @property
    def after_ns(self) -> int:
        """Return how much must be recorded after a trigger: the rest of its window, its picks."""
        after_s = max(self.duration_s - self.pre_trigger_s, 3 * self.trigger.within_s)
        return int(after_s * NS)

    def search(self, start_ns: int, end_ns: int) -> list[EventWindow]:
        """Return the windows of the events between two times, without known events."""
        trigger, stream = self.trigger, self.read(start_ns, end_ns)
        n_channels = len({trace.id for trace in stream})
        if n_channels < trigger.channels:
            self._warn_once(
                f"Some of the recordings have only {n_channels} channels; with trigger.channels = "
                f"{trigger.channels} no event is found there",
            )
        found = self.new(coincidences(sta_lta(stream, trigger), trigger), start_ns, end_ns)
        windows = []
        for ns, picks in found:
            recording, reason = self._cut(stream, ns)
            windows.append(EventWindow(self.source, recording, reason, utc(ns), picks))
        return windows

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return an ObsPy stream of all that is needed to search between two times."""
        trigger = self.trigger
        before_s = trigger.lta_s + trigger.sta_s + max(self.pre_trigger_s, SETTLE_S)
        stream = self.data.read(
            start_ns - int(before_s * NS), end_ns + max(self.after_ns, int(self.duration_s * NS))
        )
        slow = _leave_out_slow(stream, trigger)
        if slow:
            self._warn_once(
                "The sampling rate of these channels is too low for a highpass at "
                f"{trigger.highpass_hz:g} Hz; they are left out: {', '.join(slow)}",
            )
        return stream

    def new(self, triggers: list[Trigger], start_ns: int, end_ns: int) -> list[Trigger]:
        """Return the triggers between two times that are new events; they are known from now on."""
        found = []
        for trigger_ns, picks in triggers:
            if start_ns <= trigger_ns < end_ns and not self._is_known(trigger_ns):
                insort(self.known, trigger_ns)
                found.append((trigger_ns, picks))
        return found

    def _cut(self, stream: Any, trigger_ns: int) -> tuple[Recording | None, str]:
        return _cut(
            stream,
            trigger_ns,
            self.pre_trigger_s,
            self.duration_s,
            self.sampling_rate_hz,
            self.max_gap_s,
        )

    def _is_known(self, trigger_ns: int) -> bool:
        window_ns = int((self.duration_s - self.pre_trigger_s) * NS)
        place = bisect(self.known, trigger_ns)
        near = self.known[max(0, place - 1) : place + 1]
        return any(abs(trigger_ns - known_ns) < window_ns for known_ns in near)

    def _warn_once(self, message: str) -> None:
        if message not in self.warned:
            self.warned.add(message)
            log.warning("%s", message)


def _leave_out_slow(stream: Any, trigger: TriggerParams) -> list[str]:
    """Remove channels whose sampling rate is too low for the trigger's filter; return their names.

    Such channels record, for example, the state of the recorder.
    """
    slow = {trace.id for trace in stream if trace.stats.sampling_rate <= 2 * trigger.highpass_hz}
    for trace in [trace for trace in stream if trace.id in slow]:
        stream.remove(trace)
    return sorted(slow)


def sta_lta(stream: Any, trigger: TriggerParams) -> Any:
    """Return an ObsPy stream of STA/LTA; it does not depend on thresholds and channels."""
    from obspy import Stream

    # a segment shorter than both windows has no STA/LTA
    ratios = Stream(
        [
            t.copy()
            for t in stream
            if t.stats.npts >= (trigger.sta_s + trigger.lta_s) * t.stats.sampling_rate
        ]
    )
    for trace in ratios:  # not the mean of all: that would depend on where the piece ends
        trace.data -= trace.data[: max(1, round(trigger.sta_s * trace.stats.sampling_rate))].mean()
    ratios.filter("highpass", freq=trigger.highpass_hz)
    return ratios.trigger("classicstalta", sta=trigger.sta_s, lta=trigger.lta_s)


def coincidences(ratios: Any, trigger: TriggerParams) -> list[Trigger]:
    """Return when the network triggers, in order, and its picks; ``ratios`` are STA/LTA.

    A channel triggers where its STA/LTA rises above ``thr_on``, and counts for ``within_s`` from
    there. The network triggers where enough channels overlap (ObsPy's coincidence trigger).
    """
    from obspy import Stream, Trace
    from obspy.signal.trigger import coincidence_trigger, trigger_onset

    onsets_ns: dict[str, list[int]] = {}
    pulses = Stream()
    for trace in ratios:
        onsets = trigger_onset(trace.data, trigger.thr_on, trigger.thr_off)
        if not len(onsets):
            continue
        pulse = np.zeros(trace.stats.npts)
        for first, _ in onsets:
            pulse[first : first + round(trigger.within_s * trace.stats.sampling_rate)] = 1
            time_ns = trace.stats.starttime.ns + round(first * trace.stats.delta * NS)
            onsets_ns.setdefault(trace.id, []).append(time_ns)
        pulses.append(Trace(pulse, trace.stats))
    if len(onsets_ns) < trigger.channels:
        return []
    events = coincidence_trigger(None, 0.5, 0.5, pulses, trigger.channels)
    # to the microsecond, as it is written
    found = [(round(event["time"].ns / 1000) * 1000, event) for event in events]
    return [
        (time_ns, _first_of_each_station(time_ns, event, onsets_ns))
        for time_ns, event in sorted(found, key=lambda pair: pair[0])
    ]


def _first_of_each_station(
    trigger_ns: int, event: dict[str, Any], onsets_ns: dict[str, list[int]]
) -> dict[str, float]:
    """Return the picks of a network trigger: channel name to seconds after it, in order of time.

    Of each station, the channel that has triggered first within the coincidence.
    """
    last_ns = trigger_ns + int(event["duration"] * NS)
    times = {
        name: next((ns for ns in onsets_ns[name] if trigger_ns - 2000 <= ns <= last_ns), trigger_ns)
        for name in event["trace_ids"]
    }
    first: dict[str, tuple[int, str]] = {}
    for name, ns in times.items():
        network, rest = name.split(".", 1)
        station, _, channel = rest.rsplit(".", 2)  # a station's code may have a point
        place = f"{network}.{station}" if station else channel
        first[place] = min(first.get(place, (ns, name)), (ns, name))
    return {channel_name(name): (ns - trigger_ns) / NS for ns, name in sorted(first.values())}


def _cut(
    stream: Any,
    trigger_ns: int,
    pre_trigger_s: float,
    duration_s: float,
    sampling_rate_hz: float,
    max_gap_s: float,
) -> tuple[Recording | None, str]:
    """Cut the window of an event from the channels that cover it, or at least half of it.

    Returns None and the reason if there are none.
    """
    start = UTCDateTime(ns=trigger_ns - int(pre_trigger_s * NS))
    cut = stream.slice(start, start + duration_s, nearest_sample=True)
    for share in (1.0, MIN_WINDOW_FRACTION):
        covering = _covering(cut, start, share * duration_s, max_gap_s)
        if covering:
            break
    else:
        return None, "no channel covers enough of the window (gap, or end of the recordings)"
    left_out = {trace.id for trace in cut} - {trace.id for trace in covering}
    for trace in covering:
        trace.trim(start, start + duration_s - trace.stats.delta)
    try:
        recording = join_channels("the window", covering, sampling_rate_hz, max_gap_s)
    except RecordingError as error:
        return None, str(error)
    names = sorted(map(channel_name, left_out))
    reasons = (f"{name}: covers too little of the window" for name in names)
    return replace(recording, left_out=(*recording.left_out, *reasons)), ""


def _covering(cut: Any, start: Any, length_s: float, max_gap_s: float) -> list[Any]:
    """Return segments of the channels that cover ``length_s`` from ``start``.

    Gaps up to ``max_gap_s`` are allowed.
    """
    traces = []
    for name in sorted({trace.id for trace in cut}):
        kept, end = [], start
        for trace in sorted(
            (trace for trace in cut if trace.id == name), key=lambda trace: trace.stats.starttime
        ):
            if trace.stats.starttime - end > 1.5 * trace.stats.delta + max_gap_s:
                break
            kept.append(trace)
            end = trace.stats.endtime
        if kept and end - start >= length_s - 2 * kept[0].stats.delta - max_gap_s:
            traces += kept
    return traces
