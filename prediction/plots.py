"""The picture of an event: waveforms, spectrograms, probabilities."""

from pathlib import Path

import numpy as np
import torch

from prediction.events import Event
from prediction.predictor import Classified, Predictor
from utils.figures import ORANGE, save_figure

MAX_CHANNELS = 24


def plot_event(event: Classified, predictor: Predictor, path: Path) -> Path:
    """Draw an event: waveforms, spectrograms, probabilities of each channel and the ensemble."""
    n = min(len(event.waveforms), MAX_CHANNELS)
    waveforms, rate_hz = event.waveforms[:n], predictor.rate_hz
    spectrogram = predictor.model.spectrogram.cpu()
    images = spectrogram.native(torch.from_numpy(waveforms)).numpy()
    waveforms = spectrogram.filtered(torch.from_numpy(waveforms)).numpy()
    spectrogram.to(predictor.device)
    above = "" if spectrogram.highpass_hz is None else f" above {spectrogram.highpass_hz:g} Hz"
    names = [sensor.channel for sensor in event.event.per_sensor]
    if len(names) < n:  # a model of the previous study has one trace
        names = [str(k + 1) for k in range(n)]
    time_s = np.arange(waveforms.shape[1]) / rate_hz

    def draw(figure) -> None:
        grid = figure.add_gridspec(2, 3, width_ratios=(1.25, 1.25, 1), height_ratios=(n, 1.3))
        left, middle, right = (figure.add_subplot(grid[0, column]) for column in range(3))
        for line, samples in enumerate(waveforms):
            centred = samples - np.median(samples)
            left.plot(
                time_s,
                line - centred / max(2.2 * np.abs(centred).max(), 1e-9),
                lw=0.4,
                color="black",
            )
        left.set(
            xlim=(0, time_s[-1]),
            ylim=(n - 0.5, -0.5),
            xlabel="time (s)",
            title=f"waveforms{above}, each to its own peak",
        )
        left.set_yticks(range(n), map(_drawable, names[:n]), fontsize=7, parse_math=False)
        left.axvline(event.onset_s, color=ORANGE, lw=0.8)
        # one strip per channel, low frequencies at its bottom
        strips = np.concatenate([image[::-1] for image in images])
        middle.imshow(
            strips,
            aspect="auto",
            cmap="magma",
            vmin=0,
            vmax=1,
            extent=(0, time_s[-1], n, 0),
            interpolation="nearest",
        )
        middle.hlines(range(1, n), 0, time_s[-1], color="white", lw=0.3)
        middle.set(yticks=[], xlabel="time (s)", title=f"spectrograms, each 0–{rate_hz / 2:g} Hz")
        _draw_votes(figure, right, figure.add_subplot(grid[1, 2]), event.event)
        figure.suptitle(_drawable(_title(event)), fontsize=11, parse_math=False)

    return save_figure(path, (15, 2.2 + 0.27 * n), draw)


def _draw_votes(figure, above, below, event: Event) -> None:
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
    figure.colorbar(picture, ax=above, shrink=0.6)


def _drawable(text: str) -> str:
    """Replace what cannot be drawn: bytes of names that are no text."""
    return text.encode("utf-8", "replace").decode()


def _numbers(probabilities: dict[str, float | None]) -> list[float]:
    return [np.nan if value is None else value for value in probabilities.values()]


def _title(classified: Classified) -> str:
    event = classified.event
    place = f"{event.file}, {event.trigger_time}" if event.trigger_time else classified.item.key
    row = event.row()
    agreement = f"{100 * row['agreement']:.0f} % of {event.sensors} sensors agree"
    name = event.class_name.replace("_", " ")
    title = f"{place}\n{name} ({100 * row['confidence']:.0f} %; {agreement})"
    return f"{title} — for review: {event.review_reason}" if event.review else title
