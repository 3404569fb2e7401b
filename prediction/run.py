"""Classify recordings into a table of events that grows row by row; a killed run can be resumed."""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from prediction.continuous import ContinuousData
from prediction.plots import plot_event, plot_timeline
from prediction.predictor import Classified, Item, Predictor
from prediction.quakeml import write_quakeml
from prediction.tables import Table
from prediction.trigger import find_events
from preprocessing.recordings import read_recording
from preprocessing.traces import RecordingError
from utils.errors import UserError
from utils.files import LockHeld, take_lock
from utils.parallel import ahead, map_in_order

log = logging.getLogger(__name__)
EVENTS_PER_BATCH = 16
MAX_SERIAL_FILES = 32  # starting processes costs more than reading these


@dataclass(frozen=True)
class Outputs:
    """Say what is written, besides the table of events ``out``; ``form`` is csv or json."""

    out: Path
    form: str = "csv"
    per_sensor: bool = False
    quakeml: Path | None = None
    plots: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be written, before anything is computed."""
        if self.plots is not None and self.plots.exists() and not self.plots.is_dir():
            raise UserError(f"--plots: {self.plots} is a file; give a folder")
        for path in (self.out, self.quakeml):
            if path is not None and path.is_dir():
                raise UserError(f"{path}: is a folder; give the name of a file")

    @property
    def sensors(self) -> Path:
        """Return the table of sensors."""
        return self.out.with_name(f"{self.out.stem}_sensors{self.out.suffix}")

    def holds(self, file: Path) -> bool:
        """Tell whether a file is one of the outputs, of this run or of one that was interrupted."""
        place = file.resolve()
        tables = any(
            str(place).startswith(str(table.resolve())) for table in (self.out, self.sensors)
        )
        drawn = self.plots is not None and self.plots.resolve() in place.parents
        return tables or drawn or (self.quakeml is not None and place == self.quakeml.resolve())


def predict_files(
    predictor: Predictor, paths: Sequence[str], outputs: Outputs, strict: bool
) -> int:
    """Classify recordings, one event a file; return how many could not be used. With ``strict`` the first of these raises."""
    files = list_files(paths, outputs)
    groups = [files[i : i + EVENTS_PER_BATCH] for i in range(0, len(files), EVENTS_PER_BATCH)]
    with _Writer(predictor, outputs) as writer:
        # whole batches, so that a resumed run computes what the first would have
        todo = [group for group in groups if not writer.done.issuperset(map(_key, group))]
        read = partial(
            _read,
            rate_hz=predictor.rate_hz,
            n_samples=predictor.n_samples,
            max_gap_s=predictor.config.max_gap_s,
        )
        wanted = [file for group in todo for file in group]
        recordings = map_in_order(read, wanted, max_serial=MAX_SERIAL_FILES)
        with closing(ahead(recordings, EVENTS_PER_BATCH)) as items:
            for group in tqdm(todo, desc="Predicting", unit="batch"):
                batch = [next(items) for _ in group]
                broken = next((item for item in batch if item.recording is None), None)
                if strict and broken:
                    raise UserError(f"{broken.file}: {broken.reason}")
                writer.write(predictor.classify(batch))
    return writer.finish()


def predict_continuous(
    predictor: Predictor, paths: Sequence[str], outputs: Outputs, strict: bool
) -> int:
    """Find events in continuous recordings and classify them; return how many files could not be used. ``strict``: they raise."""
    config = predictor.config
    data = ContinuousData(list_files(paths, outputs))
    source = ", ".join(paths[:3])
    with _Writer(predictor, outputs) as writer:
        known = sorted(_time_ns(key) for key in writer.done if key.endswith("Z"))
        chunks = find_events(
            data,
            config.trigger,
            config.chunk_s,
            predictor.pre_trigger_s,
            predictor.duration_s,
            predictor.rate_hz,
            config.max_gap_s,
            known,
        )
        for windows in ahead(chunks):
            items = [
                Item(time, source, w.recording, w.reason, time)
                for w in windows
                for time in [_utc(w.trigger_ns)]
            ]
            for start in range(0, len(items), EVENTS_PER_BATCH):
                batch = items[start : start + EVENTS_PER_BATCH]
                if not writer.done.issuperset(item.key for item in batch):
                    writer.write(predictor.classify(batch))
            if strict and data.unusable:
                break
        for path, reason in data.unusable.items():
            if strict:
                raise UserError(f"{path}: {reason}")
            if _key(path) not in writer.done:
                writer.write(predictor.classify([Item(_key(path), str(path), None, reason)]))
    return writer.finish((data.start_ns, data.end_ns))


def list_files(paths: Sequence[str], outputs: Outputs) -> list[Path]:
    """List files and what folders hold, in order, none twice and none of the ``outputs``; raises ``UserError`` for missing ones."""
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.is_file())
            found = [
                file
                for file in inside
                if not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
        elif path.is_file():
            found = [path]
        else:
            raise UserError(f"{path}: no such file or folder")
        for file in found:
            if not outputs.holds(file):
                files.setdefault(_key(file), file)
    if not files:
        raise UserError(f"{', '.join(paths)}: no recordings found")
    return list(files.values())


def _key(path: Path) -> str:
    """Identify a file, however its path is written."""
    return os.path.realpath(path)


def _key_of(row: dict) -> str:
    return row["trigger_time"] or _key(row["file"])


def _read(path: Path, rate_hz: float, n_samples: int, max_gap_s: float) -> Item:
    try:
        recording = read_recording(path, rate_hz, max_gap_s)
        # no more than is used: many of these wait in memory
        return Item(
            _key(path),
            str(path),
            replace(recording, waveforms=recording.waveforms[:, :n_samples].copy()),
        )
    except RecordingError as error:
        reason = str(error)
    except OSError as error:
        reason = str(error.strerror)
    return Item(_key(path), str(path), None, " ".join(reason.removeprefix(f"{path}: ").split()))


def _utc(time_ns: int) -> str:
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[us]')}Z"


def _time_ns(utc: str) -> int:
    return int(np.datetime64(utc[:-1], "ns").astype(np.int64))


class _Writer:
    """Write predictions: tables batch by batch, and at the end what needs all events."""

    def __init__(self, predictor: Predictor, outputs: Outputs):
        self.predictor, self.outputs = predictor, outputs
        self.tables = [Table(outputs.out, predictor.columns, outputs.form)]
        if outputs.per_sensor:
            self.tables.append(Table(outputs.sensors, predictor.sensor_columns, outputs.form))
        self.done: set[str] = set()
        self.n_written = self.n_resampled = 0

    def __enter__(self) -> "_Writer":
        path, resume = self.outputs.out, self.outputs.resume
        try:
            self.lock = take_lock(path.with_name(f".{path.name}.lock"), wait=False)
        except LockHeld:
            raise UserError(
                f"{path}: another process is writing it; wait for it or choose another name"
            ) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        rows = self.tables[0].rows() if resume and path.exists() else []
        self._require_same(rows)
        self.done = {_key_of(row) for row in rows}
        for table in self.tables:
            table.begin(resume, lambda row: _key_of(row) in self.done)
        self.started = time.monotonic()
        return self

    def _require_same(self, rows: list[dict]) -> None:
        """Refuse to go on with a table that another model, other settings or other flags began."""
        for column, own, what in (
            ("model", self.predictor.fingerprint, "model"),
            ("settings", self.predictor.settings, "configuration"),
        ):
            others = {row[column] for row in rows} - {own}
            if others:
                raise UserError(
                    f"{self.outputs.out}: was begun with another {what} ({', '.join(sorted(others))}); choose another name"
                )
        if rows and self.outputs.per_sensor and not self.outputs.sensors.exists():
            raise UserError(
                f"{self.outputs.out}: was begun without --per-sensor; leave it out, or choose another name"
            )

    def __exit__(self, *error) -> None:
        self.seconds = time.monotonic() - self.started
        self.lock.close()

    def write(self, classified: Sequence[Classified]) -> None:
        """Write a batch, but for the events that are there already; the row of the event last, as it says that all is done."""
        new = [event for event in classified if event.item.key not in self.done]
        if self.outputs.plots is not None:
            for event in new:
                if event.waveforms is not None:
                    plot_event(
                        event,
                        self.predictor,
                        self.outputs.plots / f"{_file_name(event.item.key)}.png",
                    )
        for table in self.tables[1:]:
            table.write(row for event in new for row in event.sensor_rows)
        self.tables[0].write(event.row for event in new)
        self.n_written += len(new)
        self.n_resampled += sum(
            bool(event.item.recording and event.item.recording.n_resampled) for event in new
        )

    def finish(self, span_ns: tuple[int, int] | None = None) -> int:
        """Write what needs all events, log a summary; return how many events could not be used."""
        speed = f"{self.n_written} events in {self.seconds:.1f} s ({self.n_written / max(self.seconds, 1e-9):.1f} events/s)"
        if self.n_resampled:
            log.info(
                "%d recordings had another sampling rate than the model and were resampled to %g Hz",
                self.n_resampled,
                self.predictor.rate_hz,
            )
        rows = self.tables[0].rows()
        if self.outputs.quakeml is not None:
            write_quakeml(rows, self.predictor, self.outputs.quakeml)
        if self.outputs.plots is not None and span_ns is not None:
            plot_timeline(
                rows, self.predictor.class_names, span_ns, self.outputs.plots / "timeline.png"
            )
        classes = Counter(row["class"] for row in rows if row["class"])
        n_review, n_errors = (
            sum(str(row["review"]) == "1" for row in rows),
            sum(bool(row["error"]) for row in rows),
        )
        found = ", ".join(f"{n} {name}" for name, n in classes.most_common()) or "no events"
        log.info(
            "%s; %s\n%d for review; %d without prediction. %s",
            speed,
            found,
            n_review,
            n_errors,
            self.outputs.out,
        )
        return n_errors


def _file_name(key: str) -> str:
    """Make a file name of a path or a time."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in key).strip("._")[-150:]
