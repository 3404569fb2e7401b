"""Classify recordings with a trained model: class, probabilities, and a flag for review."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from models.ensemble import FRAME_S, NOISE_SHARE, USABLE_RATIO, Prediction
from models.event_network import EventNetwork
from prediction.events import Event, EventWindow, Sensor
from prediction.predict_config import OUTPUT_KEYS, PredictConfig
from preprocessing.channels import fit_length, live_channels
from preprocessing.levels import Levels, measure
from preprocessing.recordings import Recording
from utils.errors import UserError
from utils.precision import choose_precision

log = logging.getLogger(__name__)
# of the model's length, and of the lowest sampling rate among its training events
MIN_LENGTH_FRACTION, MIN_RATE_FRACTION = 0.5, 0.8
FAR_OUTSIDE = 10.0  # factor between a level and the range of the training events


class Classified(NamedTuple):
    """A classified window and its waveforms (S, T), cut or padded to the model's length.

    ``onset_s`` is where the event begins, in s after the first sample.
    """

    window: EventWindow
    event: Event
    waveforms: np.ndarray = np.empty((0, 0))
    onset_s: float = np.nan


class Predictor:
    """Classify events with a trained model on one device."""

    def __init__(
        self, model: EventNetwork, fingerprint: str, config: PredictConfig, device: torch.device
    ):
        self.model, self.fingerprint = model.to(device), fingerprint
        self.config, self.device = config, device
        settings = config.model_dump_json(exclude=OUTPUT_KEYS)
        self.settings = hashlib.sha256(settings.encode()).hexdigest()[:4]
        self.class_names = model.class_names
        self.rate_hz = model.spectrogram.sampling_rate_hz
        self.n_samples = model.n_samples
        self.pre_trigger_s = model.pre_trigger_s
        self.duration_s = self.n_samples / self.rate_hz
        self.threshold = _threshold(model, config)
        self.bf16 = choose_precision(config.precision, device) == "bf16-mixed"

    def classify(self, windows: Sequence[EventWindow]) -> list[Classified]:
        """Classify a few events at once; those that cannot be used get an ``error``."""
        windows = [self._require_usable(window) for window in windows]
        usable = [
            (place, window, window.recording)
            for place, window in enumerate(windows)
            if window.recording and not window.reason
        ]
        results = [Classified(each, self._event(each, error=each.reason)) for each in windows]
        if usable:
            waveforms, mask, levels = self._batch([recording for *_, recording in usable])
            quiet_s = np.array([(x.quiet_start_s, x.quiet_end_s) for x in levels], np.float32)
            prediction = self.predict(waveforms, mask, np.nan_to_num(quiet_s))
            arrays = [column.cpu().numpy() for column in prediction]
            for number, (place, window, recording) in enumerate(usable):
                n = len(recording.waveforms)
                log_probs, *of_sensors = (column[number] for column in arrays)
                if not np.isfinite(log_probs).all():  # NaN would pass argmax and comparisons
                    reason = "the network's output is not finite; try precision=32-true"
                    results[place] = Classified(window, self._event(window, error=reason))
                    continue
                results[place] = self._classified(
                    window,
                    recording,
                    levels[number],
                    waveforms[number, :n],
                    log_probs,
                    *(column[:n] for column in of_sensors),
                )
        return results

    def predict(
        self, waveforms: np.ndarray, mask: np.ndarray, quiet_s: np.ndarray | None = None
    ) -> Prediction:
        """Apply the model to events (B, S, T) with the mask (B, S) of their usable channels.

        ``quiet_s`` (B, 2) is the quiet part of each event; None measures it where it is needed.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model.predict_events(
                torch.from_numpy(waveforms).to(self.device),
                self.config.ensemble,
                torch.from_numpy(mask).to(self.device),
                None if quiet_s is None else torch.from_numpy(quiet_s),
            )

    def _require_usable(self, window: EventWindow) -> EventWindow:
        """Return the window; with a ``reason`` if its recording cannot be used."""
        if window.recording is None:
            return window
        waveforms, needed = window.recording.waveforms, self.model.least_samples
        found_s, needed_s = waveforms.shape[1] / self.rate_hz, needed / self.rate_hz
        if not live_channels(waveforms[:, : self.n_samples]).any():
            reason = (
                f"no usable channel (every channel is constant in the first {self.duration_s:g} s)"
            )
        elif waveforms.shape[1] < needed:
            reason = f"{found_s:g} s are too short: at least {needed_s:g} s are needed"
        else:
            return window
        return replace(window, reason=reason)

    def _batch(
        self, recordings: Sequence[Recording]
    ) -> tuple[np.ndarray, np.ndarray, list[Levels]]:
        """Return waveforms (B, S, T), cut or padded to the model's length, mask (B, S) and levels.

        The mask is True for channels that are not constant.
        """
        n_sensors = max(len(recording.waveforms) for recording in recordings)
        waveforms = np.zeros((len(recordings), n_sensors, self.n_samples), np.float32)
        mask = np.zeros((len(recordings), n_sensors), bool)
        levels = []
        for row, recording in enumerate(recordings):
            block = fit_length(recording.waveforms, self.n_samples)
            waveforms[row, : len(block)] = block
            mask[row, : len(block)] = live_channels(block)
            filtered = self.model.spectrogram.filtered(torch.from_numpy(block))
            levels.append(measure(filtered.numpy(), self.rate_hz, recorded=block))
        return waveforms, mask, levels

    def _event(self, window: EventWindow, **fields: Any) -> Event:
        recording = window.recording
        return Event(
            **{
                "file": window.file,
                "start_time": "" if recording is None else recording.start_time,
                "trigger_time": window.trigger_time,
                "picks": window.picks,
                "probabilities": dict.fromkeys(self.class_names),
                "model": self.fingerprint,
                "settings": self.settings,
                "left_out": () if recording is None else recording.left_out,
                "padded": () if recording is None else recording.padded,
                **fields,
            }
        )

    def _classified(
        self,
        window: EventWindow,
        recording: Recording,
        levels: Levels,
        waveforms: np.ndarray,
        log_probs: np.ndarray,
        sensor_log_probs: np.ndarray,
        weights: np.ndarray,
        ratio: np.ndarray,
    ) -> Classified:
        """Turn one event's prediction into an ``Event``."""
        probabilities, took_part = np.exp(log_probs), weights > 0
        best = int(log_probs.argmax())
        n_usable, confidence = int((ratio >= USABLE_RATIO).sum()), float(probabilities[best])
        noise_s = self._noise_s(levels)
        peak_counts, duration_s = peak_and_duration(
            waveforms, int(ratio.argmax()), self.rate_hz, noise_s
        )
        event = self._event(
            window,
            class_name=self.class_names[best],
            confidence=confidence,
            probabilities=self._named(probabilities),
            entropy=float(-(probabilities * log_probs).sum()),
            agreement=float((sensor_log_probs[took_part].argmax(-1) == best).mean()),
            sensors=int(took_part.sum()),
            usable_sensors=n_usable,
            review_reason="; ".join(self._why_review(recording, levels, confidence, n_usable)),
            per_sensor=self._sensors(recording, sensor_log_probs, weights, ratio),
            best_channel=recording.channels[int(ratio.argmax())]
            if recording.channels and ratio.any()
            else "",
            peak_counts=peak_counts,
            duration_s=duration_s,
        )
        onset_s = levels.onset_s if self.model.quiet_noise else self.pre_trigger_s
        return Classified(window, event, waveforms, onset_s)

    def _noise_s(self, levels: Levels) -> tuple[float, float]:
        """Return start and end (s after the first sample) of what the model takes for noise."""
        if self.model.quiet_noise and np.isfinite(levels.quiet_end_s):
            return levels.quiet_start_s, levels.quiet_end_s
        return 0.0, NOISE_SHARE * self.pre_trigger_s

    def _sensors(
        self,
        recording: Recording,
        log_probs: np.ndarray,
        weights: np.ndarray,
        ratio: np.ndarray,
    ) -> tuple[Sensor, ...]:
        """Return what each channel says; a model of the previous study has one, the stack."""
        stacked = self.model.trace_kind == "stacked_trace"
        names = ("stack of all",) if stacked else recording.channels
        nothing = dict.fromkeys(self.class_names)
        return tuple(
            Sensor(
                channel=name,
                signal_to_noise=None if stacked else float(snr),
                weight=float(weight),
                class_name=self.class_names[int(own.argmax())] if weight > 0 else "",
                probabilities=self._named(np.exp(own)) if weight > 0 else nothing,
            )
            for name, snr, weight, own in zip(names, ratio, weights, log_probs)
        )

    def _named(self, probabilities: np.ndarray) -> dict[str, float | None]:
        return dict(zip(self.class_names, map(float, probabilities)))

    def _why_review(
        self, recording: Recording, levels: Levels, confidence: float, n_usable: int
    ) -> list[str]:
        """Return reasons why a person should review the event; empty if there are none."""
        reasons = low_confidence(confidence, self.threshold, self.config.error_rate)
        if n_usable == 0:
            reasons.append("no sensor shows an event over its own noise")
        return reasons + unlike_training(self.model, recording, levels)


def _threshold(model: EventNetwork, config: PredictConfig) -> float:
    if config.min_confidence is not None:
        return config.min_confidence
    if not model.calibrations:
        log.info(
            "The checkpoint has no calibration: probabilities are those of the network, and no "
            "event is flagged for low confidence. Train with dataset.calibration_ratio above 0, "
            "or set min_confidence."
        )
        return 0.0
    calibration = model.calibrations[config.ensemble]
    threshold = calibration.threshold(config.error_rate)
    n_events, percent = len(calibration.correct), 100 * config.error_rate
    flagged = f"For {percent:g} % errors, events with a confidence below {threshold:.3f} are"
    if threshold > 1:
        flagged = (
            f"Too many of these are wrong at any confidence, or they are too few, to promise "
            f"{percent:g} % errors (error_rate): all events are"
        )
    log.info(
        "Temperature %.3f, from %d held-out events. %s flagged for review",
        calibration.temperature,
        n_events,
        flagged,
    )
    return threshold


def choose_device(config: PredictConfig) -> torch.device:
    """Return the configured GPU; the CPU where there is none."""
    n_gpus = torch.cuda.device_count()
    if config.gpu is None or n_gpus == 0:
        return torch.device("cpu")
    if config.gpu >= n_gpus:
        raise UserError(f"gpu: found {config.gpu}, but this machine has GPUs 0 to {n_gpus - 1}")
    return torch.device("cuda", config.gpu)


def peak_and_duration(
    waveforms: np.ndarray, best: int, sampling_rate_hz: float, noise_s: tuple[float, float]
) -> tuple[float, float]:
    """Return peak amplitude, in units of the recorder, and duration in s, of an event (S, T).

    The waveforms are not filtered, even if the model has a high-pass: tables give amplitudes as
    recorded. Therefore the noise is measured here once more, and not taken from the signal-to-noise
    ratio, which is that of the filtered waveforms.

    The peak is the largest distance from the noise's mean on any channel. The duration is measured
    on channel ``best``, from the first to the last half second, outside of the noise, whose rms is
    at least ``USABLE_RATIO`` times that of the noise; 0 if there is none. ``noise_s`` are start and
    end of the noise.
    """
    frame = max(2, round(FRAME_S * sampling_rate_hz))
    first = round(noise_s[0] * sampling_rate_hz)
    last = max(first + frame, round(noise_s[1] * sampling_rate_hz))
    centred = waveforms - waveforms[:, first:last].mean(axis=1, keepdims=True, dtype=np.float64)
    starts = np.arange(0, waveforms.shape[1] - frame + 1, frame // 2)
    energy = np.concatenate([[0.0], np.square(centred[best]).cumsum()])
    rms = np.sqrt(np.maximum(energy[starts + frame] - energy[starts], 0) / frame)
    is_noise = (starts >= first) & (starts + frame <= last)
    threshold = USABLE_RATIO * np.median(rms[is_noise]) if is_noise.any() else np.inf
    loud = starts[(rms >= threshold) & (rms > 0) & ~is_noise]
    duration_s = float(loud[-1] + frame - loud[0]) / sampling_rate_hz if loud.size else 0.0
    return float(np.abs(centred).max()), duration_s


def low_confidence(confidence: float, threshold: float, error_rate: float) -> list[str]:
    """Return a reason if the confidence is below the threshold that keeps ``error_rate``."""
    if confidence >= threshold:
        return []
    if threshold > 1:
        return [
            "the held-out events of the training allow no confidence threshold for "
            f"{100 * error_rate:g} % errors"
        ]
    return [f"confidence {_below(confidence, threshold)}"]


def unlike_training(model: EventNetwork, recording: Recording, levels: Levels) -> list[str]:
    """Return reasons if an event differs from the training events: length, sampling rate, levels.

    ``levels`` are those of the event at the model's sampling rate and length.
    """
    reasons, known = [], model.levels or {}
    rate_hz, own_rate_hz = model.spectrogram.sampling_rate_hz, recording.own_rate_hz
    if own_rate_hz < MIN_RATE_FRACTION * known.get("rate_hz", rate_hz):
        share = 100 * own_rate_hz / rate_hz
        reasons.append(f"recorded at {own_rate_hz:g} Hz: {share:.2g} % of the model's frequencies")
    found_s, wanted_s = (n / rate_hz for n in (recording.waveforms.shape[1], model.n_samples))
    if found_s < MIN_LENGTH_FRACTION * wanted_s:
        reasons.append(f"only {found_s:g} s of {wanted_s:g} s")
    for name in ("noise", "signal"):
        reasons += _far_outside(name, getattr(levels, name), known.get(name))
    return reasons


def _far_outside(name: str, level: float, known: list[float] | None) -> list[str]:
    """Return a reason if a level is far outside of a range, as with other units or another gain."""
    if known is None or not level > 0:
        return []
    low, high = known
    if level > FAR_OUTSIDE * high:
        return [f"{name} {level / high:.2g} times above that of the training events (units?)"]
    if level < low / FAR_OUTSIDE:
        return [f"{name} {low / level:.2g} times below that of the training events (units?)"]
    return []


def _below(smaller: float, larger: float) -> str:
    """Write two numbers with as many digits as it takes to see which is smaller."""
    digits = next(n for n in range(3, 18) if f"{smaller:.{n}f}" != f"{larger:.{n}f}")
    return f"{smaller:.{digits}f} below {larger:.{digits}f}"
