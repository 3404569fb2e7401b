"""The event archive on disk: ``waveforms.hdf5`` and ``metadata.csv`` in the layout of SeisBench.

Each event is a dataset ``/data/<trace_name>`` of shape (S, T), float32. One channel is one HDF5
chunk, so a single channel can be read without the others. HDF5 verifies a checksum of every chunk
and of its own tables when it reads them. In the metadata, ``trace_component_order`` has one
character per channel; ``trace_live_channels`` has 1 for a channel with a signal, 0 for one without.
"""

import csv
import hashlib
import io
import os
import re
import string
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from preprocessing.channels import UNLABELED, live_channels
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
WAVEFORMS = "waveforms.hdf5"
# Size of HDF5's metadata cache. A larger cache fragments the heap while events are read, and the
# memory of a training run grows.
METADATA_CACHE_BYTES = 2**16


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


class EventArchive:
    """Read an event archive; may be shared between processes (each opens the file itself).

    ``labels`` and ``names`` are arrays of N strings. ``metadata`` maps each column to an array of N
    strings. ``live`` (N, S_max) is a mask of the sensors that exist and have a signal. Raises
    ``ArchiveError`` for missing or damaged files, and if the two files list different events.
    """

    def __init__(self, archive_dir: str | Path):
        self.archive_dir = Path(archive_dir)
        # process id, file, group; the file is kept because closing it would close the group
        self._file: tuple[int, h5py.File, h5py.Group] | None = None
        text, self.metadata = read_metadata(self.archive_dir)
        self.names, self.labels = self.metadata["trace_name"], self.metadata["trace_category"]
        self.sampling_rate_hz = float(self.metadata["trace_sampling_rate_hz"][0])
        self.n_samples = int(self.metadata["trace_npts"][0])
        self.class_names = tuple(sorted(set(self.labels.tolist()) - {UNLABELED}))
        flags = self.metadata["trace_live_channels"].tolist()
        width = max(map(len, flags))
        self.live = np.array([[c == "1" for c in row.ljust(width, "0")] for row in flags])
        self.n_sensors = np.array([len(row) for row in flags])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            stored = set(self._open())
        except Exception as error:  # HDF5 raises many kinds of errors for damaged tables
            path = self.archive_dir / WAVEFORMS
            raise ArchiveError(
                f"{path}: cannot be opened as an event archive ({error}); {RECOVERY_HINT}"
            ) from error
        if stored != set(self.names.tolist()):
            raise ArchiveError(
                f"{self.archive_dir}: {WAVEFORMS} and {METADATA} list different events; "
                f"{RECOVERY_HINT}"
            )

    def _open(self) -> h5py.Group:
        if self._file is None or self._file[0] != os.getpid():
            file = h5py.File(self.archive_dir / WAVEFORMS, "r")
            limits = file.id.get_mdc_config()
            limits.set_initial_size = True
            limits.initial_size = limits.min_size = limits.max_size = METADATA_CACHE_BYTES
            file.id.set_mdc_config(limits)
            self._file = os.getpid(), file, file["data"]
        return self._file[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def days(self) -> np.ndarray:
        """The UTC day of each event, ``YYYY-MM-DD``: (N,) strings."""
        return np.array([start[:10] for start in self.metadata["trace_start_time"].tolist()])

    @property
    def identities(self) -> np.ndarray:
        """A number (N,) int64 for each recording, independent of rate, length and class here.

        It is a hash of the checksum of the recording; for simulated events, of name and waveforms.
        """
        sources = self.metadata.get("source_sha256", np.full(len(self), ""))
        columns = (
            column.tolist() for column in (sources, self.names, self.metadata["trace_crc32"])
        )
        texts = (source or f"{name} {crc}" for source, name, crc in zip(*columns))
        hashes = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
        return np.frombuffer(hashes, dtype="<i8").astype(np.int64)

    def channels(self, index: int) -> tuple[str, ...]:
        """Return the names of the channels of one event, such as ``NO.AKN03..GHZ``.

        They are ``channel 1`` and so on in archives that do not have them.
        """
        cells = self.metadata.get(CHANNELS)
        return split_names("" if cells is None else str(cells[index]), self.n_sensors[index])

    def waveforms(self, index: int, sensors: np.ndarray | list[int] | None = None) -> np.ndarray:
        """Read one event as (S, T) float32: all sensors, or the given ones in the given order.

        Raises ``ArchiveError`` with event and channel for data that are unreadable, not finite, or
        differ from the metadata in shape, type or live channels.
        """
        chosen = range(self.n_sensors[index]) if sensors is None else sensors
        try:
            block = self._read(index, chosen)
        except Exception as error:  # HDF5 raises many kinds of errors for damaged bytes
            raise ArchiveError(f"{self._event(index)}, {error}; {RECOVERY_HINT}") from error
        for problem, sound in (
            ("NaN or infinite samples", np.isfinite(block).all(axis=1)),
            ("no signal, where there was one", block.any(axis=1) | ~self.live[index, chosen]),
        ):
            if not sound.all():
                channel = chosen[int(np.argmin(sound))]
                raise ArchiveError(
                    f"{self._event(index)}, channel {channel}: {problem}; {RECOVERY_HINT}"
                )
        return block

    def _event(self, index: int) -> str:
        return f"{self.archive_dir}: event {self.names[index]}"

    def _read(self, index: int, sensors: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read some channels; for a damaged dataset, HDF5 may raise any exception."""
        # Low-level HDF5 calls are three times as fast as h5py's indexing of single channels.
        dataset = h5py.h5d.open(self._open().id, self.names[index].encode())
        expected = self.n_sensors[index], self.n_samples
        if dataset.shape != expected or dataset.dtype != np.float32:
            raise ValueError(
                f"is {dataset.dtype} of shape {dataset.shape}, where {METADATA} says float32 of "
                f"{expected}"
            )
        block = np.empty((len(sensors), self.n_samples), dtype=np.float32)
        one_channel, stored = h5py.h5s.create_simple((self.n_samples,)), dataset.get_space()
        for samples, sensor in zip(block, sensors):
            try:
                stored.select_hyperslab((sensor, 0), (1, self.n_samples))
                dataset.read(one_channel, stored, samples)
            except Exception as error:
                raise OSError(f"channel {sensor}: damaged ({error})") from error
        return block

    def verify(self) -> None:
        """Compare the waveforms of every event with the checksum and live channels in the metadata.

        Raises ``ArchiveError`` for the first event that differs.
        """
        for index in range(len(self)):
            block, live = self.waveforms(index), self.live[index, : self.n_sensors[index]]
            if checksum(block) != self.metadata["trace_crc32"][index]:
                raise ArchiveError(
                    f"{self._event(index)} differs from what was packed; {RECOVERY_HINT}"
                )
            wrong = np.flatnonzero(
                [_contradicts(channel, is_live) for channel, is_live in zip(block, live)]
            )
            if wrong.size:
                raise ArchiveError(
                    f"{self._event(index)}, channel {wrong[0]}: differs from trace_live_channels "
                    f"in {METADATA}; {RECOVERY_HINT}"
                )


def checksum(block: np.ndarray) -> str:
    """Return the checksum of an event (S, T), as the metadata has it."""
    return f"{zlib.crc32(block.data):08x}"


def _contradicts(channel: np.ndarray, is_live: bool) -> bool:
    """Check whether a stored channel (T,) disagrees with its live flag.

    A channel without a signal is constant; in archives of earlier versions zeros may follow.
    """
    samples = channel if is_live else np.trim_zeros(channel, "b")
    return bool(samples.size and live_channels(samples)) != is_live
