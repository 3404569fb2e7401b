"""The files that predict.py writes: tables row by row, pictures, catalogues, probabilities."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout
from numpy.typing import ArrayLike

from prediction.arguments import Outputs
from prediction.catalogue import write_catalogue
from prediction.events import Event
from prediction.predictor import Classified, Predictor
from prediction.tables import EventTable, SensorTable
from utils.errors import UserError
from utils.files import atomic, file_name, lock_of

log = logging.getLogger(__name__)
TIMELINE = "timeline.png"


class EventWriter:
    """Write predictions: tables and pictures batch by batch, catalogues and timeline at the end."""

    def __init__(self, predictor: Predictor, outputs: Outputs):
        self.predictor, self.outputs = predictor, outputs
        self.table = EventTable(outputs.out, predictor.class_names, outputs.format)
        self.sensors: SensorTable | None = None
        if outputs.per_sensor:
            self.sensors = SensorTable(outputs.sensors, predictor.class_names, outputs.format)
        self.done: set[str] = set()
        self.trigger_times: list[str] = []  # of the events that a resumed table has
        self.n_written = self.n_resampled = self.n_left_out = self.n_not_drawn = 0

    def __enter__(self) -> "EventWriter":
        path, resume = self.outputs.out, self.outputs.resume
        try:
            self.lock = lock_of(path.with_name(f".{path.name}.lock"))
            self.lock.acquire(blocking=False)
        except Timeout:
            raise UserError(
                f"{path}: another process is writing it; wait for it or choose another name"
            ) from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        events = self.table.events() if resume and path.exists() else []
        self._require_same(events)
        self.done = {event.key for event in events}
        self.trigger_times = [event.trigger_time for event in events if event.trigger_time]
        self.table.begin(resume)
        if self.sensors is not None:
            self.sensors.begin_with(self.done, resume)
        self.started = time.monotonic()
        return self

    def _require_same(self, events: Sequence[Event]) -> None:
        """Refuse to resume a table of another model, configuration or other flags."""
        for found, own, what in (
            ({event.model for event in events}, self.predictor.fingerprint, "model"),
            ({event.settings for event in events}, self.predictor.settings, "configuration"),
        ):
            others = found - {own}
            if others:
                raise UserError(
                    f"{self.outputs.out}: was begun with another {what} "
                    f"({', '.join(sorted(others))}); choose another name"
                )
        if events and self.outputs.per_sensor and not self.outputs.sensors.exists():
            raise UserError(
                f"{self.outputs.out}: was begun without --per-sensor; leave it out, "
                "or choose another name"
            )

    def __exit__(self, *error: Any) -> None:
        self.seconds = time.monotonic() - self.started
        self.lock.release()

    def write(self, classified: Sequence[Classified]) -> None:
        """Write a batch, without events that are in the table already.

        The row of an event is written last: an event in the table is complete.
        """
        new = [each for each in classified if each.event.key not in self.done]
        if self.outputs.plots is not None:
            self._draw([each for each in new if each.waveforms.size], self.outputs.plots)
        events = [each.event for each in new]
        if self.sensors is not None:
            self.sensors.add(events)
        self.table.add(events)
        self.done.update(event.key for event in events)
        self.n_written += len(new)
        recordings = [each.window.recording for each in new if each.window.recording]
        self.n_resampled += sum(recording.n_resampled > 0 for recording in recordings)
        self.n_left_out += sum(bool(recording.left_out) for recording in recordings)

    def write_catalogues(self, events: Sequence[Event] | None = None) -> None:
        """Write the events of the table as QuakeML and SeisComP's XML, where asked for."""
        for path, form in ((self.outputs.quakeml, "QUAKEML"), (self.outputs.scml, "SCML")):
            if path is not None:
                events = self.table.events() if events is None else events
                write_catalogue(events, self.predictor.config, path, form)

    def _draw(self, events: Sequence[Classified], folder: Path) -> None:
        """Draw events until there are ``max_plots`` pictures."""
        from prediction.event_sheet import plot_event

        n_drawn = sum(path.name != TIMELINE for path in folder.glob("*.png"))
        limit = self.predictor.config.max_plots
        n_left = len(events) if limit is None else max(0, limit - n_drawn)
        for event in events[:n_left]:
            plot_event(event, self.predictor, folder / f"{file_name(event.event.key)}.png")
        self.n_not_drawn += len(events[n_left:])

    def finish(self, covered_ns: ArrayLike | None = None, probabilities: Any = None) -> int:
        """Write catalogues and timeline, log a summary; return the number of unusable events.

        ``covered_ns`` has the times of the recordings, for the timeline; ``probabilities`` over
        time are drawn in it, and written if that is asked for.
        """
        self._log_what_differs()
        events = self.table.events()
        self.write_catalogues(events)
        if self.outputs.plots is not None and covered_ns is not None:
            from prediction.timeline import plot_timeline

            path = self.outputs.plots / TIMELINE
            plot_timeline(events, self.predictor.class_names, covered_ns, path, probabilities)
        if self.outputs.annotate is not None:
            _write_probabilities(probabilities, self.outputs.annotate)
        return self._log_summary(events)

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

    def _log_summary(self, events: Sequence[Event]) -> int:
        """Log how many events there are of each class; return the number of unusable ones."""
        classes = Counter(event.class_name for event in events if event.class_name)
        n_review = sum(event.review for event in events)
        n_errors = sum(bool(event.error) for event in events)
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
    with atomic(path) as partial:
        probabilities.split().write(str(partial), format="MSEED")
    log.info(
        "%s: probabilities every %g s: %s", path, probabilities[0].stats.delta, ", ".join(codes)
    )
