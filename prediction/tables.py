"""Tables that grow row by row and survive a kill: CSV, or JSON with one object a line."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from prediction.events import Event, columns, event_key, sensor_columns
from utils.errors import UserError
from utils.files import atomic


def write_table(path: Path, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write a whole CSV table, in place of an existing one."""
    text = _head(columns) + _lines(rows, columns, "csv")
    _write_text(path, text)


def write_events(
    path: Path, events: Iterable[Event], class_names: Sequence[str], per_sensor: bool = False
) -> None:
    """Write events as a CSV table: a row each, or with ``per_sensor`` a row per channel."""
    if per_sensor:
        rows = [row for event in events for row in event.sensor_rows()]
        write_table(path, rows, sensor_columns(class_names))
    else:
        write_table(path, [event.row() for event in events], columns(class_names))


class Table:
    """A CSV or JSON file that grows row by row.

    Raises ``UserError`` for a file that exists, unless it is resumed; then it must have the same
    form and columns. A last row that is incomplete, because the process was killed, is dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], form: str = "csv"):
        self.path, self.columns, self.form = path, list(columns), form

    def begin(
        self, resume: bool = False, keep: Callable[[dict[str, Any]], bool] | None = None
    ) -> list[dict[str, Any]]:
        """Start the file, or resume it; return the existing rows, or those to ``keep``."""
        if self.path.exists() and not resume:
            raise UserError(
                f"{self.path}: exists; choose another name, remove it, or go on with it by --resume"
            )
        rows = (
            [row for row in self.rows() if keep is None or keep(row)] if self.path.exists() else []
        )
        head = _head(self.columns) if self.form == "csv" else ""
        _write_text(self.path, head + _lines(rows, self.columns, self.form))
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Read the complete rows of the file; numbers of a CSV are strings."""
        # file names need not be UTF-8
        text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        end = text.rfind("\n") + 1  # what comes after was cut short
        return (self._json_rows if self.form == "json" else self._csv_rows)(text[:end], text[end:])

    def _csv_rows(self, text: str, cut: str) -> list[dict[str, Any]]:
        if not text and _head(self.columns).startswith(cut):  # empty, or the head was cut short
            return []
        lines = list(csv.reader(io.StringIO(text or cut)))
        self._require_columns(lines[0])
        names = self.columns
        return [dict(zip(names, line)) for line in lines[1:] if len(line) == len(names)]

    def _json_rows(self, text: str, cut: str) -> list[dict[str, Any]]:
        rows = [_object(line) for line in text.split("\n")[:-1]]
        wrong = next((number for number, row in enumerate(rows, 1) if row is None), None)
        if wrong is None and cut and not cut.startswith("{"):
            wrong = len(rows) + 1
        if wrong is not None:
            raise UserError(
                f"{self.path}: line {wrong} is not a JSON object, so this is no table of "
                "--format json; choose another name"
            )
        found = [row for row in rows if row is not None]
        self._require_columns(list(found[0]) if found else self.columns)
        return found

    def _require_columns(self, found: Sequence[str]) -> None:
        if found != self.columns:
            raise UserError(
                f"{self.path}: has other columns than this run would write "
                f"({', '.join(found[:6])} …); choose another name"
            )

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append rows; raises ``UserError`` naming the file where the system refuses."""
        try:
            with open(
                self.path, "a", encoding="utf-8", errors="surrogateescape", newline=""
            ) as file:
                file.write(_lines(rows, self.columns, self.form))
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written: {error.strerror}; make room and go on by --resume"
            ) from error


class EventTable(Table):
    """The table of events, a row each."""

    def __init__(self, path: Path, class_names: Sequence[str], form: str = "csv"):
        super().__init__(path, columns(class_names), form)
        self.class_names = class_names

    def events(self) -> list[Event]:
        """Read the events of the complete rows of the file."""
        return [Event.from_row(row, self.class_names) for row in self.rows()]

    def add(self, events: Iterable[Event]) -> None:
        """Append a row for each event."""
        self.write(event.row() for event in events)


class SensorTable(Table):
    """The table of what each channel says, a row per event and channel."""

    def __init__(self, path: Path, class_names: Sequence[str], form: str = "csv"):
        super().__init__(path, sensor_columns(class_names), form)

    def begin_with(self, keys: set[str], resume: bool) -> None:
        """Start or resume the file; only the rows of the events with these keys are kept."""
        self.begin(resume, lambda row: event_key(row["file"], row["trigger_time"]) in keys)

    def add(self, events: Iterable[Event]) -> None:
        """Append the rows of each event."""
        self.write(row for event in events for row in event.sensor_rows())


def _write_text(path: Path, text: str) -> None:
    # file names in tables need not be UTF-8
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")


def _head(columns: Sequence[str]) -> str:
    return _lines([dict(zip(columns, columns))], columns, "csv")


def _lines(rows: Iterable[dict[str, Any]], columns: Sequence[str], form: str) -> str:
    if form == "json":
        return "".join(
            json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n"
            for row in rows
        )
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
