"""The picture of an event: waveforms, spectrograms, probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter1d

from prediction.events import Event
from prediction.predictor import Classified, Predictor
from preprocessing.drawing import draw_spectrogram, draw_waveforms
from utils.figures import ORANGE, picture

MAX_CHANNELS = 24
DRIFT_S = 1.0  # the moving mean over this time is subtracted from the waveforms that are drawn
# a fixed layout in inches: to let matplotlib find one takes as long as drawing
WIDTH, ROW, LEAST_ROWS, TOP, GAP, ENSEMBLE = 15.0, 0.27, 0.9, 0.9, 0.12, 0.33
LETTER = 0.062  # of a label of 7 points


def plot_event(event: Classified, predictor: Predictor, path: Path) -> Path:
    """Draw an event: waveforms, spectrograms, probabilities of each channel and the ensemble."""
    n = min(len(event.waveforms), MAX_CHANNELS)
    waveforms, rate_hz = event.waveforms[:n], predictor.rate_hz
    spectrogram = predictor.model.spectrogram.cpu()
    images = spectrogram.native(torch.from_numpy(waveforms)).numpy()
    waveforms = spectrogram.filtered(torch.from_numpy(waveforms)).numpy()
    spectrogram.to(predictor.device)
    names = [_drawable(sensor.channel) for sensor in event.event.per_sensor[:n]]
    if len(names) < n:  # a model of the previous study has one trace
        names = [str(k + 1) for k in range(n)]
    classes = [name.replace("_", " ") for name in event.event.probabilities]
    rows = max(ROW * n, LEAST_ROWS)
    bottom = 0.3 + LETTER * max(map(len, classes))
    height = TOP + rows + GAP + ENSEMBLE + bottom

    with picture(path, (WIDTH, height), is_placed=True) as figure:

        def panel(left: float, right: float, low: float, high: float) -> Any:
            """Return axes at a place in inches."""
            place = left / WIDTH, low / height, (right - left) / WIDTH, (high - low) / height
            return figure.add_axes(place)

        low, high = bottom + ENSEMBLE + GAP, height - TOP
        begin = 0.25 + LETTER * max(map(len, names))
        middle = (begin + 10.4) / 2
        left = panel(begin, middle - 0.25, low, high)
        draw_waveforms(left, without_drift(waveforms, rate_hz), rate_hz, names)
        left.set(xlabel="time (s)", title="waveforms without drift, each to its own peak")
        left.axvline(event.onset_s, color=ORANGE, lw=0.8)
        duration_s = waveforms.shape[1] / rate_hz
        _draw_spectrograms(panel(middle + 0.5, 10.4, low, high), images, duration_s, rate_hz / 2)
        votes = panel(11.5, 14.2, low, high), panel(11.5, 14.2, bottom, bottom + ENSEMBLE)
        _draw_votes(*votes, panel(14.35, 14.47, low, high), event.event)
        figure.suptitle(_drawable(_title(event)), fontsize=11, parse_math=False, y=1 - 0.1 / height)
    return path


def without_drift(waveforms: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return waveforms (S, T) minus their moving mean over ``DRIFT_S``: no microseism, no drift."""
    centred = waveforms - np.median(waveforms, axis=1, keepdims=True).astype(np.float64)
    n_mean = min(round(DRIFT_S * rate_hz), waveforms.shape[1] // 2)
    if n_mean < 4:  # of a slow recording the mean would be the signal
        return centred
    return centred - uniform_filter1d(centred, n_mean, axis=1, mode="nearest")


def _draw_spectrograms(axes: Any, images: np.ndarray, duration_s: float, nyquist_hz: float) -> None:
    """Draw the images (S, H, W) as strips; the frequency axis is that of the lowest strip."""
    n = len(images)
    draw_spectrogram(axes, np.concatenate(images[::-1]), (0, duration_s, n, 0))
    axes.hlines(range(1, n), 0, duration_s, color="white", lw=0.3)
    axes.set_yticks([n, n - 0.5, n - 1], [f"{k * nyquist_hz / 2:g}" for k in range(3)], fontsize=6)
    axes.set_ylabel("frequency (Hz)", fontsize=7, y=0, ha="left")
    axes.set(xlabel="time (s)", title=f"spectrograms, each 0–{nyquist_hz:g} Hz")


def _draw_votes(above: Any, below: Any, colors: Any, event: Event) -> None:
    """Draw the class probabilities of each sensor, and of the ensemble below them.

    Sensors that are not in the ensemble are grey.
    """
    ensemble = _numbers(event.probabilities)
    of_sensors = [_numbers(sensor.probabilities) for sensor in event.per_sensor[:MAX_CHANNELS]]
    above.set_facecolor("#dddddd")
    for axes, table in ((above, of_sensors), (below, [ensemble])):
        picture = axes.imshow(table, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for column, probability in enumerate(ensemble):
        below.text(
            column,
            0,
            f"{100 * probability:.0f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if probability > 0.6 else "black",
        )
    above.set(
        xticks=[],
        yticks=[],
        title="probability by channel" + " (grey: left out)" * bool(np.isnan(of_sensors).any()),
    )
    below.set_yticks([0], ["ensemble (%)"], fontsize=9)
    names = [name.replace("_", " ") for name in event.probabilities]
    below.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    above.figure.colorbar(picture, cax=colors)


def _drawable(text: str) -> str:
    """Replace what cannot be drawn: bytes of names that are no text."""
    return text.encode("utf-8", "replace").decode()


def _numbers(probabilities: dict[str, float | None]) -> list[float]:
    return [np.nan if value is None else value for value in probabilities.values()]


def _title(classified: Classified) -> str:
    event = classified.event
    place = ", ".join(filter(None, (event.file, event.trigger_time)))
    row = event.row()
    agreement = f"{100 * row['agreement']:.0f} % of {event.sensors} sensors agree"
    name = event.class_name.replace("_", " ")
    title = f"{place}\n{name} ({100 * row['confidence']:.0f} %; {agreement})"
    return f"{title} — for review: {event.review_reason}" if event.review else title
