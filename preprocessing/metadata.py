"""The table of an event archive, ``metadata.csv``: read it, and refuse one that cannot be right."""

import csv
import io
import math
import re
import string
from pathlib import Path

import numpy as np

from utils.errors import UserError

METADATA = "metadata.csv"
COLUMNS = ("trace_name", "trace_category", "trace_start_time", "trace_sampling_rate_hz", "trace_npts",
           "trace_component_order", "trace_live_channels", "trace_crc32")  # fmt: skip
WAY_ON = "restore it from a copy, or delete the folder and pack the recordings again"


class ArchiveError(UserError):
    """Say what is wrong with an archive, and what to do about it."""


def component_order(n_sensors: int) -> str:
    """Return one distinct character per channel: A–Z, a–z, 0–9, then Latin Extended."""
    names = string.ascii_uppercase + string.ascii_lowercase + string.digits
    return names[:n_sensors] + "".join(chr(0x100 + i) for i in range(n_sensors - len(names)))


def read_metadata(archive_dir: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the text of the table, and its columns as arrays of N strings; raises ``ArchiveError`` naming the line."""
    path = archive_dir / METADATA
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{archive_dir}: not an event archive ({METADATA}: {error})") from error
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:  # a field of megabytes, an open quote
        raise ArchiveError(f"{path}: not a table ({error}); {WAY_ON}") from error
    missing = set(COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise ArchiveError(f"{path}: no events, or without the columns {', '.join(sorted(missing))}; {WAY_ON}")
    names = set()
    for line, row in enumerate(rows, start=2):
        problem = _problem(row, rows[0])
        if not problem and row["trace_name"] in names:
            problem = "trace_name: given twice"
        if problem:
            raise ArchiveError(f"{path}, line {line}, event {str(row['trace_name'])[:80]}: {problem}; {WAY_ON}")
        names.add(row["trace_name"])
    return text, {column: np.array([row[column] for row in rows], dtype=str) for column in rows[0]}


def _problem(row: dict, first: dict) -> str:
    """Say what is wrong with one row; an empty string for a sound one. All rows have the first one's rate and length."""
    if None in row or None in row.values():
        return "has not one field per column"
    flags = row["trace_live_channels"]
    sound = {
        "trace_name": row["trace_name"] != "",
        "trace_category": row["trace_category"] != "",
        "trace_start_time": _is_time(row["trace_start_time"]),
        "trace_sampling_rate_hz": _is_positive(row["trace_sampling_rate_hz"])
        and float(row["trace_sampling_rate_hz"]) == float(first["trace_sampling_rate_hz"]),
        "trace_npts": re.fullmatch("[1-9][0-9]{0,9}", row["trace_npts"], re.ASCII) and row["trace_npts"] == first["trace_npts"],
        "trace_live_channels": re.fullmatch("[01]*1[01]*", flags),
        "trace_component_order": row["trace_component_order"] == component_order(len(flags)),
        "trace_crc32": re.fullmatch("[0-9a-f]{8}", row["trace_crc32"]),
    }
    wrong = next((column for column, is_sound in sound.items() if not is_sound), None)
    return f"{wrong}: found {row[wrong][:80]!r}" if wrong else ""


def _is_positive(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and float(text) > 0
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    """Tell whether a text is empty or an ISO 8601 time in UTC."""
    try:
        return not text or (len(text) >= len("2020-01-01") and not np.isnat(np.datetime64(text.removesuffix("Z"))))
    except ValueError:
        return False
