"""Index a miniSEED file: where its records begin, and which times they cover."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from preprocessing.traces import RecordingError

HEADER_BYTES = 48  # the fixed part of a miniSEED 2 record
BLOCK_BYTES = 2**26  # of a file that is read at once to index it
MARGIN_NS = 1_000_000_000  # records may be off by their time correction
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


def index_records(path: Path, unusable: dict[Path, str]) -> Records | None:
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
