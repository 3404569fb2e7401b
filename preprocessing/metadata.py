"""Read and check ``metadata.csv``, the table of an event archive."""

import csv
import io
import re
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.errors import UserError

METADATA = "metadata.csv"
COLUMNS = {  # column name: regular expression that its values must match
    "trace_name": ".+",
    "trace_category": ".+",
    "trace_start_time": "([0-9]{4}-[0-9]{2}-[0-9]{2}(T.*)?)?",  # ISO 8601, UTC
    "trace_sampling_rate_hz": "[0-9]+([.][0-9]+)?(e[+-][0-9]+)?",
    "trace_npts": "[1-9][0-9]*",
    "trace_live_channels": "[01]*1[01]*",
    "trace_component_order": ".+",
    "trace_crc32": "[0-9a-f]{8}",
}
CHANNELS = "channels"  # column with the names of the channels of an event, if they are known
BETWEEN_NAMES = "|"
RECOVERY_HINT = "restore it from a copy, or delete the folder and pack the recordings again"


class ArchiveError(UserError):
    """An event archive that cannot be read or written."""


def component_order(n_sensors: int) -> str:
    """Return a string with one distinct character per channel: A–Z, a–z, 0–9, then others."""
    names = string.ascii_uppercase + string.ascii_lowercase + string.digits
    return names[:n_sensors] + "".join(chr(0x100 + i) for i in range(n_sensors - len(names)))


def join_names(channels: Sequence[str]) -> str:
    """Write the names of an event's channels into one cell of the table."""
    return BETWEEN_NAMES.join(name.replace(BETWEEN_NAMES, "_") for name in channels)


def split_names(cell: str, n_channels: int) -> tuple[str, ...]:
    """Read the names of ``n_channels`` from a cell; numbered from 1 if it does not have them."""
    names = tuple(cell.split(BETWEEN_NAMES))
    if len(names) == n_channels and all(names):
        return names
    return tuple(f"channel {number}" for number in range(1, n_channels + 1))


def column_names(archive_dir: Path) -> set[str]:
    """Return the columns of the table of a folder; none if it cannot be read."""
    try:
        with open(archive_dir / METADATA, encoding="utf-8-sig", newline="") as file:
            return set(next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return set()


def read_metadata(archive_dir: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Read the table; return its text, and each column as an array of N strings.

    Raises ``ArchiveError`` for missing columns and for an invalid value, with the line number.
    """
    path = archive_dir / METADATA
    try:
        text = path.read_text(encoding="utf-8")
        table = csv.DictReader(io.StringIO(text), restval="", strict=True)
        rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArchiveError(f"{archive_dir}: not an event archive ({METADATA}: {error})") from error
    columns = table.fieldnames or ()
    missing = COLUMNS.keys() - set(columns)
    if missing or not rows:
        what = f"without the columns {', '.join(sorted(missing))}" if missing else "without events"
        raise ArchiveError(f"{path}: {what}; {RECOVERY_HINT}")
    names: set[str] = set()
    for line, row in enumerate(rows, start=2):
        if problem := _problem(row, rows[0], names):
            raise ArchiveError(f"{path}, line {line}: {problem}; {RECOVERY_HINT}")
        names.add(row["trace_name"])
    return text, {name: np.array([row[name] for row in rows]) for name in columns}


def _problem(row: dict[str, str], first: dict[str, str], names: set[str]) -> str:
    """Describe the first invalid value of a row; return an empty string if there is none.

    Sampling rate and length must equal those of the first row.
    """
    expected = {column: first[column] for column in ("trace_sampling_rate_hz", "trace_npts")}
    expected["trace_component_order"] = component_order(len(row["trace_live_channels"]))
    for column, pattern in COLUMNS.items():
        found = row[column]
        if not re.fullmatch(pattern, found, re.DOTALL) or found != expected.get(column, found):
            return f"{column} has the invalid value {found[:80]!r}"
    return "trace_name is given twice" if row["trace_name"] in names else ""
