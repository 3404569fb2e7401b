"""Read an SDS archive, the folder that SeisComP and slarchive write: a file per channel and day.

[SDS] https://www.seiscomp.de/seiscomp3/doc/applications/slarchive/SDS.html
"""

import fnmatch
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prediction.continuous.continuous_data import WholeFile, index_file, read_window
from prediction.continuous.miniseed import NS, Records
from preprocessing.traces import RecordingError
from utils.errors import UserError

DAY_NS = 86_400 * NS
FAR_DAY = 80_000  # days since 1970, later than any data: the year 2189
NO_DAY = -1  # of a file name that has none
BORDER_NS = 3_600 * NS  # a day's file may hold some data of the next day


class Pattern(NamedTuple):
    """Codes of channels; ``*`` stands for any number of characters, ``?`` for one."""

    network: str
    station: str
    location: str
    channel: str


def parse_streams(text: str) -> list[Pattern]:
    """Read channel patterns such as ``NO.AKN0?..GH?``, separated by commas or spaces.

    ``--`` is the empty location code. Raises ``UserError``.
    """
    patterns = []
    for word in text.replace(",", " ").split():
        codes = word.split(".")
        if len(codes) != 4 or "/" in word or not all((codes[0], codes[1], codes[3])):
            raise UserError(
                f"--streams: found {word}; should be NETWORK.STATION.LOCATION.CHANNEL, "
                'for example "NO.AKN0?..GH?"'
            )
        codes[2] = "" if codes[2] == "--" else codes[2]
        patterns.append(Pattern(*codes))
    if not patterns:
        raise UserError("--streams: names no channel")
    return patterns


class SdsArchive:
    """Recordings in an SDS archive as a ``Source``, from ``from_ns`` to ``to_ns``.

    Files are indexed when they are needed, and forgotten afterwards. Raises ``UserError`` if there
    is no such archive, or no file of these channels.
    """

    def __init__(
        self,
        root: str | Path,
        patterns: Iterable[Pattern],
        from_ns: int | None = None,
        to_ns: int | None = None,
    ):
        from obspy.clients.filesystem.sds import Client

        self.root, self.patterns = Path(root), list(patterns)
        try:
            self.layout = Client(str(root)).FMTSTR.replace("{doy:03d}", "{doy}")
        except OSError as error:
            raise UserError(f"--sds: {root}: no such folder") from error
        self.files: dict[Path, Records | WholeFile] = {}
        self.unusable: dict[Path, str] = {}
        self._from_ns, self._to_ns = from_ns, to_ns
        if not self.paths():
            names = ", ".join(".".join(pattern) for pattern in self.patterns)
            raise UserError(f"--sds: {root}: no files of {names}")

    @property
    def start_ns(self) -> int:
        """Return when the recordings begin."""
        if self._from_ns is None:
            days = sorted({day_of(path.name) for path in self.paths()})
            self._from_ns = min(self._edges(days, np.min, "start_ns"))
        return self._from_ns

    @property
    def end_ns(self) -> int:
        """Return when the recordings end."""
        if self._to_ns is None:
            days = sorted({day_of(path.name) for path in self.paths()}, reverse=True)
            self._to_ns = max(self._edges(days, np.max, "end_ns"))
        return self._to_ns

    @property
    def covered_ns(self) -> np.ndarray:
        """Return start and end of the recordings, (2, 1); pauses between them are not known."""
        return np.array([[self.start_ns], [self.end_ns]])

    def _edges(self, days: list[int], choose: Any, edge: str) -> list[int]:
        """Return a time of each usable file of the first of ``days`` that has any."""
        for day in days:
            self._index(path for path in self.paths(day, day))
            files = [file for path, file in self.files.items() if day_of(path.name) == day]
            if files:
                return [int(choose(getattr(file, edge))) for file in files]
        raise UserError(f"--sds: {self.root}: no file can be read")

    def paths(self, first_day: int | None = None, last_day: int | None = None) -> list[Path]:
        """Return the files of these channels, sorted by day; days are counted since 1970."""
        first = 0 if first_day is None else first_day
        last = FAR_DAY if last_day is None else last_day
        found = set()
        for year in self.root.iterdir():
            if year.name.isdigit() and _year(first) <= int(year.name) <= _year(last):
                for pattern in self.patterns:
                    found |= self._of_year(pattern, year.name, first, last)
        return [path for _, path in sorted(found)]

    def _of_year(
        self, pattern: Pattern, year: str, first_day: int, last_day: int
    ) -> set[tuple[int, Path]]:
        """Return day and path of each file of one pattern and year."""
        codes = {"sds_type": "D", "year": year, "doy": "*"}
        layout = Path(self.layout.format(**pattern._asdict(), **codes))
        found = set()
        for folder in self.root.glob(str(layout.parent)):
            # at the end of a year there are thousands: days first, they are cheap
            dated = {name: day_of(name) for name in os.listdir(folder)}  # noqa: PTH208
            near = [name for name, day in dated.items() if first_day <= day <= last_day]
            for name in fnmatch.filter(near, layout.name):
                found.add((dated[name], folder / name))
        return found

    def read(self, start_ns: int, end_ns: int) -> Any:
        """Return an ObsPy stream between two times, of float64 segments without gaps."""
        first = (start_ns - BORDER_NS) // DAY_NS
        self.forget_before(first)
        self._index(self.paths(first, (end_ns + BORDER_NS) // DAY_NS))
        return read_window(list(self.files.values()), start_ns, end_ns, self._note)

    def forget_before(self, day: int) -> None:
        """Forget the index of the files of earlier days."""
        self.files = {path: file for path, file in self.files.items() if day_of(path.name) >= day}

    def _index(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path not in self.files and path not in self.unusable:
                try:
                    self.files[path] = index_file(path, self.unusable)
                except RecordingError as error:
                    self._note(path, error)

    def _note(self, path: Path, error: RecordingError) -> None:
        self.unusable.setdefault(path, " ".join(str(error).removeprefix(f"{path}: ").split()))


def day_of(name: str) -> int:
    """Return the day of a file in days since 1970, from the year and day that end its name."""
    year, _, day = name[-8:].partition(".")
    if len(year) == 4 and len(day) == 3 and (year + day).isdigit():
        return _first_day(int(year)) + int(day) - 1
    return NO_DAY


@cache
def _first_day(year: int) -> int:
    return int(np.datetime64(f"{year:04d}", "D").astype(np.int64))


def _year(day: int) -> int:
    return int(str(np.datetime64(day, "D"))[:4])
