"""The files that predict.py writes: tables row by row, pictures, catalogues, probabilities."""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from prediction.catalogue import write_catalogue
from prediction.event_sheet import plot_event
from prediction.events import columns, sensor_columns
from prediction.predictor import Classified, Predictor
from prediction.reading import file_key
from prediction.tables import Table
from prediction.timeline import plot_timeline
from utils.errors import UserError
from utils.files import LockHeld, take_lock, write_atomically

log = logging.getLogger(__name__)
TIMELINE = "timeline.png"


@dataclass(frozen=True)
class Outputs:
    """Files to write: the table of events ``out`` in ``form`` csv or json, and optional ones."""

    out: Path
    form: str = "csv"
    per_sensor: bool = False
    quakeml: Path | None = None
    scml: Path | None = None
    plots: Path | None = None
    annotate: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse paths that cannot be written, before anything is computed."""
        if self.plots is not None and self.plots.exists() and not self.plots.is_dir():
            raise UserError(f"--plots: {self.plots} is a file; give a folder")
        for path in (self.out, self.quakeml, self.scml, self.annotate):
            if path is not None and path.is_dir():
                raise UserError(f"{path}: is a folder; give the name of a file")

    @property
    def sensors(self) -> Path:
        """Path of the table with one row per sensor."""
        return self.out.with_name(f"{self.out.stem}_sensors{self.out.suffix}")

    def holds(self, file: Path) -> bool:
        """Tell whether a file is an output of this run or of an interrupted one."""
        place = file.resolve()
        drawn = self.plots is not None and self.plots.resolve() == place.parent
        written = (self.out, self.sensors, self.quakeml, self.scml, self.annotate)
        return (drawn and place.suffix == ".png") or place in [
            path.resolve() for path in written if path is not None
        ]


def row_key(row: dict) -> str:
    """Identify the event of a row: by its trigger time, or else by its file."""
    return row["trigger_time"] or file_key(row["file"])


class EventWriter:
    """Write predictions: tables and pictures batch by batch, catalogues and timeline at the end."""

    def __init__(self, predictor: Predictor, outputs: Outputs):
        self.predictor, self.outputs = predictor, outputs
        self.tables = [Table(outputs.out, columns(predictor.class_names), outputs.form)]
        if outputs.per_sensor:
            of_sensors = sensor_columns(predictor.class_names)
            self.tables.append(Table(outputs.sensors, of_sensors, outputs.form))
        self.done: set[str] = set()
        self.trigger_times: list[str] = []  # of the rows that a resumed table has
        self.n_written = self.n_resampled = self.n_left_out = self.n_not_drawn = 0

    def __enter__(self) -> "EventWriter":
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
        self.done = {row_key(row) for row in rows}
        self.trigger_times = [row["trigger_time"] for row in rows if row["trigger_time"]]
        for table in self.tables:
            table.begin(resume, lambda row: row_key(row) in self.done)
        self.started = time.monotonic()
        return self

    def _require_same(self, rows: list[dict]) -> None:
        """Refuse to resume a table of another model, configuration or other flags."""
        for column, own, what in (
            ("model", self.predictor.fingerprint, "model"),
            ("settings", self.predictor.settings, "configuration"),
        ):
            others = {row[column] for row in rows} - {own}
            if others:
                raise UserError(
                    f"{self.outputs.out}: was begun with another {what} "
                    f"({', '.join(sorted(others))}); choose another name"
                )
        if rows and self.outputs.per_sensor and not self.outputs.sensors.exists():
            raise UserError(
                f"{self.outputs.out}: was begun without --per-sensor; leave it out, "
                "or choose another name"
            )

    def __exit__(self, *error) -> None:
        self.seconds = time.monotonic() - self.started
        self.lock.close()

    def write(self, classified: Sequence[Classified]) -> None:
        """Write a batch, without events that are in the table already.

        The row of an event is written last: an event in the table is complete.
        """
        new = [event for event in classified if event.item.key not in self.done]
        if self.outputs.plots is not None:
            self._draw([event for event in new if event.waveforms.size], self.outputs.plots)
        for table in self.tables[1:]:
            table.write(row for event in new for row in event.event.sensor_rows())
        self.tables[0].write(event.event.row() for event in new)
        self.done.update(event.item.key for event in new)
        self.n_written += len(new)
        self.n_resampled += sum(
            bool(event.item.recording and event.item.recording.n_resampled) for event in new
        )
        self.n_left_out += sum(
            bool(event.item.recording and event.item.recording.left_out) for event in new
        )

    def write_catalogues(self, rows: list[dict] | None = None) -> None:
        """Write the events of the table as QuakeML and SeisComP's XML, where asked for."""
        for path, form in ((self.outputs.quakeml, "QUAKEML"), (self.outputs.scml, "SCML")):
            if path is not None:
                rows = self.tables[0].rows() if rows is None else rows
                names, config = self.predictor.class_names, self.predictor.config
                write_catalogue(rows, names, config, path, form)

    def _draw(self, events: Sequence[Classified], folder: Path) -> None:
        """Draw events until there are ``max_plots`` pictures."""
        n_drawn = sum(path.name != TIMELINE for path in folder.glob("*.png"))
        limit = self.predictor.config.max_plots
        n_left = len(events) if limit is None else max(0, limit - n_drawn)
        for event in events[:n_left]:
            plot_event(event, self.predictor, folder / f"{_file_name(event.item.key)}.png")
        self.n_not_drawn += len(events[n_left:])

    def finish(self, covered_ns: ArrayLike | None = None, probabilities: Any = None) -> int:
        """Write catalogues and timeline, log a summary; return the number of unusable events.

        ``covered_ns`` has the times of the recordings, for the timeline; ``probabilities`` over
        time are drawn in it, and written if that is asked for.
        """
        self._log_what_differs()
        rows = self.tables[0].rows()
        self.write_catalogues(rows)
        if self.outputs.plots is not None and covered_ns is not None:
            path = self.outputs.plots / TIMELINE
            plot_timeline(rows, self.predictor.class_names, covered_ns, path, probabilities)
        if self.outputs.annotate is not None:
            _write_probabilities(probabilities, self.outputs.annotate)
        return self._log_summary(rows)

    def _log_what_differs(self) -> None:
        """Log what was done to recordings unlike those of the training, and what was not drawn."""
        if self.n_resampled:
            log.info(
                "%d recordings had another sampling rate and were resampled to %g Hz of the model",
                self.n_resampled,
                self.predictor.rate_hz,
            )
        if self.n_left_out:
            log.info(
                "In %d recordings channels were left out; the column left_out names them and says "
                "why",
                self.n_left_out,
            )
        if self.n_not_drawn:
            log.info(
                "%d events have no picture: %s holds as many as max_plots (%s); null draws all",
                self.n_not_drawn,
                self.outputs.plots,
                self.predictor.config.max_plots,
            )

    def _log_summary(self, rows: Sequence[Mapping]) -> int:
        """Log how many events there are of each class; return the number of unusable ones."""
        classes = Counter(row["class"] for row in rows if row["class"])
        n_review = sum(str(row["review"]) == "1" for row in rows)
        n_errors = sum(bool(row["error"]) for row in rows)
        found = ", ".join(f"{n} {name}" for name, n in classes.most_common()) or "no events"
        log.info(
            "%d events in %.1f s (%.1f events/s); %s\n%d for review; %d without prediction. %s",
            self.n_written,
            self.seconds,
            self.n_written / max(self.seconds, 1e-9),
            found,
            n_review,
            n_errors,
            self.outputs.out,
        )
        return n_errors


def _write_probabilities(probabilities: Any, path: Path) -> None:
    """Write the probability traces as miniSEED; gaps stay gaps."""
    if not probabilities:
        raise UserError(f"{path}: not written; the recordings are shorter than the model's window")
    codes = (f"{trace.stats.channel} {trace.stats.class_name}" for trace in probabilities)
    write_atomically(
        path, lambda partial: probabilities.split().write(str(partial), format="MSEED")
    )
    log.info(
        "%s: probabilities every %g s: %s", path, probabilities[0].stats.delta, ", ".join(codes)
    )


def _file_name(key: str) -> str:
    """Turn a path or a time into a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in key).strip("._")[-150:]
