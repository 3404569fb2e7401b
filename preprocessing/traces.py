"""Read files with ObsPy; refuse pickles and files that are too large, truncated or damaged.

SEG-2 and miniSEED headers are validated before parsing.

[SEG-2] Pullan, Recommended standard for seismic (/radar) data files in the personal computer
environment, Geophysics 55, 1990.
[SEED] Standard for the Exchange of Earthquake Data, version 2.4, fixed section of data header.
"""

import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils.errors import UserError

# With these two limits reading needs less than 1 GB of memory. An Åknes event has 1.5 MB.
MAX_FILE_BYTES = 2**25
MAX_SAMPLES = 2**24  # sum over channels: 24 channels of 1000 Hz for 11 minutes
# ObsPy warns like this for every Geometrics file: it ignores DELAY, which is applied below; the
# custom headers are not used here.
SEG2_HEADER_WARNINGS = (
    "Many companies use custom defined SEG2 header",
    "Non-zero value found in Trace's 'DELAY' field",
)
LONGEST_DELAY_S = 86_400.0  # a larger DELAY of a SEG-2 trace means a damaged header
# parts of the warnings of libmseed for files with missing or wrong samples
MSEED_DAMAGE = ("integrity check", "skip bytes", "rest of the file", "not enough to constitute")

BYTE_ORDERS = {b"\x55\x3a": "<", b"\x3a\x55": ">"}  # by the first two bytes of the file
TRACE_BLOCK_ID = 0x4422
DESCRIPTOR_BYTES = 32  # fixed part of the file descriptor and of each trace descriptor
SAMPLE_BYTES = {1: 2, 2: 4, 3: 2.5, 4: 4, 5: 8}  # by data format code
MAX_TEXT_BYTES = 2**20  # sum of all header strings; the Åknes recorder writes 16 kB
RECORD_STEP_BYTES = 128  # miniSEED records begin at multiples of this
MAX_RECORDS, MAX_CHANNELS = 2**16, 1000  # the time to read grows with their product


class RecordingError(UserError):
    """A recording that cannot be used."""


def read_whole_traces(path: Path) -> list[Any]:
    """Read all traces of a file with one event.

    Raises ``RecordingError`` for a file that is unreadable, damaged, truncated or too large.
    """
    if not path.is_file():
        raise RecordingError(f"{path}: no such file")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise RecordingError(
            f"{path}: {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read, "
            "cut it into events"
        )
    _require_sound(path, mseed_problem)
    traces, messages = _read(path)
    n_samples = sum(trace.stats.npts for trace in traces)
    if not n_samples:
        raise RecordingError(f"{path}: holds no traces")
    if n_samples > MAX_SAMPLES:
        raise RecordingError(
            f"{path}: holds {n_samples} samples; at most {MAX_SAMPLES} are read, cut it into events"
        )
    _require_whole(path, traces)
    damage = next(
        (message for message in messages if any(sign in message for sign in MSEED_DAMAGE)), None
    )
    if damage:
        raise RecordingError(f"{path}: damaged: {damage}")
    _warn(path, messages)
    return traces


def read_traces(path: Path, file: BinaryIO | None = None, **options: Any) -> list[Any]:
    """Read the traces of a file in any format of ObsPy except pickle.

    ``file`` replaces the content of ``path``, for instance by a part of it. ``options`` are passed
    to ``obspy.read``. Raises ``RecordingError``.
    """
    traces, messages = _read(path, file, **options)
    _warn(path, messages)
    return traces


def _read(path: Path, file: BinaryIO | None = None, **options: Any) -> tuple[list[Any], list[str]]:
    """Return the traces of a file, and the warnings of ObsPy."""
    import obspy
    from obspy.core.util.base import ENTRY_POINTS

    # Reading a pickle runs the code in it.
    ENTRY_POINTS["waveform"].pop("PICKLE", None)
    if file is None and not path.is_file():
        raise RecordingError(f"{path}: no such file")
    if file is None:
        _require_sound(path, seg2_problem)
        if is_seg2(path):  # saves ObsPy from trying a dozen other formats first
            options["format"] = "SEG2"
    # SEG-2 files are read whole: their times are right only after the delay is applied.
    seg2 = options.get("format") == "SEG2"
    times = [options.pop(name, None) if seg2 else None for name in ("starttime", "endtime")]
    try:
        # An open file, because obspy.read takes a name with *, ? or [ as a pattern.
        with file or open(path, "rb") as opened, _collect_warnings() as messages:
            traces = list(obspy.read(opened, **options))
    except Exception as error:  # ObsPy's readers raise many kinds of errors for damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, TypeError) and "Unknown format" in reason:
            reason = "not a format that ObsPy knows"
        raise RecordingError(f"{path}: cannot be read: {reason}") from error
    _apply_delays(traces)
    if any(times):
        traces = [trace.trim(*times) for trace in traces]
        traces = [trace for trace in traces if trace.stats.npts]
    return traces, messages


def _apply_delays(traces: list[Any]) -> None:
    """Move the start of SEG-2 traces, which ObsPy leaves at the trigger, by their DELAY. [SEG-2]

    DELAY is the time in s from the trigger to the first sample: negative with a pre-trigger.
    """
    for trace in traces:
        if (delay := _delay_s(trace)) is not None:
            trace.stats.starttime += delay


def delay_s(traces: list[Any]) -> float | None:
    """Return the DELAY of the first SEG-2 trace in s, which is applied already; None without."""
    return next((d for d in map(_delay_s, traces) if d is not None), None)


def _delay_s(trace: Any) -> float | None:
    """Return a trace's DELAY in s; None if it has none, or one that is no plausible number."""
    try:
        delay = float(trace.stats.get("seg2", {}).get("DELAY", "nan"))
    except ValueError:
        return None
    return delay if abs(delay) <= LONGEST_DELAY_S else None


def _require_sound(path: Path, find_problem: Callable[[Path], str]) -> None:
    """Raise ``RecordingError`` if ``find_problem`` describes a problem of the file."""
    try:
        problem = find_problem(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
    if problem:
        raise RecordingError(f"{path}: {problem}")


@contextmanager
def _collect_warnings() -> Iterator[list[str]]:
    """Collect the warnings of ObsPy in a list, except those of every SEG-2 file."""
    messages: list[str] = []
    hook = sys.unraisablehook
    # ObsPy fails in a callback when a message of libmseed is not ASCII; such a message may be an
    # error, so the file counts as damaged.
    sys.unraisablehook = lambda lost: messages.append(f"integrity check failed ({lost.exc_value})")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # overflow in computations with header values
            warnings.filterwarnings("ignore", category=RuntimeWarning)
            for message in SEG2_HEADER_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
            yield messages
    finally:
        sys.unraisablehook = hook
        messages += [str(warning.message) for warning in caught]


def _warn(path: Path, messages: list[str]) -> None:
    """Issue one warning with the name of the file, the first message and the number of others."""
    if messages:
        more = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
        warnings.warn(f"{path}: {messages[0]}{more}", stacklevel=3)


def _require_whole(path: Path, traces: list[Any]) -> None:
    """Raise ``RecordingError`` for truncated files that ObsPy reads without an error."""
    stats = traces[0].stats
    if stats._format == "SEG2" and len({trace.stats.npts for trace in traces}) > 1:
        raise RecordingError(f"{path}: truncated: the channels of a SEG-2 file differ in length")
    if stats._format == "MSEED":
        headers = [trace.stats.mseed for trace in traces]
        unread = path.stat().st_size - sum(
            header.number_of_records * header.record_length for header in headers
        )
        # Complete records may be skipped (headers of a full SEED volume). An incomplete record
        # means that the file is truncated.
        if unread % max(header.record_length for header in headers):
            raise RecordingError(f"{path}: truncated: ends in the middle of a miniSEED record")


def mseed_problem(path: Path) -> str:
    """Check the size of a miniSEED file; return the problem or an empty string.

    Too many records or channels are a problem. Every block is counted that looks like the header
    of a record: six digits of sequence number, D, R, Q or M, one byte, 12 bytes of station,
    location, channel and network codes. [SEED]
    """
    if is_seg2(path):
        return ""
    content = path.read_bytes()
    n_blocks = len(content) // RECORD_STEP_BYTES
    blocks = np.frombuffer(content, np.uint8, n_blocks * RECORD_STEP_BYTES)
    rows = blocks.reshape(-1, RECORD_STEP_BYTES)
    rows = rows[np.isin(rows[:, 6], list(b"DRQM"))]
    rows = rows[np.isin(rows[:, :6], list(b"0123456789 \0")).all(axis=1)]
    n_channels = len(np.unique(rows[:, 8:20], axis=0)) if len(rows) > MAX_CHANNELS else 0
    if len(rows) > MAX_RECORDS or n_channels > MAX_CHANNELS:
        return (
            f"{len(rows)} records of {n_channels} channels; "
            f"at most {MAX_RECORDS} of {MAX_CHANNELS} are read"
        )
    return ""


def seg2_problem(path: Path) -> str:
    """Check the layout of a SEG-2 file; return the problem or an empty string. [SEG-2]

    Every trace must lie within the file and behind the previous one; otherwise many pointers to one
    block could give gigabytes of samples. Files of other formats are not checked.
    """
    with open(path, "rb") as file:
        return _seg2_problem(file, path.stat().st_size)


def is_seg2(path: Path) -> bool:
    """Check whether a file begins with a SEG-2 identifier."""
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
        return f"truncated or damaged: {n_traces} traces, but {table_bytes} bytes of trace pointers"
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
