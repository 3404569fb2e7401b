"""Follow an SDS archive while data arrive: find events, classify them, tell the operator.

The archive is searched in order of time. A time is searched as soon as all channels have recorded
it, or after ``follow.latency_s``. Data that arrive later are searched again, when no more of them
come.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from prediction.classifier import EVENTS_PER_BATCH, Classifier
from prediction.continuous.miniseed import NS
from prediction.continuous.trigger import MIN_WINDOW_FRACTION, time_ns, utc
from prediction.events import EventWindow
from prediction.monitoring.alarms import Alarms
from prediction.monitoring.coverage import Coverage
from prediction.monitoring.growing_archive import GrowingArchive
from prediction.outputs import EventWriter
from utils.errors import UserError
from utils.files import atomic

log = logging.getLogger(__name__)
POLL_S = 0.5
LEAST_STEP_NS = NS  # shorter pieces are not worth the reading
REPORT_S = 60.0  # between two lines in the log, or two catalogues
LATE_PATIENCE = 10  # if late data do not stop arriving, search after this many latencies
CLOCK_NS = 60 * NS  # data more than this after now have a wrong time


@dataclass
class FollowState:
    """Up to when an archive has been searched, and what is left to do.

    ``until_ns``: every trigger before it is decided; None before the first search. ``n_announced``:
    rows of the table whose command has been run. ``late``: spans in ns, before ``until_ns``, with
    late data that are to be searched once more. ``sizes``: how many bytes of each file were
    indexed; None: no file was looked at yet.
    """

    until_ns: int | None = None
    n_announced: int = 0
    late: list[tuple[int, int]] = field(default_factory=list)
    sizes: dict[str, int] | None = None

    def text(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))


def save_state(path: Path, text: str) -> None:
    """Write ``FollowState.text`` in one step."""
    with atomic(path) as partial:
        partial.write_text(text, encoding="utf-8")


def load_state(path: Path) -> FollowState:
    """Read a state; a new one if there is none. Raises ``UserError`` for a damaged file."""
    if not path.exists():
        return FollowState()
    try:
        state = FollowState(**json.loads(path.read_text(encoding="utf-8")))
        state.late = [(int(start), int(end)) for start, end in state.late]
        return state
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be understood ({error}); remove it, and begin again by --from"
        ) from error


def state_path(table: Path) -> Path:
    """Return where the state of the follower that writes ``table`` is kept."""
    return table.with_name(f".{table.name}.follow.json")


class Follower:
    """Search an archive piece by piece; ``state`` says where an earlier process has stopped."""

    def __init__(
        self,
        classifier: Classifier,
        archive: GrowingArchive,
        writer: EventWriter,
        alarms: Alarms,
        state: FollowState,
        source: str,
    ):
        self.classifier, self.archive, self.writer = classifier, archive, writer
        self.alarms, self.state, self.source = alarms, state, source
        known = sorted(map(time_ns, writer.trigger_times))
        self.finder = classifier.finder(archive, source, known)
        self.coverage = Coverage()
        self.silent, self.later_than_clock = set[str](), set[str]()
        self.latency_ns = int(classifier.config.follow.latency_s * NS)
        self.last_arrival = self.first_late = self.last_late = time.monotonic()
        self.next_report = self.next_catalogue = time.monotonic() + REPORT_S
        self.n_before, self.saved, self.n_in_catalogue = state.n_announced, "", 0

    def begin(self, from_ns: int | None) -> None:
        """Look at what is there, and decide where to begin: by the state, ``from_ns``, or now."""
        known = self.finder.known
        start_ns = self.state.until_ns
        if start_ns is None:
            start_ns = from_ns
        if start_ns is None and known:
            start_ns = known[-1]
        if start_ns is None:  # the newest times, for which late data are still waited for
            newest_ns = min(self.archive.end_ns, time.time_ns())
            start_ns = newest_ns - self.latency_ns - self.finder.after_ns
            self.archive.files.clear()  # or what is there would not count as arrived
        self.state.until_ns = start_ns
        self._look()
        # written just before a kill: their command may not have been run
        events = self.writer.table.events()
        self.n_before = min(self.n_before, len(events))
        for event in events[self.n_before :]:
            self.alarms.announce(event)
        self.save()
        log.info("Following %s from %s on", self.source, utc(start_ns))

    def run(self, to_ns: int | None = None) -> None:
        """Go on until ``to_ns`` and no late data are left, or until a signal stops the process."""
        while to_ns is None or self.until_ns < to_ns or self.state.late:
            if not self.step(to_ns):
                time.sleep(POLL_S)

    @property
    def until_ns(self) -> int:
        """Return up to when the archive has been searched."""
        assert self.state.until_ns is not None, "call begin first"
        return self.state.until_ns

    def step(self, to_ns: int | None = None) -> bool:
        """Look for new data and search what has become complete; return whether there was any."""
        self._look()
        end_ns = min(self._ready_ns(), self.until_ns + int(self.classifier.config.chunk_s * NS))
        if to_ns is not None:
            end_ns = min(end_ns, to_ns)
        length_ns = end_ns - self.until_ns
        searched = length_ns >= LEAST_STEP_NS or (length_ns > 0 and end_ns == to_ns)
        if searched:
            self._search(self.until_ns, end_ns)
            self.state.until_ns = end_ns
        self._search_late()
        self._report()
        self._write_catalogues()
        self.save()
        return searched

    def save(self) -> None:
        """Save the state if it has changed."""
        self.state.n_announced = self.n_before + self.alarms.n_done
        self.state.sizes = self.archive.sizes()
        text = self.state.text()
        if text != self.saved:
            save_state(state_path(self.writer.outputs.out), text)
            self.saved = text

    def _look(self) -> None:
        """Take note of data that have arrived; remember those that are late."""
        arrivals = self.archive.update(self.until_ns)
        self.coverage.add(arrivals, self.until_ns, time.time_ns() + CLOCK_NS)
        if arrivals:
            self.last_arrival = time.monotonic()
        trigger = self.finder.trigger
        before_ns = int(trigger.within_s * NS)
        decided_ns = self.until_ns + self.finder.after_ns
        for arrival in arrivals:
            late = arrival.is_new & (arrival.start_ns < decided_ns)
            if late.any():
                start_ns = int(arrival.start_ns[late].min()) - before_ns
                end_ns = int(arrival.end_ns[late].max()) + self._after_late_ns
                self._remember_late(start_ns, min(end_ns, self.until_ns))

    def _remember_late(self, start_ns: int, end_ns: int) -> None:
        """Add a span to those that are to be searched again; spans that touch become one."""
        if start_ns >= end_ns:
            return
        self.last_late = time.monotonic()
        if not self.state.late:
            self.first_late = self.last_late
        spans = sorted([*self.state.late, (start_ns, end_ns)])
        self.state.late = spans[:1]
        for start, end in spans[1:]:
            last_start, last_end = self.state.late[-1]
            if start <= last_end:
                self.state.late[-1] = (last_start, max(last_end, end))
            else:
                self.state.late.append((start, end))

    def _search_late(self) -> None:
        """Search late data once more, when no more of them arrive or that takes too long.

        While they go on arriving, the newest of them are left for the next time: they may be out of
        order, and the windows of their events are not complete.
        """
        ended = self._waited(self.last_late)
        if not self.state.late or not (ended or self._waited(self.first_late, LATE_PATIENCE)):
            return
        left_ns = self._after_late_ns + self.finder.after_ns + self.latency_ns
        left = []
        for start_ns, end_ns in self.state.late:
            begin_left_ns = end_ns if ended else max(start_ns, end_ns - left_ns)
            log.info("Late data: searching %s to %s again", utc(start_ns), utc(begin_left_ns))
            self._search(start_ns, begin_left_ns)
            left.append((begin_left_ns, end_ns))
        self.state.late = [] if ended else left
        self.first_late = time.monotonic()

    @property
    def _after_late_ns(self) -> int:
        """Return for how long a sample influences the trigger."""
        trigger = self.finder.trigger
        return int((trigger.sta_s + trigger.lta_s + trigger.within_s) * NS)

    def _waited(self, since: float, n_latencies: int = 1) -> bool:
        return time.monotonic() - since > n_latencies * self.latency_ns / NS

    def _ready_ns(self) -> int:
        """Return the time up to which the data suffice to search for triggers."""
        newest_ns = self.coverage.newest_ns()
        if newest_ns is None:
            return self.until_ns
        after_ns = self.finder.after_ns
        if self._waited(self.last_arrival):  # the whole network is silent: take what there is
            finder = self.finder
            needed_s = MIN_WINDOW_FRACTION * finder.duration_s - finder.pre_trigger_s
            return newest_ns - int(max(needed_s, 3 * finder.trigger.within_s) * NS)
        horizon_ns = max(newest_ns - self.latency_ns, self.until_ns + after_ns)
        complete_ns = self.coverage.complete_ns(horizon_ns)
        return self.until_ns if complete_ns is None else complete_ns - after_ns

    def _search(self, start_ns: int, end_ns: int) -> None:
        """Find the events between two times, write their rows and start their commands."""
        chunk_ns = int(self.classifier.config.chunk_s * NS)
        for first_ns in range(start_ns, end_ns, chunk_ns):
            windows = self.finder.search(first_ns, min(first_ns + chunk_ns, end_ns))
            for first in range(0, len(windows), EVENTS_PER_BATCH):
                self._write(windows[first : first + EVENTS_PER_BATCH])

    def _write(self, windows: list[EventWindow]) -> None:
        """Classify events, write their rows and start their commands."""
        classified = self.classifier.predictor.classify(windows)
        self.writer.write(classified)
        for each in classified:
            event = each.event
            said = event.error or f"{event.class_name} {event.confidence:.2f}"
            log.info("%s: %s%s", event.trigger_time, said, ", for review" * event.review)
            self.alarms.announce(event)

    def _write_catalogues(self) -> None:
        """Write the catalogues anew if there are new events, at most once a minute.

        Large ones take long, and are written less often.
        """
        started = time.monotonic()
        if started < self.next_catalogue or self.writer.n_written == self.n_in_catalogue:
            return
        self.writer.write_catalogues()
        self.n_in_catalogue = self.writer.n_written
        self.next_catalogue = started + max(REPORT_S, 20 * (time.monotonic() - started))

    def _report(self) -> None:
        """Say which stations fall silent or come back, and once a minute how late the data are."""
        newest_ns = self.coverage.newest_ns()
        if newest_ns is None:
            return
        silent = set(self.coverage.silent(newest_ns - self.latency_ns))
        _log_changes("silent, no longer waited for", silent - self.silent)
        _log_changes("here again", self.silent - silent)
        _log_changes(
            "data later than this computer's clock, not waited for",
            self.coverage.later_than_clock - self.later_than_clock,
        )
        self.silent, self.later_than_clock = silent, set(self.coverage.later_than_clock)
        if time.monotonic() < self.next_report:
            return
        self.next_report = time.monotonic() + REPORT_S
        n_channels = len(self.coverage.segments)
        log.info(
            "searched to %s; newest data %s, %.1f s behind the clock; %d of %d channels; %d events",
            utc(self.until_ns),
            utc(newest_ns),
            (time.time_ns() - newest_ns) / NS,
            n_channels - len(silent),
            n_channels,
            len(self.finder.known),
        )


def _log_changes(what: str, channels: set[str]) -> None:
    if channels:
        log.warning("%s: %s", what, ", ".join(sorted(channels)))
