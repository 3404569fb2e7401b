"""How many events a trigger finds, for a grid of thresholds and numbers of channels."""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from prediction.continuous.continuous_data import Source
from prediction.continuous.miniseed import NS
from prediction.continuous.trigger import EventFinder, coincidences, sta_lta
from prediction.predict_config import TriggerParams
from prediction.tables import write_table
from utils.errors import UserError
from utils.figures import picture
from utils.progress import progress_bar

log = logging.getLogger(__name__)
THRESHOLDS = (2.5, 3.0, 4.0, 5.0, 7.0, 10.0)
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)  # of the channels: values of ``channels``
NEAR_S = 5.0  # between a known time and the trigger that has found it
COLUMNS = ("thr_on", "channels", "events", "events_per_hour")
KNOWN_COLUMNS = ("known", "known_found")


@dataclass(frozen=True)
class TriggerResult:
    """What one trigger finds: times of events, in ns since 1970."""

    trigger: TriggerParams
    times_ns: list[int]

    def row(self, hours: float, known_ns: np.ndarray | None) -> dict[str, Any]:
        """Return a row of the table."""
        row = {
            "thr_on": self.trigger.thr_on,
            "channels": self.trigger.channels,
            "events": len(self.times_ns),
            "events_per_hour": round(len(self.times_ns) / hours, 3),
        }
        if known_ns is not None:
            row |= {"known": len(known_ns), "known_found": n_found(known_ns, self.times_ns)}
        return row


def tune(finder: EventFinder, chunk_s: float) -> list[TriggerResult]:
    """Return what each trigger of the grid finds in the recordings of ``finder``.

    The grid is around the configured trigger, which is one of them. Filter and STA/LTA are computed
    once for all.
    """
    data, longest_s = finder.data, finder.duration_s
    start_ns, end_ns = data.start_ns, data.end_ns
    first_s = min(chunk_s, 2 * longest_s)
    n_channels = len({t.id for t in data.read(start_ns, start_ns + int(first_s * NS))})
    finders = [replace(finder, trigger=each, known=[]) for each in grid(finder.trigger, n_channels)]
    edges = [*range(start_ns, end_ns, int(chunk_s * NS)), end_ns + 1]
    for begin_ns, stop_ns in progress_bar(list(pairwise(edges)), desc="Tuning", unit="chunk"):
        ratios = sta_lta(finder.read(begin_ns, stop_ns), finder.trigger)
        for each in finders:
            each.new(coincidences(ratios, each.trigger), begin_ns, stop_ns)
    return [TriggerResult(each.trigger, each.known) for each in finders]


def grid(trigger: TriggerParams, n_channels: int) -> list[TriggerParams]:
    """Return the triggers to compare: thresholds that are possible, and shares of the channels."""
    highest = trigger.lta_s / trigger.sta_s
    thresholds = {x for x in THRESHOLDS if trigger.thr_off <= x < highest} | {trigger.thr_on}
    counts = {max(1, round(share * n_channels)) for share in SHARES} | {trigger.channels}
    return [
        trigger.model_copy(update={"thr_on": thr_on, "channels": channels})
        for thr_on in sorted(thresholds)
        for channels in sorted(counts)
        if channels <= max(n_channels, trigger.channels)
    ]


def n_found(known_ns: np.ndarray, times_ns: Sequence[int]) -> int:
    """Return how many known times have a trigger within ``NEAR_S``."""
    if not len(times_ns):
        return 0
    distances = np.abs(np.asarray(known_ns)[:, None] - np.asarray(times_ns)[None])
    return int((distances.min(axis=1) <= NEAR_S * NS).sum())


def read_known_times(path: Path) -> np.ndarray:
    """Return the times (UTC) in the column ``time`` of a CSV file, in ns since 1970.

    Raises ``UserError`` for a file without them.
    """
    from obspy import UTCDateTime

    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"--known-times: {path}: {error.strerror}") from error
    names = list(rows[0]) if rows else []
    column = next((name for name in ("time", "trigger_time", "start_time") if name in names), None)
    if column is None:
        raise UserError(
            f"--known-times: {path}: has no rows with a column time; found the columns "
            f"{', '.join(names) or 'none'}"
        )
    times = []
    for number, row in enumerate(rows, start=2):
        try:
            times.append(UTCDateTime(row[column]).ns)
        except Exception as error:  # ObsPy raises many kinds for what is no time
            raise UserError(
                f"--known-times: {path}, line {number}: found {row[column]!r}; should be a time "
                "(UTC) such as 2024-05-01T06:00:00"
            ) from error
    return np.array(times, np.int64)


def write_tuning(
    found: Sequence[TriggerResult],
    source: Source,
    known_ns: np.ndarray | None,
    configured: TriggerParams,
    path: Path,
) -> None:
    """Write the table, and its picture beside it as PNG."""
    if known_ns is not None:
        inside = (known_ns >= source.start_ns) & (known_ns <= source.end_ns)
        if not inside.all():
            log.info("%d of the known times are outside of the recordings", (~inside).sum())
        known_ns = known_ns[inside]
    hours = (source.end_ns - source.start_ns) / NS / 3600
    rows = [each.row(hours, known_ns) for each in found]
    columns = COLUMNS if known_ns is None else COLUMNS + KNOWN_COLUMNS
    write_table(path, rows, columns)
    plot_tuning(rows, hours, configured, path.with_suffix(".png"))
    log.info(
        "%d triggers on %.3g hours: %s and %s", len(rows), hours, path, path.with_suffix(".png")
    )


def plot_tuning(
    rows: Sequence[dict[str, Any]], hours: float, configured: TriggerParams, path: Path
) -> Path:
    """Draw events per hour, and how many known ones are found, for each trigger."""
    thresholds = sorted({row["thr_on"] for row in rows})
    counts = sorted({row["channels"] for row in rows})
    cells = {(row["channels"], row["thr_on"]): row for row in rows}
    panels = [("events_per_hour", f"events per hour ({hours:.3g} hours)", "Blues")]
    if "known" in rows[0]:
        panels.append(("known_found", f"found of {rows[0]['known']} known events", "Oranges"))

    with picture(path, (5.6 * len(panels), 4.2)) as figure:
        for axes, (name, title, colours) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels
        ):
            values = np.array([[cells[n, x][name] for x in thresholds] for n in counts], float)
            _draw_values(axes, values, colours)
            place = thresholds.index(configured.thr_on), counts.index(configured.channels)
            axes.add_patch(_frame(place))
            axes.set_xticks(range(len(thresholds)), [f"{x:g}" for x in thresholds])
            axes.set_yticks(range(len(counts)), counts)
            axes.set(
                xlabel="thr_on (STA/LTA); framed: as configured", ylabel="channels", title=title
            )
    return path


def _draw_values(axes: Any, values: np.ndarray, colours: str) -> None:
    """Draw a matrix as colours with its numbers."""
    top = values.max() or 1.0
    style = {"vmin": 0, "vmax": 1.15, "aspect": "auto", "origin": "lower"}
    axes.imshow(np.sqrt(values / top), cmap=colours, **style)
    centred = {"ha": "center", "va": "center", "fontsize": 9}
    for (line, column), value in np.ndenumerate(values):
        color = "white" if value > 0.5 * top else "black"
        axes.text(column, line, f"{value:.3g}", color=color, **centred)


def _frame(place: tuple[int, int]) -> Any:
    """Return a frame around the configured trigger."""
    from matplotlib.patches import Rectangle

    return Rectangle((place[0] - 0.5, place[1] - 0.5), 1, 1, fill=False, edgecolor="black", lw=2.2)
