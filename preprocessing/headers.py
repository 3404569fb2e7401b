"""Look over the headers of a file before its bytes reach a reader that believes them.

[SEG-2] Pullan, Recommended standard for seismic (/radar) data files in the personal computer environment, Geophysics 55, 1990.
[SEED] Standard for the Exchange of Earthquake Data, version 2.4, fixed section of data header.
"""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

BYTE_ORDERS = {b"\x55\x3a": "<", b"\x3a\x55": ">"}  # of the file descriptor's first two bytes
TRACE_BLOCK_ID = 0x4422
DESCRIPTOR_BYTES = 32  # of the fixed part, of file and of traces
SAMPLE_BYTES = {1: 2, 2: 4, 3: 2.5, 4: 4, 5: 8}  # by data format code
MAX_TEXT_BYTES = 2**20  # of all header strings; the Åknes recorder writes 16 kB
RECORD_STEP = 128  # miniSEED records begin at multiples of this
MAX_RECORDS, MAX_CHANNELS = 2**16, 1000  # time to read grows with their product


def mseed_problem(path: Path) -> str:
    """Say why a file must not be read as miniSEED: too many records or channels; an empty string if there is no reason.

    What counts looks like the header of a record: sequence number, D, R, Q or M, a byte, 12 bytes of names. [SEED]
    """
    if is_seg2(path):
        return ""
    content = path.read_bytes()
    rows = np.frombuffer(content, np.uint8, len(content) // RECORD_STEP * RECORD_STEP).reshape(-1, RECORD_STEP)
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
        if place < end or len(block) < DESCRIPTOR_BYTES or struct.unpack_from(order + "H", block)[0] != TRACE_BLOCK_ID:
            return f"truncated or damaged: no trace {number} at byte {place}"
        header_bytes, _, n_samples, code = struct.unpack_from(order + "HLLB", block, 2)
        text_bytes += header_bytes
        end = place + header_bytes + int(n_samples * SAMPLE_BYTES.get(code, 0))
        if header_bytes < DESCRIPTOR_BYTES or end > size_bytes:
            return f"truncated or damaged: trace {number} would end at byte {end} of {size_bytes}"
    if text_bytes > MAX_TEXT_BYTES:
        return f"{text_bytes} bytes of header strings; at most {MAX_TEXT_BYTES} are read"
    return ""
