"""Index and read miniSEED files of versions 2 and 3: where records begin, which times they cover.

EarthScope's libmseed (package pymseed) reads headers and samples: records of different lengths and
byte orders in one file, time corrections that are not yet applied, exact rates.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pymseed import MiniSEEDError, MS3Record, MS3TraceList, sourceid2nslc

from preprocessing.channels import EARLIEST_NS, LATEST_NS
from preprocessing.traces import RecordingError

NS = 1_000_000_000
BLOCK_BYTES = 2**24  # of a file that is in memory at once to index it
LONGEST_RECORD_BYTES = 2**17  # libmseed's limit for version 2; where damaged files are searched
MARGIN_NS = NS  # read more than is wanted; ObsPy cuts to the sample
# sequence number, quality, blank; or the first bytes of a record of version 3
HEADER = re.compile(rb"[0-9 \x00]{6}[DRQM][ \x00]|MS\x03")


@dataclass(frozen=True)
class Records:
    """The index of a miniSEED file.

    ``n_bytes`` is the end of the last complete record. ``damage`` says in words what was left out.
    """

    path: Path
    offsets: np.ndarray  # (R,) bytes
    lengths: np.ndarray  # (R,) bytes
    start_ns: np.ndarray  # (R,)
    end_ns: np.ndarray  # (R,), when the next sample is due
    n_bytes: int
    damage: str = ""

    def grown(self) -> "Records":
        """Return the index with the records that were appended since; half a record is not read."""
        if self.path.stat().st_size <= self.n_bytes:
            return self
        table, n_bytes, damage = _index(self.path, self.n_bytes)
        if not len(table):
            return self
        return replace(
            self,
            offsets=np.r_[self.offsets, table[:, 0]],
            lengths=np.r_[self.lengths, table[:, 1]],
            start_ns=np.r_[self.start_ns, table[:, 2]],
            end_ns=np.r_[self.end_ns, table[:, 3]],
            n_bytes=n_bytes,
            damage=damage or self.damage,
        )

    def read(self, start_ns: int, end_ns: int) -> list[bytes]:
        """Read the records that touch a time window, each run of neighbours at once."""
        wanted = (self.end_ns >= start_ns - MARGIN_NS) & (self.start_ns <= end_ns + MARGIN_NS)
        firsts, lasts = self.offsets[wanted], (self.offsets + self.lengths)[wanted]
        if not firsts.size:
            return []
        apart = np.flatnonzero(firsts[1:] != lasts[:-1])
        runs = zip(firsts[np.r_[0, apart + 1]].tolist(), lasts[np.r_[apart, -1]].tolist())
        with open(self.path, "rb") as file:
            contents = []
            for first, last in runs:
                file.seek(first)
                contents.append(file.read(last - first))
        return contents


def index_records(path: Path, unusable: dict[Path, str]) -> Records | None:
    """Index a miniSEED file; None for a file that does not begin like one.

    What is damaged or truncated is left out, and said in ``unusable``. Raises ``RecordingError`` if
    no record is left.
    """
    with open(path, "rb") as file:
        if not HEADER.match(file.read(8)):
            return None
    table, n_bytes, damage = _index(path)
    n_missing = path.stat().st_size - n_bytes
    if not len(table):
        what = "damaged" if damage else "truncated: shorter than one miniSEED record"
        raise RecordingError(f"{path}: {damage or what}")
    if n_missing:
        damage = damage or (
            "truncated: ends in the middle of a miniSEED record; the records before it are used"
        )
    if damage:
        unusable[path] = damage
    offsets, lengths, start_ns, end_ns = table.T
    return Records(path, offsets, lengths, start_ns, end_ns, n_bytes, damage)


def _index(path: Path, first_byte: int = 0) -> tuple[np.ndarray, int, str]:
    """Return offset, length, start and end (R, 4) of the records from a byte on.

    Also the end of the last record, and in words what is damaged between them.
    """
    tables, damage, offset = [np.empty((0, 4), np.int64)], [], first_byte
    with open(path, "rb") as file:
        while True:
            file.seek(offset)
            block = file.read(BLOCK_BYTES)
            headers = _headers(block)
            done = int(headers[:, 0].sum())
            tables.append(_places_and_times(headers, offset))
            if done == len(block) or (done and len(block) == BLOCK_BYTES):
                offset += done  # a record may go beyond the block
                if not block:
                    break
                continue
            after = _next_header(block, done + 1)
            n_bytes = (len(block) if after is None else after) - done
            if after is not None or n_bytes > LONGEST_RECORD_BYTES:
                damage.append(f"{n_bytes} bytes at byte {offset + done} are no miniSEED record")
            if after is None:
                break
            offset += after
    table = np.concatenate(tables)
    n_bytes = int(table[-1, :2].sum()) if len(table) else first_byte
    possible = (table[:, 2] >= EARLIEST_NS) & (table[:, 2] < LATEST_NS)
    years = table[~possible, 2].astype("datetime64[ns]").astype("datetime64[Y]")
    damage += [f"a record of the year {year}" for year in years.astype(str).tolist()]
    if not damage:
        return table, n_bytes, ""
    more = f" and {len(damage) - 1} more places" if len(damage) > 1 else ""
    return table[possible], n_bytes, f"damaged: {damage[0]}{more}; the other records are used"


def _headers(block: bytes) -> np.ndarray:
    """Return length, start, number of samples and rate (R, 4) of the records that begin a block.

    They end where libmseed finds no further one: damaged bytes, or an incomplete record.
    """
    found: list[tuple[int, int, int, float]] = []
    try:
        for record in MS3Record.from_buffer(block):
            found.append((record.reclen, record.starttime, record.samplecnt, record.samprate))
    except (MiniSEEDError, ValueError):
        pass
    return np.array(found, dtype=object).reshape(-1, 4)


def _places_and_times(headers: np.ndarray, offset: int) -> np.ndarray:
    """Return offset, length, start and end (R, 4) of records, the first at byte ``offset``."""
    lengths, start_ns, n_samples = (headers[:, k].astype(np.int64) for k in range(3))
    rate_hz = headers[:, 3].astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        duration_s = np.where(rate_hz > 0, n_samples / rate_hz, 0)
    offsets = offset + np.cumsum(lengths) - lengths
    end_ns = start_ns + np.rint(duration_s * NS).astype(np.int64)
    return np.stack([offsets, lengths, start_ns, end_ns], axis=1)


def _next_header(block: bytes, first: int) -> int | None:
    """Return where, from ``first`` on, a record begins that libmseed reads; None if nowhere."""
    for match in HEADER.finditer(block, first):
        try:
            next(iter(MS3Record.from_buffer(block[match.start() :][:LONGEST_RECORD_BYTES])))
        except (MiniSEEDError, ValueError, StopIteration):
            continue
        return match.start()
    return None


def read_records(path: Path, content: bytes) -> list[Any]:
    """Return the ObsPy traces of complete records; raises ``RecordingError`` for damaged samples.

    Records that are not of numbers (logs) are left out.
    """
    from obspy import Trace, UTCDateTime

    try:
        sources = MS3TraceList.from_buffer(content, unpack_data=True)
    except (MiniSEEDError, ValueError) as error:
        raise RecordingError(f"{path}: damaged: {' '.join(str(error).split())}") from error
    traces = []
    for source in sources:
        header = dict(zip(("network", "station", "location", "channel"), codes(source.sourceid)))
        for segment in source:
            if segment.numsamples < 1 or segment.sampletype not in ("i", "f", "d"):
                continue
            stats = header | {
                "sampling_rate": segment.samprate,
                "starttime": UTCDateTime(ns=segment.starttime),
            }
            traces.append(Trace(np.array(segment.np_datasamples), stats))
    return traces


def one_by_one(content: bytes) -> Iterator[bytes]:
    """Yield each record of complete records."""
    first = 0
    for record in MS3Record.from_buffer(content):
        yield content[first : first + record.reclen]
        first += record.reclen


def codes(source_id: str) -> tuple[str, ...]:
    """Return network, station, location and channel of ``FDSN:NET_STA_LOC_B_S_SS``.

    Another kind of identifier becomes the station.
    """
    try:
        return tuple(sourceid2nslc(source_id))
    except (MiniSEEDError, ValueError):
        return "", source_id.removeprefix("FDSN:"), "", ""
