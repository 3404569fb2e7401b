"""Plots of a run: loss curves, confusion matrix, recall, spectrograms of events, calibration."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.drawing import draw_spectrogram
from utils.figures import BLUE, GREY, ORANGE, picture

SHEET_COLUMNS = 6
MAX_SENSORS_SHOWN = 24


def plot_loss_curves(
    metrics_csv: Path, path: Path, watched: str = "held out", note: str = ""
) -> Path | None:
    """Draw each metric of metrics.csv over epochs, training and other events in one panel.

    ``watched`` names the others, ``note`` is written above the panels. Returns ``path``, or None if
    there are no metrics.
    """
    curves = _read_curves(metrics_csv)
    if not curves:
        return None
    n_columns = min(3, len(curves))
    n_rows = math.ceil(len(curves) / n_columns)

    with picture(path, (4.2 * n_columns, 2.9 * n_rows)) as figure:
        for position, (name, sides) in enumerate(curves.items(), start=1):
            axes = figure.add_subplot(n_rows, n_columns, position)
            for side, color, label in (("train", GREY, "training"), ("val", BLUE, watched)):
                if side in sides:
                    axes.plot(
                        *zip(*sides[side]),
                        color=color,
                        label=label,
                        marker="o" if len(sides[side]) < 15 else None,
                        ms=3,
                    )
            axes.set(title=name.replace("_", " "), xlabel="epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False, fontsize=8)
        figure.suptitle(note, fontsize=9)
    return path


def _read_curves(metrics_csv: Path) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return (epoch, value) of each metric, by its name and by ``train`` or ``val``."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {}
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for column, value in row.items():
                side, slash, name = column.partition("/")
                if slash and value:
                    points = curves.setdefault(name, {}).setdefault(side, [])
                    points.append((int(row["epoch"]) + 1, float(value)))
    return curves


def plot_confusion(
    confusion: Sequence[Sequence[float]], class_names: Sequence[str], title: str, path: Path
) -> Path:
    """Draw a confusion matrix (K, K), rows are true classes, with counts and row percentages."""
    counts = np.asarray(confusion)
    totals = counts.sum(1, keepdims=True)
    share = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    n_classes = len(class_names)

    side = 2.2 + 0.75 * n_classes
    with picture(path, (side + 1, side)) as figure:
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    column,
                    row,
                    f"{_count(count)}\n{100 * share[row, column]:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if share[row, column] > 0.6 else "black",
                )
        names = [name.replace("_", " ") for name in class_names]
        axes.set_xticks(range(n_classes), names, rotation=40, ha="right")
        axes.set_yticks(
            range(n_classes), [f"{name} ({n:.0f})" for name, n in zip(names, totals[:, 0])]
        )
        axes.set(xlabel="predicted class", ylabel="true class (count)", title=title)
    return path


def _count(events: float) -> str:
    """Write a number of events; channels give fractions of events."""
    return f"{events:.0f}" if float(events).is_integer() else f"{events:.1f}"


def plot_recall(
    metrics: Mapping[str, dict[str, Any]], class_names: Sequence[str], path: Path
) -> Path:
    """Draw the recall of each class for each kind of prediction (ensemble, single channel)."""
    places = np.arange(len(class_names))
    width = 0.8 / len(metrics)

    with picture(path, (7, 1.8 + 0.45 * len(class_names))) as figure:
        axes = figure.add_subplot()
        for number, ((kind, values), color) in enumerate(zip(metrics.items(), (BLUE, ORANGE))):
            recall = [100 * (value or 0) for value in values["recall"]]
            mean = f"balanced accuracy {100 * values['balanced_accuracy']:.1f} %"
            label = f"{kind.replace('_', ' ')} ({mean})"
            axes.barh(
                places + (number - (len(metrics) - 1) / 2) * width,
                recall,
                width,
                color=color,
                label=label,
            )
        totals = np.sum(next(iter(metrics.values()))["confusion"], axis=1)
        names = [f"{name.replace('_', ' ')} ({n:.0f})" for name, n in zip(class_names, totals)]
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="recall (%)", ylabel="true class (count)")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return path


def plot_event_sheet(
    images: np.ndarray,
    channels: Sequence[str],
    live: np.ndarray,
    duration_s: float,
    nyquist_hz: float,
    title: str,
    path: Path,
) -> Path:
    """Draw the spectrogram images (S, H, W) of one event, values in [0, 1], one panel per channel.

    ``channels`` has the S names; ``live`` (S,) is False for dead channels.
    """
    n_shown = min(len(images), MAX_SENSORS_SHOWN)
    n_columns = min(SHEET_COLUMNS, n_shown)
    n_rows = math.ceil(n_shown / n_columns)
    if n_shown < len(images):
        title += f" (first {n_shown} of {len(images)} channels)"
    size = 2.1 * n_columns + 1.2, 1.5 * n_rows + 1.0
    names = [name + ("" if is_live else " (dead)") for name, is_live in zip(channels, live)]

    # placed here: matplotlib would draw all of it twice to find the places
    with picture(path, size, is_placed=True) as figure:
        axes = figure.add_axes((0.7 / size[0], 0.5 / size[1], 1 - 1.8 / size[0], 1 - 0.9 / size[1]))
        image = _draw_panels(axes, images[:n_shown], names, n_columns, duration_s, nyquist_hz)
        axes.set(title=title, xlabel="time (s)", ylabel="frequency (Hz)")
        bar = figure.add_axes((1 - 0.9 / size[0], 0.15, 0.15 / size[0], 0.7))
        figure.colorbar(image, cax=bar, label="scaled log density")
    return path


def _draw_panels(
    axes: Any,
    images: np.ndarray,
    names: Sequence[str],
    n_columns: int,
    duration_s: float,
    nyquist_hz: float,
) -> Any:
    """Draw a panel per image; returns the last image, for the colour bar.

    All panels share one pair of axes: a pair for each takes matplotlib seconds.
    """
    wide, high, n_rows = 1.07 * duration_s, 1.25 * nyquist_hz, math.ceil(len(images) / n_columns)
    for sensor, image in enumerate(images):
        row, column = divmod(sensor, n_columns)
        left, bottom = column * wide, (n_rows - 1 - row) * high
        extent = (left, left + duration_s, bottom, bottom + nyquist_hz)
        drawn = draw_spectrogram(axes, image, extent)
        place = left + duration_s / 2, bottom + 1.04 * nyquist_hz
        axes.text(*place, names[sensor], ha="center", va="bottom", fontsize=8, parse_math=False)
    axes.set(xlim=(0, n_columns * wide), ylim=(0, n_rows * high))
    axes.set_xticks(*_repeated_ticks(duration_s, wide, n_columns), fontsize=7)
    axes.set_yticks(*_repeated_ticks(nyquist_hz, high, n_rows), fontsize=7)
    axes.spines[:].set_visible(False)
    return drawn


def _repeated_ticks(length: float, step: float, n: int) -> tuple[list[float], list[str]]:
    """Return places and labels of ticks from 0 to ``length``, repeated n times every ``step``."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10])
    ticks = [tick for tick in locator.tick_values(0, length) if tick < 0.97 * length]
    places = [number * step + tick for number in range(n) for tick in ticks]
    return places, [f"{tick:g}" for tick in ticks] * n


def plot_calibration(before: Any, after: Any, labels: Any, path: Path) -> Path:
    """Draw a reliability diagram before and after calibration, and the risk-coverage curve.

    ``before`` and ``after`` are log-probabilities (N, K) of test events, ``labels`` is (N,).
    """

    with picture(path, (9, 4.4)) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=GREY, ls=":", label="perfectly calibrated")
        for log_probs, name, color in ((before, "before", ORANGE), (after, "after", BLUE)):
            _draw_reliability(left, log_probs, labels, name, color)
        left.set(xlabel="confidence", ylabel="share of right answers", title="reliability")
        left.set(xlim=(0, 1), ylim=(-0.03, 1.03))
        left.legend(loc="lower right")
        _draw_risk(right, after, labels)
        for axes in (left, right):
            axes.grid(alpha=0.3)
        figure.suptitle(f"{len(labels)} test events")
    return path


def _draw_reliability(axes: Any, log_probs: Any, labels: Any, name: str, color: str) -> None:
    """Draw the accuracy of events over their confidence, in bins."""
    from models.calibration import reliability
    from models.evaluation import N_CALIBRATION_BINS, evaluate

    confidence, predicted = log_probs.exp().max(-1)
    mean, accuracy, count = reliability(confidence, predicted == labels, N_CALIBRATION_BINS)
    error = evaluate(log_probs, labels)["expected_calibration_error"]
    axes.plot(mean, accuracy, ".-", color=color, alpha=0.5, label=f"{name} (ECE {error:.3f})")
    axes.scatter(mean, accuracy, s=8 + 4 * count, color=color, alpha=0.8)


def _draw_risk(axes: Any, log_probs: Any, labels: Any) -> None:
    """Draw the share of errors among the events that are decided."""
    from models.calibration import risk_coverage

    confidence, predicted = log_probs.exp().max(-1)
    coverage, risk = risk_coverage(confidence, predicted == labels)
    axes.plot(100 * coverage, 100 * risk, color=BLUE, drawstyle="steps-post")
    highest = float(risk[len(risk) // 10 :].max())  # one error among the first few is 100 %
    axes.set(
        xlabel="events decided, the most confident first (%)",
        ylabel="errors among them (%)",
        xlim=(0, 100),
        ylim=(0, max(5, 110 * highest)),
        title="risk and coverage, calibrated",
    )
