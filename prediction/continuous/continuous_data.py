"""Read time windows of continuous recordings of any length.

Of miniSEED files only the records of a window are read, of other formats the whole file.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from prediction.continuous.miniseed import Records, index_records, one_by_one, read_records
from preprocessing.channels import LARGEST_SAMPLE, SAME_RATE
from preprocessing.traces import RecordingError, read_traces

MAX_WHOLE_FILE_BYTES = 2**31  # of formats that are read whole


@dataclass(frozen=True)
class WholeFile:
    """A file of another format, and the time that it covers."""

    path: Path
    start_ns: int
    end_ns: int
    n_bytes: int


class ContinuousData:
    """Read time windows out of continuous recordings in one or many files.

    ``start_ns`` and ``end_ns`` are the first and last time, in ns since 1970. ``unusable`` has the
    reason for each file that could not be read completely. Raises ``RecordingError`` if no file can
    be read.
    """

    def __init__(self, paths: Sequence[str | Path]):
        self.files: list[Records | WholeFile] = []
        self.unusable: dict[Path, str] = {}
        for path in map(Path, paths):
            try:
                self.files.append(index_file(path, self.unusable))
            except RecordingError as error:
                self._note(path, error)
        if not self.files:
            path, reason = next(iter(self.unusable.items()))
            raise RecordingError(f"{path}: {reason}")

    def _note(self, path: Path, error: RecordingError) -> None:
        self.unusable.setdefault(path, " ".join(str(error).removeprefix(f"{path}: ").split()))

    @cached_property
    def start_ns(self) -> int:
        """Return when the recordings begin."""
        return min(int(np.min(file.start_ns)) for file in self.files)

    @cached_property
    def end_ns(self) -> int:
        """Return when the recordings end."""
        return max(int(np.max(file.end_ns)) for file in self.files)

    @property
    def covered_ns(self) -> np.ndarray:
        """Return starts and ends of what the files hold, (2, n); they may overlap."""
        edges = (
            np.stack([np.atleast_1d(file.start_ns), np.atleast_1d(file.end_ns)])
            for file in self.files
        )
        return np.concatenate(list(edges), axis=1).astype(np.int64)

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return an ObsPy stream between two times, in ns since 1970.

        Its traces are float64 segments without gaps or invalid samples.
        """
        return read_window(self.files, start_ns, end_ns, self._note)


def read_window(
    files: Iterable[Records | WholeFile],
    start_ns: int,
    end_ns: int,
    note: Callable[[Path, RecordingError], None],
) -> Any:
    """Return an ObsPy stream between two times; ``note`` is told of files that are damaged."""
    import obspy

    traces = []
    start, end = obspy.UTCDateTime(ns=start_ns), obspy.UTCDateTime(ns=end_ns)
    for file in files:
        if np.max(file.end_ns) < start_ns or np.min(file.start_ns) > end_ns:
            continue
        if isinstance(file, WholeFile):
            try:
                traces += name_channels(read_traces(file.path, starttime=start, endtime=end))
            except RecordingError as error:
                note(file.path, error)
        else:
            for content in file.read(start_ns, end_ns):
                traces += _read_records(file, content, note)
    # a miniSEED log is text
    stream = obspy.Stream([trace for trace in traces if trace.data.dtype.kind in "iuf"])
    stream.trim(start, end)
    return segments_without_gaps(stream)


def _read_records(
    file: Records, content: bytes, note: Callable[[Path, RecordingError], None]
) -> list[Any]:
    """Read miniSEED records, one by one where some of them are damaged."""
    try:
        return read_records(file.path, content)
    except RecordingError as error:
        note(file.path, error)
    traces: list[Any] = []
    for record in one_by_one(content):
        with suppress(RecordingError):
            traces += read_records(file.path, record)
    return traces


def name_channels(traces: list[Any]) -> list[Any]:
    """Name channels that have no name (SEG-2, SEG-Y) by their place in the file."""
    if len(traces) > 1:
        for number, trace in enumerate(traces, start=1):
            if not trace.id.strip("."):
                trace.stats.channel = str(number)
    return traces


def segments_without_gaps(stream: Any) -> Any:
    """Join the segments of each channel that touch, and split them at invalid samples.

    Where the sampling rate changes within a channel, segments with a rarer rate are left out.
    """
    rates: dict[str, list[float]] = {}
    for trace in stream:
        rates.setdefault(trace.id, []).append(trace.stats.sampling_rate)
    usual = {name: max(set(found), key=found.count) for name, found in rates.items()}
    joined = type(stream)(
        [
            t
            for t in stream
            if abs(t.stats.sampling_rate / usual[t.id] - 1) <= SAME_RATE and t.stats.npts
        ]
    )
    for trace in joined:  # what differs between segments, or they do not merge
        trace.stats.sampling_rate, trace.stats.calib = usual[trace.id], 1.0
        trace.data = np.ma.filled(trace.data.astype(np.float64), np.nan)
    joined.merge(method=1)
    for trace in joined:
        invalid = ~(np.abs(np.ma.filled(trace.data, np.nan)) <= LARGEST_SAMPLE)
        if invalid.any():
            trace.data = np.ma.masked_array(np.ma.getdata(trace.data), invalid)
    return joined.split().sort()


def index_file(path: Path, unusable: dict[Path, str]) -> Records | WholeFile:
    """Find out which times a file covers; a truncated miniSEED file is added to ``unusable``.

    Raises ``RecordingError`` if the file cannot be read or is too large to be read whole.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    records = index_records(path, unusable)
    if records is not None:
        return records
    if path.stat().st_size > MAX_WHOLE_FILE_BYTES:
        raise RecordingError(
            f"{path}: {path.stat().st_size / 1e9:.1f} GB in a format that must be read whole; "
            "convert it to miniSEED, or cut it into files of less than 2 GB"
        )
    traces = read_traces(path, headonly=True)
    times = [
        (trace.stats.starttime.ns, trace.stats.endtime.ns) for trace in traces if trace.stats.npts
    ]
    if not times:
        raise RecordingError(f"{path}: holds no traces")
    start_ns, end_ns = min(start for start, _ in times), max(end for _, end in times)
    return WholeFile(path, start_ns, end_ns, path.stat().st_size)


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

    @property
    def covered_ns(self) -> np.ndarray:
        """Return starts and ends of what was recorded, (2, n); they may overlap."""
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

    @property
    def covered_ns(self) -> np.ndarray:
        """Return start and end of each segment, (2, n)."""
        edges = [(trace.stats.starttime.ns, trace.stats.endtime.ns) for trace in self.stream]
        return np.array(edges, np.int64).T

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return the stream between two times as float64 segments without gaps."""
        from obspy import UTCDateTime

        return segments_without_gaps(
            self.stream.slice(UTCDateTime(ns=start_ns), UTCDateTime(ns=end_ns))
        )


def _own_header(trace: Any) -> Any:
    """Return a trace with the same samples whose header can be changed."""
    return type(trace)(trace.data, trace.stats.copy())
