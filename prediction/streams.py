"""Where the trigger reads time windows from: the interface ``Source``, and streams in memory."""

from pathlib import Path
from typing import Any, Protocol

from prediction.continuous import join_segments, name_channels


class Source(Protocol):
    """Continuous recordings from ``start_ns`` to ``end_ns``, in ns since 1970.

    ``unusable`` has the reason for each file that could not be read completely.
    """

    unusable: dict[Path, str]

    @property
    def start_ns(self) -> int:
        """Return when the recordings begin."""
        ...

    @property
    def end_ns(self) -> int:
        """Return when the recordings end."""
        ...

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return an ObsPy stream between two times, of float64 segments without gaps."""
        ...


class StreamData:
    """An ObsPy stream in memory as a ``Source``; it is not changed."""

    def __init__(self, stream: Any):
        self.unusable: dict[Path, str] = {}
        traces = [t for t in stream if t.stats.npts and t.data.dtype.kind in "iuf"]
        self.stream = type(stream)(name_channels([_own_header(trace) for trace in traces]))

    @property
    def start_ns(self) -> int:
        """Return when the stream begins."""
        return min(trace.stats.starttime.ns for trace in self.stream)

    @property
    def end_ns(self) -> int:
        """Return when the stream ends."""
        return max(trace.stats.endtime.ns for trace in self.stream)

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return the stream between two times as float64 segments without gaps."""
        from obspy import UTCDateTime

        return join_segments(self.stream.slice(UTCDateTime(ns=start_ns), UTCDateTime(ns=end_ns)))


def _own_header(trace: Any) -> Any:
    """Return a trace with the same samples whose header can be changed."""
    return type(trace)(trace.data, trace.stats.copy())
