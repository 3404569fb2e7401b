"""A SeisBench dataset as a source of events to pack; SeisBench itself is not needed."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from preprocessing.recording_folder import EventToPack, file_identity
from preprocessing.recordings import Recording, join_channels
from preprocessing.seisbench_tables import EventRows, TraceRow, chunk_files, list_event_rows
from preprocessing.traces import MAX_SAMPLES, RecordingError


@dataclass(frozen=True)
class SeisBenchDataset:
    """The events of a SeisBench dataset; the rows of one event become its channels.

    ``label_column`` and ``group_by`` are columns of its tables, see
    ``seisbench_tables.list_event_rows``.
    """

    root: Path
    label_column: str | None = None
    group_by: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The columns that decide what an event is."""
        return {"label_column": self.label_column, "group_by": self.group_by}

    def files(self) -> dict[str, Path]:
        """Return the files of all chunks by name."""
        return {path.name: path for pair in chunk_files(self.root) for path in pair}

    def list_events(self) -> list[EventToPack]:
        """List the events in the order of their first rows. Raises ``ArchiveError``."""
        return [
            EventToPack(event.name, event.label, event, event.columns)
            for event in list_event_rows(self.root, self.label_column, self.group_by)
        ]

    def common_rate_hz(self, events: Sequence[EventToPack]) -> float | None:
        """Return the most common sampling rate of the rows."""
        rates = Counter(row.rate_hz for event in events for row in event.place.rows)
        del rates[0.0]  # unknown
        return max(rates, key=lambda rate: (rates[rate], rate), default=None)

    def read(
        self, place: EventRows, sampling_rate_hz: float | None, max_gap_s: float
    ) -> tuple[Recording | str, dict[str, Any]]:
        """Read the rows of an event, or return the reason why they cannot be used.

        The dict has the checksum of the samples as they are in the dataset.
        """
        try:
            return _read_event(place, sampling_rate_hz, max_gap_s)
        except RecordingError as error:
            return str(error), {}

    def known_files(self, identities: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return size and time of each file; of tables, which are small, also the checksum."""
        return {name: _identity(path) for name, path in self.files().items()}


def _identity(path: Path) -> dict[str, Any]:
    if path.suffix == ".csv":
        return file_identity(path)
    stat = path.stat()
    return {"size_bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _read_event(
    event: EventRows, sampling_rate_hz: float | None, max_gap_s: float
) -> tuple[Recording, dict[str, Any]]:
    """Read all rows; return the event on the common time window of its channels, and a checksum."""
    if event.problem:
        raise RecordingError(event.problem)
    source = f"event {event.name}"
    starts = [bool(row.start_time) for row in event.rows]
    if len(starts) > 1 and any(starts) != all(starts):
        raise RecordingError(f"{source}: some of its rows have no trace_start_time")
    checksum, traces, n_samples = hashlib.sha256(), [], 0
    names: Counter[str] = Counter()
    with ExitStack() as stack:
        opened = {path: _open(stack, path) for path in {row.file for row in event.rows}}
        for row in event.rows:
            block = _read_row(opened[row.file], row, MAX_SAMPLES - n_samples)
            n_samples += block.size
            checksum.update(np.ascontiguousarray(block).tobytes())
            traces += _traces(row, block, names)
    recording = join_channels(source, traces, sampling_rate_hz, max_gap_s, MAX_SAMPLES)
    recording = replace(recording, onset_s=_onset_s(event.rows, recording.start_time))
    if not any(starts):  # unknown, not 1970
        recording = replace(recording, start_time="")
    return recording, {"sha256": checksum.hexdigest()}


def _onset_s(rows: Sequence[TraceRow], start_time: str) -> float | None:
    """Return the earliest P arrival of the rows in s after ``start_time``; None without one."""
    import obspy

    arrivals = [
        obspy.UTCDateTime(row.start_time or 0) + row.arrival_sample / row.rate_hz
        for row in rows
        if row.arrival_sample is not None
    ]
    return min(arrivals) - obspy.UTCDateTime(start_time) if arrivals else None


def _open(stack: ExitStack, path: Path) -> h5py.File:
    try:
        return stack.enter_context(h5py.File(path, "r"))
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from error


def _read_row(file: h5py.File, row: TraceRow, max_samples: int) -> np.ndarray:
    """Return the array of a row as (C, W). Raises ``RecordingError``."""
    array, _, place = row.name.partition("$")
    where = f"{row.file}, trace {row.name}"
    try:
        stored = file["data"][array]
        selection = _selection(place, stored.shape)
        shape = [len(range(*part.indices(n))) for part, n in zip(selection, stored.shape)]
        if np.prod(shape, dtype=np.int64) > max_samples:
            raise RecordingError(f"{where}: too long; at most {MAX_SAMPLES} samples of an event")
        block = stored[selection]
    except RecordingError:
        raise
    except Exception as error:  # HDF5 raises many kinds of errors for damaged files
        raise RecordingError(f"{where}: cannot be read ({error})") from error
    if block.ndim == 3 and block.shape[0] == 1:
        block = block[0]  # one row of a bucket
    if block.ndim == 1:
        block = block[None]
    elif row.dimensions == "WC":
        block = block.T
    if block.ndim != 2 or block.dtype.kind not in "iuf" or not block.size:
        raise RecordingError(
            f"{where}: is {block.dtype} of shape {block.shape}; expected numbers of "
            f"(components, samples), order {row.dimensions}"
        )
    if row.components and len(row.components) != len(block):
        raise RecordingError(
            f"{where}: has {len(block)} components, but its component order is "
            f"{''.join(row.components)}"
        )
    if row.rate_hz <= 0:
        raise RecordingError(
            f"{where}: neither trace_sampling_rate_hz nor trace_dt_s nor the file say its "
            "sampling rate"
        )
    return block


def _selection(place: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Parse the place of a row in its array: ``3,:3,:6000`` is array[3, :3, :6000].

    An index becomes a slice of length one. An empty place is the whole array.
    """
    parts = [part.strip() for part in place.split(",")] if place else []
    if len(parts) > len(shape):
        raise ValueError(f"{place}: an array of {len(shape)} dimensions")
    selection = []
    for part, n in zip(parts, shape):
        numbers = [int(number) if number.strip() else None for number in part.split(":")]
        if len(numbers) == 1 and numbers[0] is not None:
            index = range(n)[numbers[0]]
            selection.append(slice(index, index + 1))
        else:
            selection.append(slice(*slice(*numbers).indices(n)))
    return (*selection, *(slice(0, n) for n in shape[len(parts) :]))


def _traces(row: TraceRow, block: np.ndarray, names: Counter[str]) -> list[Any]:
    """Return the components of a row as ObsPy traces, with their station's codes.

    Rows that share their codes are different sensors; their channels get a number.
    """
    import obspy

    network, station, location, band = row.codes
    try:
        start = obspy.UTCDateTime(row.start_time or 0)
    except Exception as error:  # UTCDateTime raises many kinds of errors
        raise RecordingError(
            f"{row.file}, trace {row.name}: trace_start_time {row.start_time!r} is not a time"
        ) from error
    traces = []
    for component, samples in zip(row.components or [""] * len(block), block):
        header = {"sampling_rate": row.rate_hz, "starttime": start}
        if station:
            channel = band if len(band) > 2 and band.endswith(component) else band + component
            name = f"{network}.{station}.{location}.{channel}"
            names[name] += 1
            number = f" #{names[name]}" if names[name] > 1 else ""
            header |= {"network": network, "station": station, "location": location}
            header |= {"channel": channel + number}
        traces.append(obspy.Trace(np.ascontiguousarray(samples), header))
    return traces
