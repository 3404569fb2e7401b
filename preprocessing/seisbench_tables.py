"""Read the tables of a SeisBench dataset: which rows are the channels of one event.

Nothing of SeisBench's own code is used. The format: SeisBench documentation, "Data format",
https://seisbench.readthedocs.io/en/stable/pages/data_format.html
"""

import csv
import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from preprocessing.channels import UNLABELED
from preprocessing.event_archive import ArchiveError
from preprocessing.levels import COLUMNS

log = logging.getLogger(__name__)
LABEL_COLUMNS = ("source_type", "trace_category")
GROUP_COLUMNS = ("source_id", "event_id")
CODES = ("station_network_code", "station_code", "station_location_code", "trace_channel")
# columns of an event archive that have another meaning there, and names that ArchiveWriter uses
OWN_COLUMNS = {"source_file", "source_sha256", "source_rate_hz", "seg2_delay_s", "channels"}
OWN_COLUMNS |= {"name", "waveforms", "category", "start_time", "sampling_rate_hz", "onset_s"}
OWN_COLUMNS |= set(COLUMNS)
# P, Pg, Pn, P1 … in any spelling that SeisBench's datasets have
P_ARRIVAL = re.compile(r"trace_p[a-z0-9]?_arrival_sample", re.IGNORECASE)


class DataFormat(NamedTuple):
    """What the file of a chunk says about its arrays; empty or 0 where it says nothing."""

    dimension_order: str = "CW"
    component_order: tuple[str, ...] = ()
    sampling_rate_hz: float = 0.0


class TraceRow(NamedTuple):
    """One row of a table: an array of some components of one station."""

    file: Path
    name: str
    start_time: str
    rate_hz: float  # 0 where neither table nor file say it
    components: tuple[str, ...]
    dimensions: str
    codes: tuple[str, str, str, str]
    arrival_sample: float | None  # of the first P wave


class EventRows(NamedTuple):
    """The rows of one event. ``columns`` are those that have one value in all of them."""

    name: str
    label: str
    rows: list[TraceRow]
    columns: dict[str, str]
    problem: str


def chunk_files(root: Path) -> list[tuple[Path, Path]]:
    """Return table and waveform file of each chunk of a dataset, sorted by chunk.

    Chunks are listed in the file ``chunks``, or found by their file names. Raises ``ArchiveError``.
    """
    if not root.is_dir():
        raise ArchiveError(f"{root}: no such folder; dataset.root must be a SeisBench dataset")
    listed = root / "chunks"
    chunks = listed.read_text(encoding="utf-8").split() if listed.is_file() else []
    if not chunks:
        tables = {path.stem.removeprefix("metadata") for path in root.glob("metadata*.csv")}
        arrays = {path.stem.removeprefix("waveforms") for path in root.glob("waveforms*.hdf5")}
        chunks = [""] if "" in arrays else sorted(tables | arrays)
    if not chunks:
        raise ArchiveError(
            f"{root}: not a SeisBench dataset; expected metadata.csv and waveforms.hdf5 (or one "
            "pair for each chunk)"
        )
    files = [(root / f"metadata{c}.csv", root / f"waveforms{c}.hdf5") for c in sorted(chunks)]
    for path in (path for pair in files for path in pair):
        if not path.is_file():
            raise ArchiveError(f"{path}: no such file, but the dataset has this chunk")
    return files


def read_format(waveforms: Path) -> DataFormat:
    """Read the group ``data_format`` of a waveform file. Raises ``ArchiveError``."""
    try:
        with h5py.File(waveforms, "r") as file:
            found = {key: value[()] for key, value in file.get("data_format", {}).items()}
    except Exception as error:  # HDF5 raises many kinds of errors for damaged files
        raise ArchiveError(f"{waveforms}: cannot be read ({error})") from error
    order = _text(found.get("dimension_order", "CW"))
    dimensions = str(order).replace("N", "") if isinstance(order, str) else "".join(order)
    if sorted(dimensions) not in (["C", "W"], ["W"]):
        raise ArchiveError(
            f"{waveforms}: data_format/dimension_order: found {dimensions!r}; expected CW or WC"
        )
    components = tuple(_text(found.get("component_order", "")))
    return DataFormat(dimensions, components, float(found.get("sampling_rate", 0)))


def _text(value: Any) -> str | tuple[str, ...]:
    """Return a text of an HDF5 file, or several, as str."""
    if isinstance(value, bytes | str):
        return value.decode() if isinstance(value, bytes) else value
    return tuple(part.decode() if isinstance(part, bytes) else str(part) for part in value)


def list_event_rows(root: Path, label_column: str | None, group_by: str | None) -> list[EventRows]:
    """Return the events of a dataset in the order of their first rows.

    ``label_column`` None: the first of ``LABEL_COLUMNS`` that exists. ``group_by`` None: the first
    of ``GROUP_COLUMNS``, or one event per row. A row without a value in this column is an event of
    its own; one without a label is ``Unlabeled``. Raises ``ArchiveError``.
    """
    files = chunk_files(root)
    header = _header(files)
    label_column = _choose(root, header, "label_column", label_column, LABEL_COLUMNS)
    if not label_column:
        log.warning(
            "%s: no column %s; all events are %s. dataset.label_column may be one of %s",
            root,
            " or ".join(LABEL_COLUMNS),
            UNLABELED,
            ", ".join(header),
        )
    group_by = _choose(root, header, "group_by", group_by, GROUP_COLUMNS)
    events: dict[str, tuple[list[TraceRow], list[dict[str, Any]]]] = {}
    names: Counter[str] = Counter()
    for row, trace, chunk in _rows(files):
        name = row.get(group_by, "") if group_by else ""
        if not name:
            name = _own_name(row, chunk, names)
        rows, texts = events.setdefault(name, ([], []))
        rows.append(trace)
        texts.append(row)
    return [
        _event(name, rows, texts, label_column, header) for name, (rows, texts) in events.items()
    ]


def _header(files: list[tuple[Path, Path]]) -> list[str]:
    """Return the columns of all tables."""
    columns: dict[str, None] = {}
    for table, _ in files:
        with open(table, encoding="utf-8-sig", newline="") as file:
            columns |= dict.fromkeys(next(csv.reader(file), []))
    return list(columns)


def _choose(
    root: Path, header: list[str], key: str, wanted: str | None, usual: tuple[str, ...]
) -> str:
    """Return the wanted column, or the first usual one that exists, or an empty string."""
    if wanted is not None and wanted not in header:
        raise ArchiveError(
            f"dataset.{key}: found {wanted}, but {root} has the columns {', '.join(header)}"
        )
    return wanted or next((column for column in usual if column in header), "")


def _rows(files: list[tuple[Path, Path]]) -> Iterator[tuple[dict[str, Any], TraceRow, str]]:
    """Yield each row of all tables as text and as ``TraceRow``, with the name of its chunk."""
    for table, waveforms in files:
        chunk_format = read_format(waveforms)
        try:
            with open(table, encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, restval="")
                for row in reader:
                    trace = _trace(table, reader.line_num, row, waveforms, chunk_format)
                    yield row, trace, table.stem.removeprefix("metadata")
        except (UnicodeDecodeError, csv.Error) as error:
            raise ArchiveError(f"{table}: cannot be read ({error})") from error


def _trace(
    table: Path, line: int, row: dict[str, Any], waveforms: Path, chunk_format: DataFormat
) -> TraceRow:
    if not row.get("trace_name"):
        raise ArchiveError(f"{table}, line {line}: no trace_name")
    try:
        rate_hz = float(row.get("trace_sampling_rate_hz") or 0)
        if not rate_hz and row.get("trace_dt_s"):
            rate_hz = 1 / float(row["trace_dt_s"])
    except (ValueError, ZeroDivisionError):
        raise ArchiveError(
            f"{table}, line {line}: trace_sampling_rate_hz or trace_dt_s is not a positive number"
        ) from None
    return TraceRow(
        waveforms,
        row["trace_name"],
        row.get("trace_start_time", ""),
        rate_hz or chunk_format.sampling_rate_hz,
        tuple(row.get("trace_component_order") or chunk_format.component_order),
        chunk_format.dimension_order,
        tuple(row.get(code, "") for code in CODES),  # type: ignore[arg-type]  # there are four
        _first_arrival(row),
    )


def _first_arrival(row: dict[str, Any]) -> float | None:
    """Return the sample of the earliest P wave in the row's columns; None if there is none."""
    found = []
    for column, text in row.items():
        if column and text and P_ARRIVAL.fullmatch(column):
            with suppress(ValueError):
                found.append(float(text))
    return min(filter(math.isfinite, found), default=None)


def _own_name(row: dict[str, Any], chunk: str, names: Counter[str]) -> str:
    """Name an event of one row after its trace; traces of different chunks may share a name."""
    # bucket0$3,:3,:6000 is row 3 of the array bucket0
    name = row.get("trace_name_original") or row["trace_name"].split(",:")[0]
    name = name.replace("$", "_")
    if names[name]:
        name += chunk
    names[name] += 1
    return f"{name} #{names[name]}" if names[name] > 1 else name


def _event(
    name: str,
    rows: list[TraceRow],
    texts: list[dict[str, Any]],
    label_column: str,
    header: list[str],
) -> EventRows:
    labels = {text.get(label_column, "") for text in texts} if label_column else {""}
    problem = ""
    if len(labels) > 1:
        found = ", ".join(sorted(label or "none" for label in labels))
        problem = f"event {name}: its rows have different labels in {label_column}: {found}"
    kept = [column for column in header if not column.startswith("trace_")]
    columns = {
        column: texts[0].get(column, "")
        for column in kept
        if column not in OWN_COLUMNS and len({text.get(column, "") for text in texts}) == 1
    }
    return EventRows(name, min(labels) or UNLABELED, rows, columns, problem)
