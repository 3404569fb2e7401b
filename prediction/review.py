"""Why a person should look at an event."""

from models.event_classifier import EventClassifier
from preprocessing.levels import Levels
from preprocessing.recordings import Recording

# of the model's length, and of the lowest sampling rate among its training events
MIN_LENGTH_FRACTION, MIN_RATE_FRACTION = 0.5, 0.8
FAR_OUTSIDE = 10.0  # factor between a level and the range of the training events


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


def unlike_training(model: EventClassifier, recording: Recording, levels: Levels) -> list[str]:
    """Return reasons if an event differs from the training events: length, sampling rate, levels.

    ``levels`` are those of the event at the model's sampling rate and length.
    """
    reasons, known = [], model.hparams["levels"] or {}
    rate_hz, own_rate_hz = model.spectrogram.sampling_rate_hz, recording.own_rate_hz
    if own_rate_hz < MIN_RATE_FRACTION * known.get("rate_hz", rate_hz):
        share = 100 * own_rate_hz / rate_hz
        reasons.append(f"recorded at {own_rate_hz:g} Hz: {share:.2g} % of the model's frequencies")
    found_s, wanted_s = (
        n / rate_hz for n in (recording.waveforms.shape[1], model.hparams["n_samples"])
    )
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
