"""Events before and after their classification; the fields of an ``Event`` are a table's columns.

Does not import PyTorch: the processes that read files would each spend seconds on that.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocessing.recordings import Recording, read_recording
from preprocessing.traces import RecordingError

if TYPE_CHECKING:
    from obspy import UTCDateTime

TIME_COLUMNS = ("file", "start_time", "trigger_time")
BETWEEN_REASONS = "; "


def event_key(file: str | Path, trigger_time: str = "") -> str:
    """Identify an event: by the time of its trigger, or else by its file, with links resolved."""
    return trigger_time or os.path.realpath(file)


@dataclass(frozen=True)
class EventWindow:
    """The recording of one event to classify, or the reason why there is none.

    ``trigger_time`` is UTC in ISO 8601, empty for a file that holds one event. ``picks`` has, of
    each station that has triggered, the first channel and its seconds after the trigger.
    """

    file: str
    recording: Recording | None
    reason: str = ""
    trigger_time: str = ""
    picks: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What identifies the event, see ``event_key``."""
        return event_key(self.file, self.trigger_time)


def read_event(path: Path, rate_hz: float, n_samples: int, max_gap_s: float) -> EventWindow:
    """Read a file that holds one event, resampled to ``rate_hz`` and cut to ``n_samples``."""
    try:
        recording = read_recording(path, rate_hz, max_gap_s)
        # cut here, because many recordings wait in memory
        cut = replace(recording, waveforms=recording.waveforms[:, :n_samples].copy())
        return EventWindow(str(path), cut)
    except RecordingError as error:
        reason = str(error)
    except OSError as error:
        reason = str(error.strerror)
    return EventWindow(str(path), None, " ".join(reason.removeprefix(f"{path}: ").split()))


@dataclass(frozen=True)
class Sensor:
    """What one channel of an event says; ``weight`` 0: it is not in the ensemble."""

    channel: str
    signal_to_noise: float | None
    weight: float
    class_name: str
    probabilities: dict[str, float | None]

    def row(self) -> dict[str, Any]:
        """Return the channel's part of its row of the table of sensors."""
        return {
            "channel": self.channel,
            "signal_to_noise": _rounded(self.signal_to_noise, 3),
            "weight": _rounded(self.weight),
            "class": self.class_name,
            **_probability_cells(self.probabilities),
        }


@dataclass(frozen=True)
class Event:
    """One classified event, or the reason in ``error`` why it could not be classified.

    ``start_time`` (of the window) and ``trigger_time`` are UTC in ISO 8601, empty if unknown.
    ``probabilities`` are those of the ensemble, by class name; ``sensors`` and ``usable_sensors``
    are numbers of channels, ``per_sensor`` is what each channel says. ``model`` and ``settings``
    are the first digits of the SHA-256 of checkpoint and configuration. ``left_out`` and ``padded``
    have the name of each channel that was left out, or padded to the event's window, and why;
    ``best_channel`` has the highest signal-to-noise ratio. ``picks`` has, of each station that has
    triggered, the first channel and its seconds after the trigger. ``peak_counts`` and
    ``duration_s`` are what ``prediction.predictor`` measures.
    """

    file: str
    start_time: str
    trigger_time: str
    probabilities: dict[str, float | None]
    model: str
    settings: str
    class_name: str = ""
    confidence: float | None = None
    entropy: float | None = None
    agreement: float | None = None
    sensors: int | None = None
    usable_sensors: int | None = None
    review_reason: str = ""
    error: str = ""
    per_sensor: tuple[Sensor, ...] = ()
    left_out: tuple[str, ...] = ()
    padded: tuple[str, ...] = ()
    best_channel: str = ""
    picks: dict[str, float] = field(default_factory=dict)
    peak_counts: float | None = None
    duration_s: float | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any], class_names: Sequence[str]) -> "Event":
        """Return the event of a row that was read from a table: CSV (texts) or JSON (numbers)."""
        return cls(
            **{name: row[name] for name in TIME_COLUMNS},
            probabilities={name: _number(row[f"prob_{name}"]) for name in class_names},
            model=row["model"],
            settings=row["settings"],
            class_name=row["class"],
            confidence=_number(row["confidence"]),
            entropy=_number(row["entropy"]),
            agreement=_number(row["agreement"]),
            sensors=_whole_number(row["sensors"]),
            usable_sensors=_whole_number(row["usable_sensors"]),
            review_reason=row["review_reason"],
            error=row["error"],
            left_out=_split(row["left_out"]),
            padded=_split(row["padded"]),
            best_channel=row["best_channel"],
            picks=parse_picks(row["picks"]),
            peak_counts=_number(row["peak_counts"]),
            duration_s=_number(row["duration_s"]),
        )

    @property
    def key(self) -> str:
        """What identifies the event, see ``event_key``."""
        return event_key(self.file, self.trigger_time)

    @property
    def time(self) -> "UTCDateTime | None":
        """Time of the trigger, without a trigger the start of the recording; None if unknown."""
        from obspy import UTCDateTime

        text = self.trigger_time or self.start_time
        return UTCDateTime(text) if text else None

    @property
    def review(self) -> bool:
        """Whether a person should look at the event."""
        return bool(self.review_reason)

    def row(self) -> dict[str, Any]:
        """Return the row of the table of events; numbers have four decimal places."""
        return {
            **{name: getattr(self, name) for name in TIME_COLUMNS},
            "class": self.class_name,
            "confidence": _rounded(self.confidence),
            **_probability_cells(self.probabilities),
            "entropy": _rounded(self.entropy),
            "agreement": _rounded(self.agreement),
            "sensors": _rounded(self.sensors),
            "usable_sensors": _rounded(self.usable_sensors),
            "review": int(self.review) if self.class_name else "",
            "review_reason": self.review_reason,
            "error": self.error,
            "model": self.model,
            "settings": self.settings,
            "left_out": BETWEEN_REASONS.join(self.left_out),
            "padded": BETWEEN_REASONS.join(self.padded),
            "best_channel": self.best_channel,
            "picks": format_picks(self.picks),
            "peak_counts": _rounded(self.peak_counts),
            "duration_s": _rounded(self.duration_s, 2),
        }

    def sensor_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table of sensors."""
        places = {name: getattr(self, name) for name in TIME_COLUMNS}
        return [places | sensor.row() for sensor in self.per_sensor]


def columns(class_names: Sequence[str]) -> list[str]:
    """Return the columns of the table of events."""
    return list(Event("", "", "", dict.fromkeys(class_names), "", "").row())


def sensor_columns(class_names: Sequence[str]) -> list[str]:
    """Return the columns of the table of sensors."""
    nothing = Sensor("", None, 0.0, "", dict.fromkeys(class_names))
    return [*TIME_COLUMNS, *nothing.row()]


def _rounded(value: Any, digits: int = 4) -> Any:
    if value is None:
        return ""
    return round(value, digits) if isinstance(value, float) else value


def _probability_cells(probabilities: dict[str, float | None]) -> dict[str, Any]:
    return {f"prob_{name}": _rounded(value) for name, value in probabilities.items()}


def _number(cell: Any) -> float | None:
    return None if cell == "" else float(cell)


def _whole_number(cell: Any) -> int | None:
    return None if cell == "" else int(cell)


def _split(cell: str) -> tuple[str, ...]:
    return tuple(cell.split(BETWEEN_REASONS)) if cell else ()


def format_picks(picks: Mapping[str, float]) -> str:
    """Write picks, channel name to seconds after the trigger, as a cell of the table."""
    return ", ".join(f"{channel} {after_s:+.3f}" for channel, after_s in picks.items())


def parse_picks(text: str) -> dict[str, float]:
    """Read what ``format_picks`` has written."""
    words = [part.rsplit(" ", 1) for part in text.split(", ") if part]
    return {channel: float(after_s) for channel, after_s in words}
