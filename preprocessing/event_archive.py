"""The event archive on disk: ``waveforms.hdf5`` + ``metadata.csv`` in the layout of SeisBench.

One event is one dataset ``/data/<trace_name>`` of shape (S, T), float32, chunked by channel, so that drawing one channel
reads one chunk. Every chunk, and every table of HDF5, carries a checksum that is verified when it is read. ``trace_component_order`` gives each
channel one character; ``trace_live_channels`` says which carry a signal. Reading needs neither ObsPy nor pooch.
"""

import csv
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import h5py
import numpy as np

from preprocessing.lengths import fit_length
from preprocessing.limits import LARGEST_SAMPLE, SAME_RATE, UNLABELED, live_channels
from preprocessing.metadata import (
    COLUMNS,
    METADATA,
    WAY_ON,
    ArchiveError,
    component_order,
    read_metadata,
)
from utils.files import PatientFile, locked

__all__ = [
    "COLUMNS",
    "METADATA",
    "UNLABELED",
    "WAVEFORMS",
    "ArchiveError",
    "ArchiveWriter",
    "EventArchive",
    "component_order",
]

WAVEFORMS = "waveforms.hdf5"
TABLES_BYTES = (
    2**16
)  # of HDF5's tables in memory; more of them, strewn over the heap as events are met, hold large blocks apart


def one_process_at_a_time(archive_dir: Path) -> AbstractContextManager:
    """Hold the lock of an archive, waiting for it."""
    return locked(archive_dir.with_name(archive_dir.name + ".lock"))


def _require_replaceable(archive_dir: Path) -> None:
    """Refuse to write over anything but an archive."""
    is_archive = any((archive_dir / name).is_file() for name in (WAVEFORMS, METADATA))
    if (
        archive_dir.exists()
        and not is_archive
        and (not archive_dir.is_dir() or any(archive_dir.iterdir()))
    ):
        raise ArchiveError(
            f"{archive_dir}: holds something else than an archive; choose another folder"
        )


class ArchiveWriter:
    """Write an archive that is either whole or not there.

    Everything goes to ``<archive_dir>.partial``, which takes the final name on a clean exit and is removed on an exception.
    An archive has one rate and one length. ``sampling_rate_hz=None`` takes the first event's rate. Events longer than
    ``duration_s`` keep their beginning (so the pre-trigger stays where it is), shorter ones are padded at the end
    with each channel's mean; ``None`` takes the median length of the events.
    """

    def __init__(
        self,
        archive_dir: str | Path,
        sampling_rate_hz: float | None = None,
        duration_s: float | None = None,
    ):
        self.archive_dir = Path(archive_dir)
        self.partial = self.archive_dir.with_name(self.archive_dir.name + ".partial")
        self.sampling_rate_hz = sampling_rate_hz
        self.duration_s = duration_s
        self.n_cut = self.n_padded = 0
        self._rows: list[dict] = []

    def __enter__(self) -> "ArchiveWriter":
        _require_replaceable(self.archive_dir)
        shutil.rmtree(self.partial, ignore_errors=True)
        with self._naming_the_folder():
            self.partial.mkdir(parents=True)
            self._written = PatientFile(self.partial / WAVEFORMS)
            # from this version on HDF5 keeps checksums of its own tables; without them, one flipped bit can end the process
            self._file = h5py.File(self._written, "w", libver=("v110", "v110"))
            self._data = self._file.create_group("data")
        return self

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        """Turn the system's refusals (no space, no permission) into an ``ArchiveError``."""
        try:
            yield
            if self._written.refusal:
                raise self._written.refusal
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise ArchiveError(f"{self.archive_dir}: cannot be written: {reason}") from error

    def add(
        self,
        name: str,
        waveforms: np.ndarray,
        category: str,
        start_time: str = "",
        sampling_rate_hz: float | None = None,
        **columns,
    ) -> None:
        """Write one event: (S, T) in recorder units, start in UTC (ISO 8601); extra ``columns`` join the metadata.

        Raises ``ArchiveError`` for non-finite samples, another sampling rate, and an event without a living channel.
        """
        if name in self._data:
            raise ArchiveError(f"event {name}: the name is taken by another event")
        self.sampling_rate_hz = float(self.sampling_rate_hz or sampling_rate_hz or 0)
        if sampling_rate_hz and abs(sampling_rate_hz / self.sampling_rate_hz - 1) > SAME_RATE:
            raise ArchiveError(
                f"event {name}: {sampling_rate_hz:g} Hz where the others have {self.sampling_rate_hz:g} Hz; "
                "set dataset.sampling_freq to one rate"
            )
        n_samples = (
            round(self.duration_s * self.sampling_rate_hz)
            if self.duration_s
            else waveforms.shape[-1]
        )
        row = {
            "trace_name": name,
            "trace_category": category,
            "trace_start_time": start_time,
            "trace_sampling_rate_hz": self.sampling_rate_hz,
        }
        self._rows.append(row | self._store(name, waveforms, n_samples) | columns)

    def _store(self, name: str, waveforms: np.ndarray, n_samples: int) -> dict:
        """Write a block of exactly ``n_samples``; return the columns that describe it."""
        if n_samples < 1:
            raise ArchiveError(
                f"event {name}: no sample fits into {self.duration_s} s at {self.sampling_rate_hz:g} Hz"
            )
        n_found = waveforms.shape[-1]
        block = np.ascontiguousarray(waveforms[:, :n_samples], dtype=np.float32)
        low, high = block.min(axis=1), block.max(axis=1)
        if (
            not (low >= -LARGEST_SAMPLE).all() or not (high <= LARGEST_SAMPLE).all()
        ):  # NaN compares false
            raise ArchiveError(
                f"event {name}: samples that are NaN, infinite or above {LARGEST_SAMPLE:g}"
            )
        live = high > low
        if not live.any():
            raise ArchiveError(
                f"event {name}: no channel carries a signal in its first {n_samples} samples"
            )
        block = fit_length(block, n_samples)
        with self._naming_the_folder():
            self._data.create_dataset(name, data=block, chunks=(1, n_samples), fletcher32=True)
        self.n_cut += n_found > n_samples
        self.n_padded += n_found < n_samples
        flags = "".join("01"[int(alive)] for alive in live)
        return {
            "trace_npts": n_samples,
            "trace_component_order": component_order(len(block)),
            "trace_live_channels": flags,
            "trace_crc32": f"{zlib.crc32(block):08x}",
        }

    def fit_lengths(self) -> None:
        """Bring all events to one length: the median of theirs, when no duration was given."""
        if not self._rows:
            raise ArchiveError(f"{self.archive_dir}: no event to write")
        median = sorted(row["trace_npts"] for row in self._rows)[len(self._rows) // 2]
        for row in self._rows:
            if row["trace_npts"] != median:
                name = row["trace_name"]
                waveforms = self._data[name][:]
                del self._data[name]
                row.update(self._store(name, waveforms, median))

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            if error_type is None:
                with self._naming_the_folder():
                    self._finish()
        finally:
            self._file.close()
            self._written.close()
            shutil.rmtree(self.partial, ignore_errors=True)

    def _finish(self) -> None:
        self.fit_lengths()
        layout = {
            "dimension_order": "CW",
            "measurement": "raw recorder units",
            "sampling_rate": self.sampling_rate_hz,
        }
        for key, value in layout.items():
            self._file[f"data_format/{key}"] = value
        self._file.close()
        self._written.close()
        if self._written.refusal:
            raise self._written.refusal
        with open(self.partial / METADATA, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(
                file, list(dict.fromkeys(key for row in self._rows for key in row))
            )
            table.writeheader()
            table.writerows(self._rows)
        for path in self.partial.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(self.archive_dir, ignore_errors=True)
        os.replace(self.partial, self.archive_dir)


class EventArchive:
    """Read an event archive; safe to share between processes (each opens the file for itself).

    ``labels`` and ``names`` are arrays of N strings, ``metadata`` maps each column to an array of N strings, ``live`` is
    (N, S_max) bool: which sensors exist and carry a signal. Raises ``ArchiveError`` for files that are missing or disagree.
    """

    def __init__(self, archive_dir: str | Path):
        self.archive_dir = Path(archive_dir)
        self._file: tuple[int, h5py.File, h5py.Group] | None = (
            None  # of which process; a closed file would close its groups
        )
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
        except Exception as error:  # HDF5 raises whatever a damaged table leads it to
            path = self.archive_dir / WAVEFORMS
            raise ArchiveError(
                f"{path}: cannot be opened as an event archive ({error}); {WAY_ON}"
            ) from error
        if stored != set(self.names.tolist()):
            raise ArchiveError(
                f"{self.archive_dir}: {WAVEFORMS} and {METADATA} list different events; {WAY_ON}"
            )

    def _open(self) -> h5py.Group:
        if self._file is None or self._file[0] != os.getpid():
            file = h5py.File(self.archive_dir / WAVEFORMS, "r")
            limits = file.id.get_mdc_config()
            limits.set_initial_size = True
            limits.initial_size = limits.min_size = limits.max_size = TABLES_BYTES
            file.id.set_mdc_config(limits)
            self._file = os.getpid(), file, file["data"]
        return self._file[-1]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def days(self) -> np.ndarray:
        """Return each event's UTC day, ``YYYY-MM-DD``."""
        return np.array([start[:10] for start in self.metadata["trace_start_time"].tolist()])

    @property
    def identities(self) -> np.ndarray:
        """Return (N,) int64 that tell events apart, whatever their rate, length and class here.

        Hashes of the recordings' checksums; for events without a recording of name and waveforms.
        """
        sources = self.metadata.get("source_sha256", np.full(len(self), ""))
        columns = (
            column.tolist() for column in (sources, self.names, self.metadata["trace_crc32"])
        )
        texts = (source or f"{name} {crc}" for source, name, crc in zip(*columns))
        hashes = b"".join(hashlib.sha256(text.encode()).digest()[:8] for text in texts)
        return np.frombuffer(hashes, dtype="<i8").astype(np.int64)

    def waveforms(self, index: int, sensors: np.ndarray | list[int] | None = None) -> np.ndarray:
        """Read one event as (S, T) float32, all its sensors or the given ones in the given order.

        Raises ``ArchiveError`` naming event and channel for what is unreadable, not finite or not as the metadata says.
        """
        sensors = range(self.n_sensors[index]) if sensors is None else sensors
        try:
            block = self._read(index, sensors)
        except Exception as error:  # HDF5 raises whatever damaged bytes lead it to
            raise ArchiveError(f"{self._event(index)}, {error}; {WAY_ON}") from error
        for problem, sound in (
            ("NaN or infinite samples", np.isfinite(block).all(axis=1)),
            ("no signal, where there was one", block.any(axis=1) | ~self.live[index, sensors]),
        ):
            if not sound.all():
                raise ArchiveError(
                    f"{self._event(index)}, channel {sensors[int(np.argmin(sound))]}: {problem}; {WAY_ON}"
                )
        return block

    def _event(self, index: int) -> str:
        return f"{self.archive_dir}: event {self.names[index]}"

    def _read(self, index: int, sensors: Sequence[int]) -> np.ndarray:
        """Read some channels; raises anything for a dataset that is damaged or not what the metadata says."""
        # HDF5's own calls: three times as fast as h5py's indexing, which matters when single channels are drawn
        dataset = h5py.h5d.open(self._open().id, self.names[index].encode())
        found, expected = (
            (dataset.shape, dataset.dtype),
            ((self.n_sensors[index], self.n_samples), np.float32),
        )
        if found != expected:
            raise ValueError(
                f"is {found[1]} of shape {found[0]}, where {METADATA} says float32 of {expected[0]}"
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
        """Read every event and compare it with what the metadata says; raises ``ArchiveError`` naming the first that differs."""
        for index in range(len(self)):
            block, live = self.waveforms(index), self.live[index, : self.n_sensors[index]]
            if f"{zlib.crc32(block):08x}" != self.metadata["trace_crc32"][index]:
                raise ArchiveError(f"{self._event(index)} differs from what was packed; {WAY_ON}")
            wrong = np.flatnonzero(
                [_contradicts(channel, alive) for channel, alive in zip(block, live)]
            )
            if wrong.size:
                raise ArchiveError(
                    f"{self._event(index)}, channel {wrong[0]}: is not what trace_live_channels in {METADATA} says; {WAY_ON}"
                )


def _contradicts(channel: np.ndarray, alive: bool) -> bool:
    """Tell whether a stored channel cannot be alive, or dead: constant, in older archives then padded with zeros."""
    as_it_was = channel if alive else np.trim_zeros(channel, "b")
    return bool(as_it_was.size and live_channels(as_it_was)) != alive
