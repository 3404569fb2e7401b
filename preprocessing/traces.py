"""Let ObsPy read a file, and refuse what it should not have accepted: pickles, bombs, lost or wrong samples.

[SEG-2] Pullan, Recommended standard for seismic (/radar) data files in the personal computer environment, Geophysics 55, 1990.
[SEED] Standard for the Exchange of Earthquake Data, version 2.4, fixed section of data header.
"""

import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from utils.errors import UserError

MAX_FILE_BYTES = (
    2**25
)  # an Åknes event has 1.5 MB; with these two limits reading stays below 1 GB of memory
MAX_SAMPLES = 2**24  # of all channels together: 24 channels of 1000 Hz for 11 minutes
# ObsPy's SEG-2 reader says these of every Geometrics file; they concern headers that are not used here.
SEG2_HEADER_WARNINGS = (
    "Many companies use custom defined SEG2 header",
    "Non-zero value found in Trace's 'DELAY' field",
)
# what libmseed says, as mere warnings, of files that have lost samples or hold wrong ones
MSEED_DAMAGE = ("integrity check", "skip bytes", "rest of the file", "not enough to constitute")

BYTE_ORDERS = {b"\x55\x3a": "<", b"\x3a\x55": ">"}  # of the file descriptor's first two bytes
TRACE_BLOCK_ID = 0x4422
DESCRIPTOR_BYTES = 32  # of the fixed part, of file and of traces
SAMPLE_BYTES = {1: 2, 2: 4, 3: 2.5, 4: 4, 5: 8}  # by data format code
MAX_TEXT_BYTES = 2**20  # of all header strings; the Åknes recorder writes 16 kB
RECORD_STEP = 128  # miniSEED records begin at multiples of this
MAX_RECORDS, MAX_CHANNELS = 2**16, 1000  # time to read grows with their product


class RecordingError(UserError):
    """Say which recording cannot be used, and why."""


def read_whole_traces(path: Path) -> list:
    """Read the traces of one event; raises ``RecordingError`` for a file that is damaged, truncated, or too large."""
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise RecordingError(
            f"{path}: {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read, cut it into events"
        )
    _require_sound(path, mseed_problem)
    traces, heard = _read(path)
    n_samples = sum(trace.stats.npts for trace in traces)
    if not n_samples:
        raise RecordingError(f"{path}: holds no traces")
    if n_samples > MAX_SAMPLES:
        raise RecordingError(
            f"{path}: holds {n_samples} samples; at most {MAX_SAMPLES} are read, cut it into events"
        )
    _require_whole(path, traces)
    damage = next(
        (message for message in heard if any(sign in message for sign in MSEED_DAMAGE)), None
    )
    if damage:
        raise RecordingError(f"{path}: damaged: {damage}")
    _pass_on(path, heard)
    return traces


def read_traces(path: Path, file: BinaryIO | None = None, **options) -> list:
    """Return the traces of a file in any format ObsPy knows but pickle; with ``file``, of those bytes of it.

    ``options`` go to ``obspy.read``. Raises ``RecordingError``.
    """
    traces, heard = _read(path, file, **options)
    _pass_on(path, heard)
    return traces


def _read(path: Path, file: BinaryIO | None = None, **options) -> tuple[list, list[str]]:
    """Return the traces of a file, and what ObsPy said of it."""
    import obspy
    from obspy.core.util.base import ENTRY_POINTS

    ENTRY_POINTS["waveform"].pop(
        "PICKLE", None
    )  # reading a pickle runs the code in it; no recorder writes them
    if file is None and not path.is_file():
        raise RecordingError(f"{path}: no such file")
    if file is None:
        _require_sound(path, seg2_problem)
        if is_seg2(path):  # otherwise ObsPy would ask the readers of a dozen other formats first
            options["format"] = "SEG2"
    try:
        # through open(): a name with *, ? or [ in it is a pattern to obspy.read
        with file or open(path, "rb") as opened, _listening() as heard:
            traces = list(obspy.read(opened, **options))
    except Exception as error:  # ObsPy's readers raise whatever the bytes lead them to
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, TypeError) and "Unknown format" in reason:
            reason = "not a format that ObsPy knows"
        raise RecordingError(f"{path}: cannot be read: {reason}") from error
    return traces, heard


def _require_sound(path: Path, find_problem: Callable[[Path], str]) -> None:
    try:
        problem = find_problem(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    if problem:
        raise RecordingError(f"{path}: {problem}")


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Collect what ObsPy says of a file, but for what SEG-2 headers always give rise to."""
    heard: list[str] = []
    before = sys.unraisablehook
    # ObsPy's listener to libmseed stumbles over messages that are not ASCII; an error would be lost with them
    sys.unraisablehook = lambda lost: heard.append(f"integrity check failed ({lost.exc_value})")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.filterwarnings(
                "ignore", category=RuntimeWarning
            )  # overflows of arithmetic with header fields
            for message in SEG2_HEADER_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
            yield heard
    finally:
        sys.unraisablehook = before
        heard += [str(warning.message) for warning in caught]


def _pass_on(path: Path, heard: list[str]) -> None:
    """Pass warnings on in one line that names the file."""
    if heard:
        more = f" (and {len(heard) - 1} more)" if len(heard) > 1 else ""
        warnings.warn(f"{path}: {heard[0]}{more}", stacklevel=3)


def _require_whole(path: Path, traces: list) -> None:
    """Refuse truncated files that ObsPy reads without complaint."""
    stats = traces[0].stats
    if stats._format == "SEG2" and len({trace.stats.npts for trace in traces}) > 1:
        raise RecordingError(f"{path}: truncated: the channels of a SEG-2 file differ in length")
    if stats._format == "MSEED":
        headers = [trace.stats.mseed for trace in traces]
        unread = path.stat().st_size - sum(
            header.number_of_records * header.record_length for header in headers
        )
        # whole records may stay unread (headers of a full SEED volume); a part of one means that the file was cut
        if unread % max(header.record_length for header in headers):
            raise RecordingError(f"{path}: truncated: ends in the middle of a miniSEED record")


def mseed_problem(path: Path) -> str:
    """Say why a file must not be read as miniSEED: too many records or channels; an empty string if there is no reason.

    What counts looks like the header of a record: sequence number, D, R, Q or M, a byte, 12 bytes of names. [SEED]
    """
    if is_seg2(path):
        return ""
    content = path.read_bytes()
    rows = np.frombuffer(content, np.uint8, len(content) // RECORD_STEP * RECORD_STEP).reshape(
        -1, RECORD_STEP
    )
    rows = rows[np.isin(rows[:, 6], list(b"DRQM"))]
    rows = rows[np.isin(rows[:, :6], list(b"0123456789 \0")).all(axis=1)]
    n_channels = len(np.unique(rows[:, 8:20], axis=0)) if len(rows) > MAX_CHANNELS else 0
    if len(rows) > MAX_RECORDS or n_channels > MAX_CHANNELS:
        return f"{len(rows)} records of {n_channels} channels; at most {MAX_RECORDS} of {MAX_CHANNELS} are read"
    return ""


def seg2_problem(path: Path) -> str:
    """Say what is wrong with the layout of a SEG-2 file; an empty string for a sound one, or another format. [SEG-2]

    Every trace must lie within the file, behind the one before it: pointers that all name one block would make gigabytes.
    """
    with open(path, "rb") as file:
        return _seg2_problem(file, path.stat().st_size)


def is_seg2(path: Path) -> bool:
    """Tell whether a file begins as SEG-2 files do."""
    with open(path, "rb") as file:
        return file.read(2) in BYTE_ORDERS


def _seg2_problem(file: BinaryIO, size_bytes: int) -> str:
    start = file.read(DESCRIPTOR_BYTES)
    order = BYTE_ORDERS.get(start[:2])
    if order is None or len(start) < DESCRIPTOR_BYTES:
        return ""
    table_bytes, n_traces = struct.unpack_from(order + "HH", start, 4)
    table = file.read(4 * n_traces)
    if not n_traces or 4 * n_traces > table_bytes or len(table) < 4 * n_traces:
        return f"truncated or damaged: {n_traces} traces, a table of {table_bytes} bytes for their places"
    places = struct.unpack(f"{order}{n_traces}L", table)
    end, text_bytes = DESCRIPTOR_BYTES + table_bytes, places[0] - DESCRIPTOR_BYTES - table_bytes
    for number, place in enumerate(places, start=1):
        file.seek(place)
        block = file.read(DESCRIPTOR_BYTES)
        if (
            place < end
            or len(block) < DESCRIPTOR_BYTES
            or struct.unpack_from(order + "H", block)[0] != TRACE_BLOCK_ID
        ):
            return f"truncated or damaged: no trace {number} at byte {place}"
        header_bytes, _, n_samples, code = struct.unpack_from(order + "HLLB", block, 2)
        text_bytes += header_bytes
        end = place + header_bytes + int(n_samples * SAMPLE_BYTES.get(code, 0))
        if header_bytes < DESCRIPTOR_BYTES or end > size_bytes:
            return f"truncated or damaged: trace {number} would end at byte {end} of {size_bytes}"
    if text_bytes > MAX_TEXT_BYTES:
        return f"{text_bytes} bytes of header strings; at most {MAX_TEXT_BYTES} are read"
    return ""
