"""The picture of continuous recordings: events by class over time, and probabilities."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prediction.events import Event
from prediction.monitoring.coverage import merged
from utils.figures import BLUE, GREY, picture

MAX_COLUMNS = 1200  # of the strips of probabilities
MAX_PANELS = 6  # side by side, for recordings with long pauses between them
LONG_PAUSE = 0.2  # of the recorded time: a longer one is left out of the picture
SMALL_GAP = 1e-3  # of the recorded time: a shorter one cannot be seen
LEAST_WIDTH = 0.12  # of a panel, as share of the widest


def plot_timeline(
    events: Sequence[Event],
    class_names: Sequence[str],
    covered_ns: ArrayLike,
    path: Path,
    probabilities: Any = None,
) -> Path:
    """Draw when which class of event happened; hollow are those that a person should look at.

    ``covered_ns`` (2, n) are starts and ends of what was recorded: long pauses between are left out
    of the picture, shorter ones are grey. ``probabilities`` is what ``annotate`` returns: a strip
    per class behind its events.
    """
    covered = np.reshape(covered_ns, (2, -1))
    panels = recorded_periods(covered)
    lengths = np.diff(panels, axis=0)[0]
    recorded = merged(covered, round(SMALL_GAP * lengths.sum()))
    lines = [_Line.of_class(events, name) for name in class_names]
    all_times = np.concatenate([line.times for line in lines])
    height = 0.55 if probabilities else 0.32
    size = 12, 2.8 + height * len(class_names)

    with picture(path, size) as figure:
        widths = np.maximum(lengths, LEAST_WIDTH * lengths.max())
        style = {"sharex": "col", "sharey": "row", "squeeze": False}
        axes = figure.subplots(
            2, len(lengths), height_ratios=(1, 2.2), width_ratios=widths, **style
        )
        if probabilities:
            strips = [_draw_strips(below, probabilities) for below in axes[1]]
            figure.colorbar(strips[0], ax=axes, shrink=0.5, pad=0.01, label="probability")
        minutes = _bin_minutes(float(lengths.sum() / 60e9))
        for (above, below), period in zip(axes.T, panels.T):
            _draw_counts(above, all_times, period, minutes)
            _draw_events(below, lines)
            _draw_pauses((above, below), period, recorded)
            _set_times(below, period, len(lengths))
        _label(axes[:, 0], lines, minutes)
        figure.suptitle(f"{len(all_times)} events", fontsize=11)
        figure.supxlabel("time (UTC); hollow: for review; grey: not recorded", fontsize=10)
    return path


def recorded_periods(covered: np.ndarray) -> np.ndarray:
    """Return starts and ends (2, n) of at most ``MAX_PANELS`` periods without a long pause.

    ``covered`` (2, m) has starts and ends of recordings, in ns; they may overlap.
    """
    periods = merged(covered)
    pauses = periods[0, 1:] - periods[1, :-1]
    recorded = int(np.diff(periods, axis=0).sum())
    longest = np.sort(pauses)[::-1]
    limit = LONG_PAUSE * recorded
    if longest.size >= MAX_PANELS:
        limit = max(limit, longest[MAX_PANELS - 1])
    return merged(covered, int(limit))


@dataclass(frozen=True)
class _Line:
    """A line of the picture: the times of one class's events, and which of them are for review."""

    name: str
    times: np.ndarray  # (N,) datetime64
    review: list[bool]

    @classmethod
    def of_class(cls, events: Sequence[Event], name: str) -> "_Line":
        own = [event for event in events if event.class_name == name and event.trigger_time]
        times = np.array([event.trigger_time[:-1] for event in own], "datetime64[ns]")
        return cls(name, times, [event.review for event in own])

    def __str__(self) -> str:
        return f"{self.name.replace('_', ' ')} ({len(self.times)})"


def _label(first_axes: Sequence[Any], lines: Sequence[_Line], minutes: int) -> None:
    """Label the vertical axes of the first period; the others share them."""
    above, below = first_axes
    above.set_ylabel(f"in {minutes} min")
    above.yaxis.get_major_locator().set_params(integer=True)
    below.set_yticks(range(len(lines)), [str(line) for line in lines])
    below.set_ylim(len(lines) - 0.5, -0.5)


def _draw_events(axes: Any, lines: Sequence[_Line]) -> None:
    for height, line in enumerate(lines):
        colors = ["white" if flagged else BLUE for flagged in line.review]
        style = {"edgecolors": BLUE, "s": 28, "lw": 0.9, "zorder": 3}
        axes.scatter(line.times, np.full(len(line.times), height), c=colors, **style)
    axes.grid(alpha=0.3)


def _draw_pauses(all_axes: Iterable[Any], period: np.ndarray, recorded: np.ndarray) -> None:
    """Shade the times of a period in which nothing was recorded."""
    for start, end in zip(recorded[1, :-1], recorded[0, 1:]):
        if period[0] < end and start < period[1]:
            for axes in all_axes:
                edges = np.datetime64(int(start), "ns"), np.datetime64(int(end), "ns")
                axes.axvspan(*edges, color="#e3e3e3", lw=0, zorder=0)


def _set_times(axes: Any, period: np.ndarray, n_panels: int) -> None:
    """Show one period of time, with few labels where there are many panels."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_xlim(*(np.datetime64(int(ns), "ns") for ns in period))  # last: bars reach beyond
    locator = AutoDateLocator(minticks=2, maxticks=max(3, 12 // n_panels))
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _draw_strips(axes: Any, probabilities: Any) -> Any:
    """Draw the largest probability of each class in each of some hundred bins of time."""
    from matplotlib.dates import date2num

    first = probabilities[0]
    stride = np.timedelta64(round(first.stats.delta * 1e9), "ns")
    begin = np.datetime64(first.stats.starttime.ns, "ns")
    table = np.stack([np.ma.filled(trace.data, np.nan) for trace in probabilities])
    per_bin = math.ceil(table.shape[1] / MAX_COLUMNS)
    n_bins = math.ceil(table.shape[1] / per_bin)
    padded = np.full((len(table), n_bins * per_bin), -np.inf)
    padded[:, : table.shape[1]] = np.where(np.isnan(table), -np.inf, table)
    largest = padded.reshape(len(table), n_bins, per_bin).max(axis=2)
    edges = begin + np.arange(n_bins + 1) * per_bin * stride
    return axes.pcolormesh(
        date2num(edges),
        np.arange(len(table) + 1) - 0.5,
        np.ma.masked_invalid(largest),
        cmap="Oranges",
        vmin=0,
        vmax=1,
    )


def _draw_counts(axes: Any, times: np.ndarray, period: np.ndarray, minutes: int) -> None:
    """Draw the number of events in bins of so many minutes."""
    width = np.timedelta64(minutes * 60, "s").astype("timedelta64[ns]")
    start, end = (np.datetime64(int(ns), "ns") for ns in period)
    first = start.astype("datetime64[m]").astype("datetime64[ns]")
    edges = first + np.arange(math.ceil((end - first) / width) + 1) * width
    counted, _ = np.histogram(times.astype(np.int64), edges.astype(np.int64))
    widths = np.diff(edges)
    axes.bar(edges[:-1], counted, width=widths, align="edge", color=GREY, edgecolor="white", lw=0.5)


def _bin_minutes(total_minutes: float) -> int:
    """Return a round number of minutes that makes at most some fifty bins."""
    return next(
        (
            width
            for width in (1, 2, 5, 10, 15, 30, 60, 120, 240, 360, 720)
            if total_minutes / width <= 50
        ),
        1440,
    )
