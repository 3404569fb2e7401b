"""Classified events as dataclasses; their fields are the columns of the tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prediction.catalogue import build_catalogue, format_picks
from prediction.predict_config import PredictConfig
from prediction.tables import write_table

if TYPE_CHECKING:
    from obspy import UTCDateTime
    from obspy.core.event import Catalog

TIME_COLUMNS = ("file", "start_time", "trigger_time")


@dataclass(frozen=True)
class Sensor:
    """What one channel of an event says; ``weight`` 0: it is not in the ensemble."""

    channel: str
    signal_to_noise: float | None
    weight: float
    class_name: str
    probabilities: dict[str, float | None]

    def row(self) -> dict:
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

    def row(self) -> dict:
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
            "left_out": "; ".join(self.left_out),
            "padded": "; ".join(self.padded),
            "best_channel": self.best_channel,
            "picks": format_picks(self.picks),
            "peak_counts": _rounded(self.peak_counts),
            "duration_s": _rounded(self.duration_s, 2),
        }

    def sensor_rows(self) -> list[dict]:
        """Return the rows of the table of sensors."""
        places = {name: getattr(self, name) for name in TIME_COLUMNS}
        return [places | sensor.row() for sensor in self.per_sensor]


class Events(list[Event]):
    """A list of events that can be written as a table or made an ObsPy catalogue."""

    def __init__(self, events: Iterable[Event], class_names: Sequence[str], config: PredictConfig):
        super().__init__(events)
        self.class_names, self.config = tuple(class_names), config

    def to_csv(self, path: str | Path, per_sensor: bool = False) -> None:
        """Write the table of predict.py: a row per event, or with ``per_sensor`` per channel.

        An existing file is replaced.
        """
        if per_sensor:
            rows = [row for event in self for row in event.sensor_rows()]
            write_table(Path(path), rows, sensor_columns(self.class_names))
        else:
            write_table(Path(path), [event.row() for event in self], columns(self.class_names))

    def to_catalog(self) -> "Catalog":
        """Return an ObsPy catalogue; events without a class or a time are left out."""
        return build_catalogue([event.row() for event in self], self.class_names, self.config)


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


def _probability_cells(probabilities: dict[str, float | None]) -> dict:
    return {f"prob_{name}": _rounded(value) for name, value in probabilities.items()}
