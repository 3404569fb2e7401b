"""Read time windows of continuous recordings of any length.

Of miniSEED files only the records of a window are read, of other formats the whole file.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np

from preprocessing.limits import LARGEST_SAMPLE, SAME_RATE
from preprocessing.traces import RecordingError, read_traces

HEADER_BYTES = 48  # the fixed part of a miniSEED 2 record
BLOCK_BYTES = 2**26  # of a file that is read at once to index it
MARGIN_NS = 1_000_000_000  # records may be off by their time correction
MAX_WHOLE_FILE_BYTES = 2**31  # of formats that are read whole
NS = 1_000_000_000
YEARS = np.arange(1900, 2200)
QUALITY = np.frombuffer(b"DRQM", np.uint8)


@dataclass(frozen=True)
class Records:
    """The index of a miniSEED file: where its records begin and which times they cover."""

    path: Path
    offsets: np.ndarray  # (R,) bytes
    start_ns: np.ndarray  # (R,)
    end_ns: np.ndarray  # (R,)
    n_bytes: int  # of a record
    order: str  # > or <: byte order

    def grown(self) -> "Records":
        """Return the index with the records that were appended since; half a record is not read."""
        n_known = len(self.offsets)
        size = self.path.stat().st_size
        if size < (n_known + 1) * self.n_bytes:
            return self
        headers = _read_headers(self.path, self.n_bytes, {}, n_known * self.n_bytes)
        if headers is None:
            raise RecordingError(f"{self.path}: damaged: not all records have {self.n_bytes} bytes")
        start_ns, duration_ns = _times(self.path, headers, self.order)
        return replace(
            self,
            offsets=np.arange(n_known + len(headers)) * self.n_bytes,
            start_ns=np.r_[self.start_ns, start_ns],
            end_ns=np.r_[self.end_ns, start_ns + duration_ns],
        )

    def read(self, start_ns: int, end_ns: int) -> bytes:
        """Read the records that touch a time window."""
        wanted = (self.end_ns >= start_ns - MARGIN_NS) & (self.start_ns <= end_ns + MARGIN_NS)
        offsets = self.offsets[wanted]
        if not offsets.size:
            return b""
        breaks = np.flatnonzero(np.diff(offsets) != self.n_bytes)
        firsts, lasts = offsets[np.r_[0, breaks + 1]], offsets[np.r_[breaks, offsets.size - 1]]
        with open(self.path, "rb") as file:
            runs = []
            for first, last in zip(firsts.tolist(), lasts.tolist()):
                file.seek(first)
                runs.append(file.read(last - first + self.n_bytes))
        return b"".join(runs)


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

    def read(self, start_ns: int, end_ns: int):
        """Return an ObsPy stream between two times, in ns since 1970.

        Its traces are float64 segments without gaps or invalid samples.
        """
        return read_window(self.files, start_ns, end_ns, self._note)


def read_window(
    files: Iterable[Records | WholeFile],
    start_ns: int,
    end_ns: int,
    note: Callable[[Path, RecordingError], None],
):
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
        elif content := file.read(start_ns, end_ns):
            traces += _read_records(file, content, note)
    # a miniSEED log is text
    stream = obspy.Stream([trace for trace in traces if trace.data.dtype.kind in "iuf"])
    stream.trim(start, end)
    return join_segments(stream)


def _read_records(
    file: Records, content: bytes, note: Callable[[Path, RecordingError], None]
) -> list:
    """Read miniSEED records, one by one where some of them are damaged."""
    try:
        return read_traces(file.path, BytesIO(content), format="MSEED")
    except RecordingError as error:
        note(file.path, error)
    traces = []
    for first in range(0, len(content), file.n_bytes):
        with suppress(RecordingError):
            one = BytesIO(content[first : first + file.n_bytes])
            traces += read_traces(file.path, one, format="MSEED")
    return traces


def name_channels(traces: list) -> list:
    """Name channels that have no name (SEG-2, SEG-Y) by their place in the file."""
    if len(traces) > 1:
        for number, trace in enumerate(traces, start=1):
            if not trace.id.strip("."):
                trace.stats.channel = str(number)
    return traces


def join_segments(stream):
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
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    records = _index_records(path, unusable)
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


def _index_records(path: Path, unusable: dict[Path, str]) -> Records | None:
    """Index a miniSEED 2 file whose records have one length; None for anything else.

    A truncated file is added to ``unusable``.
    """
    from obspy.io.mseed.util import get_record_information

    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES or not head[:6].isdigit() or head[6:7] not in b"DRQM":
        return None
    try:
        first = get_record_information(str(path))
        n_bytes, order = first["record_length"], first["byteorder"]
    except Exception:  # a damaged header: ObsPy's reader says later what is wrong
        return None
    headers = _read_headers(path, n_bytes, unusable)
    if headers is None:
        return None
    start_ns, duration_ns = _times(path, headers, order)
    return Records(
        path, np.arange(len(headers)) * n_bytes, start_ns, start_ns + duration_ns, n_bytes, order
    )


def _read_headers(
    path: Path, n_bytes: int, unusable: dict[Path, str], first_byte: int = 0
) -> np.ndarray | None:
    """Return the fixed headers (R, 48) of all records; None if not all have ``n_bytes``."""
    headers = []
    with open(path, "rb") as file:
        file.seek(first_byte)
        while block := file.read(BLOCK_BYTES // n_bytes * n_bytes):
            if len(block) % n_bytes:
                unusable[path] = (
                    "truncated: ends in the middle of a miniSEED record; "
                    "the records before it are used"
                )
                block = block[: len(block) // n_bytes * n_bytes]
            headers.append(
                np.frombuffer(block, np.uint8).reshape(-1, n_bytes)[:, :HEADER_BYTES].copy()
            )
    found = np.concatenate(headers)
    if not len(found):
        raise RecordingError(f"{path}: truncated: shorter than one miniSEED record")
    digits = (found[:, :6] >= ord("0")) & (found[:, :6] <= ord("9"))
    return found if digits.all() and np.isin(found[:, 6], QUALITY).all() else None


def _times(path: Path, headers: np.ndarray, order: str) -> tuple[np.ndarray, np.ndarray]:
    """Return start and duration (R,) in ns of miniSEED records from their fixed headers (R, 48).

    [SEED manual 2.4, chapter 8]
    """

    def field(place: int, kind: str) -> np.ndarray:
        width = int(kind[1])
        return (
            np.ascontiguousarray(headers[:, place : place + width])
            .view(f"{order}{kind}")[:, 0]
            .astype(np.int64)
        )

    if not np.isin(field(20, "u2"), YEARS).all():
        raise RecordingError(
            f"{path}: damaged: a record of the year "
            f"{field(20, 'u2')[~np.isin(field(20, 'u2'), YEARS)][0]}"
        )
    days = (
        (field(20, "u2") - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
        + field(22, "u2")
        - 1
    )
    seconds = ((days * 24 + field(24, "u1")) * 60 + field(25, "u1")) * 60 + field(26, "u1")
    start_ns = seconds * NS + field(28, "u2") * 100_000
    n_samples, factor, multiplier = (
        field(30, "u2"),
        field(32, "i2").astype(float),
        field(34, "i2").astype(float),
    )
    # positive: samples per second, or a factor; negative: seconds per sample, or a divisor
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_hz = np.where(factor > 0, factor, -1 / factor) * np.where(
            multiplier > 0, multiplier, -1 / multiplier
        )
        duration_s = np.where(np.isfinite(rate_hz) & (rate_hz > 0), n_samples / rate_hz, 0)
    return start_ns, (duration_s * NS).astype(np.int64)
