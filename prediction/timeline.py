"""The picture of continuous recordings: events by class over time, and probabilities."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.figures import BLUE, GREY, save_figure

MAX_COLUMNS = 1200  # of the strips of probabilities


def plot_timeline(
    rows: Sequence[dict],
    class_names: Sequence[str],
    span_ns: tuple[int, int],
    path: Path,
    probabilities: Any = None,
) -> Path:
    """Draw when which class of event happened; hollow are those that a person should look at.

    ``probabilities`` is what ``annotate`` returns: a strip per class behind its events.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    start, end = (np.datetime64(ns, "ns") for ns in span_ns)
    times, review = {}, {}
    for name in class_names:
        of_class = [row for row in rows if row["class"] == name and row["trigger_time"]]
        times[name] = np.array([row["trigger_time"][:-1] for row in of_class], "datetime64[ns]")
        review[name] = [str(row["review"]) == "1" for row in of_class]

    def draw(figure) -> None:
        counts, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.2))
        if probabilities:
            strips = _draw_strips(axes, probabilities)
            figure.colorbar(strips, ax=[counts, axes], shrink=0.5, pad=0.01, label="probability")
        for line, name in enumerate(class_names):
            colors = ["white" if flagged else BLUE for flagged in review[name]]
            axes.scatter(
                times[name],
                np.full(len(times[name]), line),
                c=colors,
                edgecolors=BLUE,
                s=28,
                lw=0.9,
                zorder=3,
            )
        axes.set_yticks(
            range(len(class_names)),
            [f"{name.replace('_', ' ')} ({len(times[name])})" for name in class_names],
        )
        axes.set(
            ylim=(len(class_names) - 0.5, -0.5),
            xlabel="time (UTC); hollow: for review",
        )
        axes.grid(alpha=0.3)
        _draw_counts(counts, np.concatenate(list(times.values())), start, end)
        axes.set_xlim(start, end)  # last: the bars may reach beyond
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))

    height = 0.55 if probabilities else 0.32
    return save_figure(path, (12, 2.8 + height * len(class_names)), draw)


def _draw_strips(axes, probabilities):
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


def _draw_counts(axes, times: np.ndarray, start: np.datetime64, end: np.datetime64) -> None:
    """Draw the number of events in bins of time."""
    minutes = _bin_minutes((end - start) / np.timedelta64(1, "m"))
    width = np.timedelta64(minutes * 60, "s").astype("timedelta64[ns]")
    first = start.astype("datetime64[m]").astype("datetime64[ns]")
    edges = first + np.arange(math.ceil((end - start) / width) + 2) * width
    counted, _ = np.histogram(times.astype(np.int64), edges.astype(np.int64))
    widths = np.diff(edges)
    axes.bar(edges[:-1], counted, width=widths, align="edge", color=GREY, edgecolor="white", lw=0.5)
    axes.set(ylabel=f"events in {minutes} min", title=f"{times.size} events")
    axes.yaxis.get_major_locator().set_params(integer=True)


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
