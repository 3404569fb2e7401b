"""What predict.py does: recordings in, a table of events out, which a kill does not harm and several processes can share."""

import glob
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import torch
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
from utils.files import Taken, take_lock
from utils.parallel import ahead, map_in_order

log = logging.getLogger(__name__)
EVENTS_PER_BATCH = 16
FEW_FILES = 32  # starting processes costs more than reading these


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
        tables = any(str(place).startswith(str(table.resolve())) for table in (self.out, self.sensors))
        drawn = self.plots is not None and self.plots.resolve() in place.parents
        return tables or drawn or (self.quakeml is not None and place == self.quakeml.resolve())


def predict_files(predictor: Predictor, paths: Sequence[str], outputs: Outputs, strict: bool) -> int:
    """Classify recordings, one event a file; return how many could not be used. With ``strict`` the first of these raises."""
    files = list_files(paths, outputs)
    groups = [files[i : i + EVENTS_PER_BATCH] for i in range(0, len(files), EVENTS_PER_BATCH)]
    with _Writer(predictor, outputs, [_key(file) for file in files]) as writer:
        # whole batches, so that a resumed run computes what the first would have
        todo = [group for group in groups if writer.mine() and not writer.done.issuperset(map(_key, group))]
        read = partial(_read, rate_hz=predictor.rate_hz, n_samples=predictor.n_samples, max_gap_s=predictor.config.max_gap_s)
        wanted = [file for group in todo for file in group]
        with closing(ahead(map_in_order(read, wanted, few=FEW_FILES), EVENTS_PER_BATCH)) as items:
            for group in tqdm(todo, desc="Predicting", unit="batch"):
                batch = [next(items) for _ in group]
                broken = next((item for item in batch if item.recording is None), None)
                if strict and broken:
                    raise UserError(f"{broken.file}: {broken.reason}")
                writer.write(predictor.classify(batch))
    return writer.finish()


def predict_continuous(predictor: Predictor, paths: Sequence[str], outputs: Outputs, strict: bool) -> int:
    """Find events in continuous recordings and classify them; return how many files could not be used. ``strict``: they raise."""
    config = predictor.config
    data = ContinuousData(list_files(paths, outputs))
    source = ", ".join(paths[:3])
    with _Writer(predictor, outputs) as writer:
        # of several processes each may be at another place: they begin at the beginning
        known = [] if writer.shared else sorted(_time_ns(key) for key in writer.done if key.endswith("Z"))
        chunks = find_events(data, config.trigger, config.chunk_s, predictor.pre_trigger_s, predictor.duration_s, predictor.rate_hz,
                             config.max_gap_s, known)  # fmt: skip
        for windows in ahead(chunks):
            items = [Item(time, source, w.recording, w.reason, time) for w in windows for time in [_utc(w.trigger_ns)]]
            for start in range(0, len(items), EVENTS_PER_BATCH):
                batch = items[start : start + EVENTS_PER_BATCH]
                if writer.mine() and not writer.done.issuperset(item.key for item in batch):
                    writer.write(predictor.classify(batch))
            if strict and data.unusable:
                break
        for path, reason in data.unusable.items():
            if strict:
                raise UserError(f"{path}: {reason}")
            if writer.mine() and _key(path) not in writer.done:
                writer.write(predictor.classify([Item(_key(path), str(path), None, reason)]))
    return writer.finish((data.start_ns, data.end_ns))


def list_files(paths: Sequence[str], outputs: Outputs) -> list[Path]:
    """List files and what folders hold, in order, none twice and none of the ``outputs``; raises ``UserError`` for missing ones."""
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (file for file in sorted(path.rglob("*")) if file.is_file())
            found = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]
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
        return Item(_key(path), str(path), replace(recording, waveforms=recording.waveforms[:, :n_samples].copy()))
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
    """Write what was classified: tables as it comes, and what needs all events at the end.

    Of several processes (torchrun) each writes tables of its own, which the first puts together at the end.
    """

    def __init__(self, predictor: Predictor, outputs: Outputs, order: Sequence[str] | None = None):
        self.predictor, self.outputs, self.order = predictor, outputs, order
        self.rank, self.world = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
        kinds = [(outputs.out, predictor.columns)]
        if outputs.per_sensor:
            kinds.append((outputs.sensors, predictor.sensor_columns))
        self.whole = [Table(path, columns, outputs.form) for path, columns in kinds]
        self.tables = self.whole
        if self.world > 1:
            self.tables = [Table(_part(table.path, self.rank), table.columns, table.form) for table in self.whole]
        self.shared = self.world > 1 or bool(_parts(self.whole[0]))
        self.done: set[str] = set()
        self.n_batches = self.n_written = self.n_resampled = 0

    def __enter__(self) -> "_Writer":
        path = self.tables[0].path
        try:
            self.lock = take_lock(path.with_name(f".{path.name}.lock"), wait=False)
        except Taken:
            raise UserError(f"{path}: another process is writing it; wait for it or choose another name") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        if self.world > 1:
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))  # processes end when they end
        if self.whole[0].path.exists() and not self.outputs.resume:
            self.whole[0].begin()  # says that it exists
        rows = [row for table in [self.whole[0], *_parts(self.whole[0])] if table.path.exists() for row in table.rows()]
        if rows and not self.outputs.resume:
            raise UserError(
                f"{self.outputs.out}: an interrupted run has left parts of it; go on by --resume, or remove {path.name}.part*"
            )
        self._require_same(rows)
        self.done = {_key_of(row) for row in rows}
        for table in self.tables:
            table.begin(self.outputs.resume, lambda row: _key_of(row) in self.done)
        self.started = time.monotonic()
        return self

    def _require_same(self, rows: list[dict]) -> None:
        """Refuse to go on with a table that another model, other settings or other flags began."""
        for column, mine, what in (
            ("model", self.predictor.fingerprint, "model"),
            ("settings", self.predictor.settings, "configuration"),
        ):
            others = {row[column] for row in rows} - {mine}
            if others:
                raise UserError(
                    f"{self.outputs.out}: was begun with another {what} ({', '.join(sorted(others))}); choose another name"
                )
        if rows and self.outputs.per_sensor and not any(t.path.exists() for t in [self.whole[1], *_parts(self.whole[1])]):
            raise UserError(f"{self.outputs.out}: was begun without --per-sensor; leave it out, or choose another name")

    def __exit__(self, *error) -> None:
        self.seconds = time.monotonic() - self.started
        self.lock.close()

    def mine(self) -> bool:
        """Deal out batches: tell whether the next one is this process's."""
        self.n_batches += 1
        return (self.n_batches - 1) % self.world == self.rank

    def write(self, classified: Sequence[Classified]) -> None:
        """Write a batch, but for the events that are there already; the row of the event last, as it says that all is done."""
        new = [event for event in classified if event.item.key not in self.done]
        if self.outputs.plots is not None:
            for event in new:
                if event.waveforms is not None:
                    plot_event(event, self.predictor, self.outputs.plots / f"{_file_name(event.item.key)}.png")
        for table in self.tables[1:]:
            table.write(row for event in new for row in event.sensor_rows)
        self.tables[0].write(event.row for event in new)
        self.n_written += len(new)
        self.n_resampled += sum(bool(event.item.recording and event.item.recording.n_resampled) for event in new)

    def finish(self, span_ns: tuple[int, int] | None = None) -> int:
        """Put tables together, write what needs all events, say what was found; return how many could not be used."""
        speed = f"{self.n_written} events in {self.seconds:.1f} s ({self.n_written / max(self.seconds, 1e-9):.1f} events/s)"
        if self.n_resampled:
            log.info("%d recordings had another sampling rate than the model and were resampled to %g Hz", self.n_resampled,
                     self.predictor.rate_hz)  # fmt: skip
        if self.world > 1:
            torch.distributed.barrier()
            if self.rank:
                return 0
        if _parts(self.whole[0]):
            self._merge()
        rows = self.whole[0].rows()
        if self.outputs.quakeml is not None:
            write_quakeml(rows, self.predictor, self.outputs.quakeml)
        if self.outputs.plots is not None and span_ns is not None:
            plot_timeline(rows, self.predictor.class_names, span_ns, self.outputs.plots / "timeline.png")
        classes = Counter(row["class"] for row in rows if row["class"])
        n_review, n_errors = sum(str(row["review"]) == "1" for row in rows), sum(bool(row["error"]) for row in rows)
        found = ", ".join(f"{n} {name}" for name, n in classes.most_common()) or "no events"
        log.info("%s; %s\n%d for review; %d without prediction. %s", speed, found, n_review, n_errors, self.outputs.out)
        return n_errors

    def _merge(self) -> None:
        """Put the parts into the whole tables, in order; a row that is in both (a kill came between) counts once."""
        places = None if self.order is None else {key: place for place, key in enumerate(self.order)}
        for table in reversed(self.whole):  # the table of events last: it says what is done
            parts = _parts(table)
            rows = [row for part in [table, *parts] if part.path.exists() for row in part.rows()]
            rows = list({(_key_of(row), row.get("channel")): row for row in reversed(rows)}.values())[::-1]
            rows.sort(
                key=lambda row: (
                    (not row["trigger_time"], _key_of(row)) if places is None else places.get(_key_of(row), len(places))
                )
            )
            merged = Table(table.path.with_name(f".{table.path.name}.merged"), table.columns, table.form)
            merged.path.unlink(missing_ok=True)
            merged.begin()
            merged.write(rows)
            os.replace(merged.path, table.path)
            for part in parts:
                part.path.unlink()


def _part(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.name}.part{rank}")


def _parts(table: Table) -> list[Table]:
    paths = sorted(table.path.parent.glob(f"{glob.escape(table.path.name)}.part*"))
    return [Table(path, table.columns, table.form) for path in paths]


def _file_name(key: str) -> str:
    """Make a file name of a path or a time."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in key).strip("._")[-150:]
