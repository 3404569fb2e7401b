"""Write an event archive: all of it, or nothing."""

import csv
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from preprocessing.channels import LARGEST_SAMPLE, SAME_RATE, fit_length
from preprocessing.event_archive import METADATA, WAVEFORMS, ArchiveError, checksum, component_order
from preprocessing.levels import COLUMNS, level_cells, measure
from preprocessing.seisbench_view import write_seisbench_view
from utils.files import ErrorKeepingFile, lock_of


def one_process_at_a_time(archive_dir: Path) -> AbstractContextManager[Any]:
    """Return a context manager that holds the lock of an archive; it waits for other processes."""
    return lock_of(archive_dir.with_name(archive_dir.name + ".lock"))


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
        self._rows: list[dict[str, Any]] = []
        self._onsets_s: dict[str, float] = {}  # of events whose source says it

    def __enter__(self) -> "ArchiveWriter":
        _require_replaceable(self.archive_dir)
        shutil.rmtree(self.partial, ignore_errors=True)
        with self._naming_the_folder():
            self.partial.mkdir(parents=True)
            self._written = ErrorKeepingFile(self.partial / WAVEFORMS)
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
            if self._written.first_error:
                raise self._written.first_error
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
        onset_s: float | None = None,
        **columns: str,
    ) -> None:
        """Write one event: waveforms (S, T) in recorder units, start time in UTC (ISO 8601).

        ``onset_s`` is where the event begins; None, or outside the waveforms: found in them.
        Further ``columns`` are added to the metadata. Raises ``ArchiveError`` for a name that is
        already used, samples that are not finite or too large, a different sampling rate, and an
        event in which no channel has a signal.
        """
        if name in self._data:
            raise ArchiveError(f"event {name}: another event has the same name")
        if onset_s is not None:
            self._onsets_s[name] = onset_s
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

    def _store(self, name: str, waveforms: np.ndarray, n_samples: int) -> dict[str, Any]:
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
        assert self.sampling_rate_hz is not None  # ``add`` has set it
        levels = measure(block, self.sampling_rate_hz)
        if 0 <= self._onsets_s.get(name, -1) < n_samples / self.sampling_rate_hz:
            levels = levels._replace(onset_s=self._onsets_s[name])
        return {
            "trace_npts": n_samples,
            "trace_component_order": component_order(len(block)),
            "trace_live_channels": flags,
            "trace_crc32": checksum(block),
            **level_cells(levels),
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

    def __exit__(self, error_type: Any, error: Any, traceback: Any) -> None:
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
        write_seisbench_view(self.partial, self._rows, WAVEFORMS, layout)
        for key, value in layout.items():
            self._file[f"data_format/{key}"] = value
        self._file.close()
        self._written.close()
        if self._written.first_error:
            raise self._written.first_error
        with open(self.partial / METADATA, "w", newline="", encoding="utf-8") as file:
            columns = dict.fromkeys(key for row in self._rows for key in row)
            others = [name for name in columns if name not in COLUMNS]
            table = csv.DictWriter(file, [*others, *COLUMNS])
            table.writeheader()
            table.writerows(self._rows)
        for path in self.partial.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(self.archive_dir, ignore_errors=True)
        os.replace(self.partial, self.archive_dir)
