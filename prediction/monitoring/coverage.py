"""Which times each channel has recorded, and up to when a network is complete."""

from collections.abc import Iterable

import numpy as np

from prediction.continuous.miniseed import NS
from prediction.monitoring.growing_archive import Arrival

JOINED_NS = 2_000_000  # times in miniSEED are rounded to 0.1 ms
KEPT_NS = 7_200 * NS  # earlier times are forgotten


class Coverage:
    """The times that each channel has recorded, from the records that have arrived."""

    def __init__(self) -> None:
        # (2, n) starts and ends of segments without gaps, in order
        self.segments: dict[str, np.ndarray] = {}
        self.later_than_clock: set[str] = set()  # channels that had such data

    def add(self, arrivals: Iterable[Arrival], since_ns: int, clock_ns: int) -> None:
        """Add records; what ended more than ``KEPT_NS`` before ``since_ns`` is forgotten.

        Records that begin after ``clock_ns`` (now, or a little later) have a wrong time and do not
        count: as the newest data they would make all other channels seem silent.
        """
        for channel, start_ns, end_ns, _ in arrivals:
            known = self.segments.get(channel, np.empty((2, 0), np.int64))
            both = np.concatenate([known, np.stack([start_ns, end_ns])], axis=1)
            if (start_ns > clock_ns).any():
                self.later_than_clock.add(channel)
            kept = (both[1] > since_ns - KEPT_NS) & (both[0] <= clock_ns)
            self.segments[channel] = merged(both[:, kept])

    def newest_ns(self) -> int | None:
        """Return the end of the newest data of any channel."""
        return max(
            (int(found[1, -1]) for found in self.segments.values() if found.size), default=None
        )

    def silent(self, horizon_ns: int) -> list[str]:
        """Return the channels whose newest data are older than ``horizon_ns``."""
        return sorted(
            name
            for name, found in self.segments.items()
            if not found.size or found[1, -1] < horizon_ns
        )

    def complete_ns(self, horizon_ns: int) -> int | None:
        """Return the time up to which all channels are complete; never before ``horizon_ns``.

        Gaps before ``horizon_ns`` are no longer waited for, nor channels without data since then.
        None if no channel has data since then.
        """
        complete = [
            _covered_until(found, horizon_ns)
            for found in self.segments.values()
            if found.size and found[1, -1] >= horizon_ns
        ]
        return min(complete, default=None)


def merged(segments: np.ndarray, gap_ns: int = JOINED_NS) -> np.ndarray:
    """Join segments (2, n) that touch, overlap or have only a small gap; return them in order."""
    if not segments.size:
        return segments
    starts, ends = segments[:, np.argsort(segments[0], kind="stable")]
    ends = np.maximum.accumulate(ends)
    first = np.r_[True, starts[1:] > ends[:-1] + gap_ns]
    last = np.r_[np.flatnonzero(first)[1:] - 1, len(ends) - 1]
    return np.stack([starts[first], ends[last]])


def _covered_until(segments: np.ndarray, time_ns: int) -> int:
    """Return the end of the segment that holds a time, or the time itself if it is in a gap."""
    place = int(np.searchsorted(segments[0], time_ns + JOINED_NS, side="right")) - 1
    return max(time_ns, int(segments[1, place])) if place >= 0 else time_ns
