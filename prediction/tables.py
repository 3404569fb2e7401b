"""Tables that grow row by row and survive a kill: CSV, or JSON with one object a line."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.errors import UserError
from utils.files import write_atomically


def write_table(path: Path, rows: Iterable[dict], columns: Sequence[str]) -> None:
    """Write a whole CSV table, in place of an existing one."""
    text = _head(columns) + _lines(rows, columns, "csv")
    _write_text(path, text)


class Table:
    """A CSV or JSON file that grows row by row.

    Raises ``UserError`` for a file that exists, unless it is resumed; then it must have the same
    form and columns. A last row that is incomplete, because the process was killed, is dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], form: str = "csv"):
        self.path, self.columns, self.form = path, list(columns), form

    def begin(self, resume: bool = False, keep=lambda row: True) -> list[dict]:
        """Start the file, or resume it; return the existing rows for which ``keep`` is true."""
        if self.path.exists() and not resume:
            raise UserError(
                f"{self.path}: exists; choose another name, remove it, or go on with it by --resume"
            )
        rows = [row for row in self.rows() if keep(row)] if self.path.exists() else []
        head = _head(self.columns) if self.form == "csv" else ""
        _write_text(self.path, head + _lines(rows, self.columns, self.form))
        return rows

    def rows(self) -> list[dict]:
        """Read the complete rows of the file; numbers of a CSV are strings."""
        # file names need not be UTF-8
        text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        end = text.rfind("\n") + 1  # what comes after was cut short
        return (self._json_rows if self.form == "json" else self._csv_rows)(text[:end], text[end:])

    def _csv_rows(self, text: str, cut: str) -> list[dict]:
        if not text and _head(self.columns).startswith(cut):  # empty, or the head was cut short
            return []
        lines = list(csv.reader(io.StringIO(text or cut)))
        self._require_columns(lines[0])
        names = self.columns
        return [dict(zip(names, line)) for line in lines[1:] if len(line) == len(names)]

    def _json_rows(self, text: str, cut: str) -> list[dict]:
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

    def write(self, rows: Iterable[dict]) -> None:
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


def _write_text(path: Path, text: str) -> None:
    # file names in tables need not be UTF-8
    write_atomically(
        path,
        lambda partial: partial.write_text(text, encoding="utf-8", errors="surrogateescape"),
    )


def _head(columns: Sequence[str]) -> str:
    return _lines([dict(zip(columns, columns))], columns, "csv")


def _lines(rows: Iterable[dict], columns: Sequence[str], form: str) -> str:
    if form == "json":
        return "".join(
            json.dumps({name: row[name] for name in columns}, ensure_ascii=False) + "\n"
            for row in rows
        )
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _object(line: str) -> dict | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
