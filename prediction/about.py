"""Describe a model for ``--describe``: classes, input, training events, metrics."""

from typing import Any

from prediction.predictor import Predictor

UNKNOWN = "not in the checkpoint"


def describe(predictor: Predictor, name: str) -> str:
    """Return several lines about a model; what older checkpoints lack is named as such."""
    model, about = predictor.model, predictor.model.about
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    network = f"{model.backbone_type}, {n_parameters:,} parameters"
    if model.trace_kind == "stacked_trace":
        network += ", on the stack of all channels (previous study)"
    lines = {
        "model": f"{name} ({predictor.fingerprint})",
        "network": network,
        "classes": ", ".join(model.class_names) + _never(predictor),
        "input": f"{predictor.duration_s:g} s at {predictor.rate_hz:g} Hz, beginning "
        f"{_beginning(predictor)}; any number of channels",
        "waveforms": _changes(predictor),
        "trained on": _training_set(about),
        "sensors": _sensors(about),
        "levels": _levels(predictor),
        "calibration": _calibration(predictor),
        **_metrics(about),
        "date": about.get("date", UNKNOWN),
        "versions": _versions(about),
    }
    width = max(map(len, lines))
    return "\n".join(f"{title:<{width}}  {text}" for title, text in lines.items())


def _beginning(predictor: Predictor) -> str:
    """Say how long before the event or its trigger the model's windows begin."""
    seconds = f"{predictor.pre_trigger_s:.3g} s before"
    if predictor.model.quiet_noise:
        return f"{seconds} the event (median of the training events, found in their waveforms)"
    return f"{seconds} the trigger"


def _changes(predictor: Predictor) -> str:
    """Say what is done to waveforms before their spectrograms are made."""
    scale = predictor.model.spectrogram.amplitude_scale
    corner_hz = predictor.model.spectrogram.highpass_hz
    done = [] if scale == 1 else [f"multiplied by {scale:.4g}"]
    if corner_hz is not None:
        done.append(f"zero-phase high-pass at {corner_hz:g} Hz")
    return ", ".join(done) or "used as they are"


def _never(predictor: Predictor) -> str:
    """Name the classes that were left out of the loss."""
    learned = predictor.model.learned_classes.tolist()
    names = [name for name, known in zip(predictor.class_names, learned) if not known]
    return f" (not learned: {', '.join(names)})" if names else ""


def _training_set(about: dict[str, Any]) -> str:
    if "n_train" not in about:
        return UNKNOWN
    counts = ", ".join(f"{name} {n}" for name, n in about["n_train_of_class"].items())
    days = " to ".join(dict.fromkeys(about.get("days", [])))
    return (
        f"{about['n_train']} events ({counts})"
        + (f" of {days}" if days else "")
        + f"; source {about['source']}, archive {about['archive']} ({about['fingerprint']})"
    )


def _sensors(about: dict[str, Any]) -> str:
    if "sensors" not in about:
        return UNKNOWN
    least, most = about["sensors"]
    return f"{most} channels" if least == most else f"{least} to {most} channels"


def _levels(predictor: Predictor) -> str:
    """Say the ranges of noise and signal of the training events."""
    levels = predictor.model.levels
    if not levels:
        return UNKNOWN
    ranges = [
        f"{name} {levels[name][0]:.3g} to {levels[name][1]:.3g}"
        for name in ("noise", "signal")
        if levels[name]
    ]
    corner_hz = predictor.model.spectrogram.highpass_hz
    filtered = "" if corner_hz is None else f" above {corner_hz:g} Hz"
    return f"{', '.join(ranges) or UNKNOWN} (rms{filtered}, in the units of the training events)"


def _calibration(predictor: Predictor) -> str:
    calibrations = predictor.model.calibrations
    if not calibrations:
        return "none: probabilities are those of the network"
    found = calibrations[predictor.config.ensemble]
    return f"temperature {found.temperature:.3f}, from {len(found.correct)} events"


def _metrics(about: dict[str, Any]) -> dict[str, str]:
    """Return a line of metrics per kind of prediction."""
    if "metrics" not in about:
        return {"test": UNKNOWN}
    return {
        kind.replace("_", " "): f"accuracy {100 * found['accuracy']:.1f} ± "
        f"{100 * found['accuracy_standard_error']:.1f} %, balanced "
        f"{100 * found['balanced_accuracy']:.1f} %, ECE {found['expected_calibration_error']:.3f} "
        f"on {found['n_events']} test events"
        for kind, found in about["metrics"].items()
    }


def _versions(about: dict[str, Any]) -> str:
    found = about.get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in found.items()) or UNKNOWN
