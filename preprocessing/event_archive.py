"""The event archive on disk: ``waveforms.hdf5`` and ``metadata.csv`` in the layout of SeisBench.

Each event is a dataset ``/data/<trace_name>`` of shape (S, T), float32. One channel is one HDF5
chunk, so a single channel can be read without the others. HDF5 verifies a checksum of every chunk
and of its own tables when it reads them. In the metadata, ``trace_component_order`` has one
character per channel; ``trace_live_channels`` has 1 for a channel with a signal, 0 for one without.
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
    METADATA,
    RECOVERY_HINT,
    ArchiveError,
    component_order,
    read_metadata,
)
from utils.files import PatientFile, locked

WAVEFORMS = "waveforms.hdf5"
# Size of HDF5's metadata cache. A larger cache fragments the heap while events are read, and the
# memory of a training run grows.
METADATA_CACHE_BYTES = 2**16


def one_process_at_a_time(archive_dir: Path) -> AbstractContextManager:
    """Return a context manager that holds the lock of an archive; it waits for other processes."""
    return locked(archive_dir.with_name(archive_dir.name + ".lock"))


def _require_replaceable(archive_dir: Path) -> None:
    """Raise ``ArchiveError`` if the folder holds anything but an event archive."""
    is_archive = any((archive_dir / name).is_file() for name in (WAVEFORMS, METADATA))
    if (
        archive_dir.exists()
        and not is_archive
        and (not archive_dir.is_dir() or any(archive_dir.iterdir()))
    ):
        raise ArchiveError(
            f"{archive_dir}: contains files that are not an event archive; choose another folder"
        )


class ArchiveWriter:
    """Context manager that writes a complete archive, or none at all.

    Files are written to ``<archive_dir>.partial``. This folder gets its final name at a normal exit
    and is removed after an exception. All events of an archive have one sampling rate and length:
    ``sampling_rate_hz=None`` takes the rate of the first event, ``duration_s=None`` the median
    length of the events. Longer events are cut at their end (the pre-trigger keeps its place);
    shorter ones are padded at their end with the mean of each channel.
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
            # Older HDF5 formats have no checksums of their own tables: one flipped bit can crash
            # the process that reads them.
            self._file = h5py.File(self._written, "w", libver=("v110", "v110"))
            self._data = self._file.create_group("data")
        return self

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        """Turn errors of the file system (no space, no permission) into ``ArchiveError``."""
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
        **columns: str,
    ) -> None:
        """Write one event: waveforms (S, T) in recorder units, start time in UTC (ISO 8601).

        Further ``columns`` are added to the metadata. Raises ``ArchiveError`` for a name that is
        already used, samples that are not finite or too large, a different sampling rate, and an
        event in which no channel has a signal.
        """
        if name in self._data:
            raise ArchiveError(f"event {name}: another event has the same name")
        self.sampling_rate_hz = float(self.sampling_rate_hz or sampling_rate_hz or 0)
        if sampling_rate_hz and abs(sampling_rate_hz / self.sampling_rate_hz - 1) > SAME_RATE:
            raise ArchiveError(
                f"event {name}: {sampling_rate_hz:g} Hz where the others have "
                f"{self.sampling_rate_hz:g} Hz; set dataset.sampling_freq to one rate"
            )
        n_samples = waveforms.shape[-1]
        if self.duration_s:
            n_samples = round(self.duration_s * self.sampling_rate_hz)
        row = {
            "trace_name": name,
            "trace_category": category,
            "trace_start_time": start_time,
            "trace_sampling_rate_hz": self.sampling_rate_hz,
        }
        self._rows.append(row | self._store(name, waveforms, n_samples) | columns)

    def _store(self, name: str, waveforms: np.ndarray, n_samples: int) -> dict:
        """Cut or pad an event to ``n_samples`` and write it; return its metadata columns."""
        if n_samples < 1:
            raise ArchiveError(
                f"event {name}: {self.duration_s} s at {self.sampling_rate_hz:g} Hz is less than "
                "one sample"
            )
        n_found = waveforms.shape[-1]
        block = np.ascontiguousarray(waveforms[:, :n_samples], dtype=np.float32)
        low, high = block.min(axis=1), block.max(axis=1)
        # written so that NaN, which compares as False, is refused too
        if not ((low >= -LARGEST_SAMPLE).all() and (high <= LARGEST_SAMPLE).all()):
            raise ArchiveError(
                f"event {name}: samples that are NaN, infinite or above {LARGEST_SAMPLE:g}"
            )
        live = high > low
        if not live.any():
            raise ArchiveError(
                f"event {name}: no channel has a signal in the first {n_samples} samples"
            )
        block = fit_length(block, n_samples)
        with self._naming_the_folder():
            self._data.create_dataset(name, data=block, chunks=(1, n_samples), fletcher32=True)
        self.n_cut += n_found > n_samples
        self.n_padded += n_found < n_samples
        flags = "".join("01"[int(is_live)] for is_live in live)
        return {
            "trace_npts": n_samples,
            "trace_component_order": component_order(len(block)),
            "trace_live_channels": flags,
            "trace_crc32": _checksum(block),
        }

    def fit_lengths(self) -> None:
        """Cut or pad all events to their median length."""
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

    def __getstate__(self) -> dict:
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
            if _checksum(block) != self.metadata["trace_crc32"][index]:
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


def _checksum(block: np.ndarray) -> str:
    return f"{zlib.crc32(block.data):08x}"


def _contradicts(channel: np.ndarray, is_live: bool) -> bool:
    """Check whether a stored channel (T,) disagrees with its live flag.

    A channel without a signal is constant; in archives of earlier versions zeros may follow.
    """
    samples = channel if is_live else np.trim_zeros(channel, "b")
    return bool(samples.size and live_channels(samples)) != is_live
