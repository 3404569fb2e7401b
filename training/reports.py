"""Reports of a run: plots, summary.json, predictions.npz, results in the log."""

import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from models.calibration import FEW_EVENTS, temper
from models.ensemble import Evaluation
from models.evaluation import evaluate
from models.event_classifier import EventClassifier
from preprocessing.channels import UNLABELED
from preprocessing.data_module import EventDataModule
from training.callbacks import stoppable
from training.loggers import log_pictures
from training.runs import LAST_CHECKPOINT, METRICS, PREDICTIONS, Run
from training.saving import now_utc, plain_metrics, save_atomically
from training.training_plots import (
    plot_calibration,
    plot_confusion,
    plot_event_sheet,
    plot_loss_curves,
    plot_recall,
)
from utils.files import atomic, file_name

log = logging.getLogger(__name__)

N_SAMPLE_SHEETS = 4  # at most so many pictures of sample events
WATCHED = {
    "all": "Test events, with all channels, are only watched: nothing is chosen by them",
    "one": "Test events, with one channel each, are only watched: nothing is chosen by them",
}


def draw_samples(run: Run, module: pl.LightningModule, data: EventDataModule) -> None:
    """Draw the spectrogram images of one training event per class, for a few classes."""
    archive = data.archive
    labels = archive.labels[data.train_events]
    for name in [*data.class_names, UNLABELED]:
        members = data.train_events[labels == name]
        if not len(members) or len(list(run.plots.glob("event_*.png"))) >= N_SAMPLE_SHEETS:
            continue
        event = int(members[0])
        images = module.get_submodule("spectrogram")(
            torch.from_numpy(archive.waveforms(event))
        ).numpy()
        plot_event_sheet(
            images,
            archive.channels(event),
            archive.live[event],
            archive.n_samples / archive.sampling_rate_hz,
            archive.sampling_rate_hz / 2,
            f"{archive.names[event]} (class {name})",
            run.plots / f"event_{file_name(name)}.png",
        )


def report_pretraining(run: Run, trainer: pl.Trainer, data: EventDataModule) -> None:
    """Write summary and plots of a pretraining; log its last metrics."""
    if not trainer.is_global_zero:
        return
    with open(run.dir / METRICS, newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    metrics = {name: float(value) for name, value in last.items() if value}
    _write_curves_and_summary(run, trainer, data, metrics, [])
    shown = ("train/loss", "val/loss", "val/z_std", "val/knn_accuracy")
    log.info("%s", "  ".join(f"{name} {metrics[name]:.4f}" for name in shown if name in metrics))


def report_classifier(
    run: Run, trainer: pl.Trainer, module: EventClassifier, data: EventDataModule, **facts: Any
) -> None:
    """Evaluate on the test events; write predictions, plots and summary; log a table of results.

    ``facts`` are added to the summary.
    """
    with stoppable(run):
        trainer.test(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    metrics, names = module.test_metrics(), module.class_names
    save_predictions(run, _test_outputs(module), data)
    shown = {
        kind: values for kind, values in metrics.items() if kind in ("ensemble", module.trace_kind)
    }
    plots = [plot_recall(shown, names, run.plots / "recall.png")]
    for kind, values in shown.items():
        title = f"{kind.replace('_', ' ')}: accuracy {_percent_accuracy(values)}"
        plots.append(
            plot_confusion(values["confusion"], names, title, run.plots / f"confusion_{kind}.png")
        )
    if module.calibrations:
        facts["calibration"] = report_calibration(run, module)
        plots.append(run.plots / "calibration.png")
    complete_checkpoint(run, module)
    facts["learned_classes"] = module.learned_classes.tolist()
    _write_curves_and_summary(run, trainer, data, metrics, plots, **facts)
    log.info("%s", results_table(metrics))


def complete_checkpoint(run: Run, module: EventClassifier) -> None:
    """Add to last.ckpt what is known after the test: metrics, date, calibration."""
    path = run.dir / LAST_CHECKPOINT
    if not path.is_file():
        return
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    known = checkpoint.get("about", {})
    checkpoint["about"] = known | {"metrics": plain_metrics(module), "date": now_utc()}
    if module.calibrations:
        checkpoint["calibrations"] = {
            kind: of_ensemble.state() for kind, of_ensemble in module.calibrations.items()
        }
    save_atomically(checkpoint, path)


def report_calibration(run: Run, module: EventClassifier) -> dict[str, Any]:
    """Plot the calibration, and return its scores on the test events."""
    calibration, evaluation = module.calibrations["all"], _test_outputs(module)
    before, labels = evaluation.log_probs(), evaluation.labels
    after, n_events = temper(before, calibration.temperature), len(calibration.correct)
    plot_calibration(before, after, labels, run.plots / "calibration.png")
    # as in ``calibrate``: an event of another class has a probability near 0 at any temperature
    learned = module.learned_classes[labels]
    scores = {
        name: {
            "nll": float(F.nll_loss(log_probs[learned], labels[learned])),
            "expected_calibration_error": evaluate(log_probs, labels)["expected_calibration_error"],
        }
        for name, log_probs in (("before", before), ("after", after))
    }
    log.info(
        "Temperature %.3f, from %d held-out training events; "
        "on the test events ECE %.3f -> %.3f, NLL %.3f -> %.3f (of classes that are learned)",
        calibration.temperature,
        n_events,
        *(scores[side]["expected_calibration_error"] for side in scores),
        *(scores[side]["nll"] for side in scores),
    )
    if n_events < FEW_EVENTS:
        log.warning(
            "%d held-out events are few to calibrate on (fewer than %d): the temperature stays "
            "near 1, and thresholds are rough. "
            "Raise dataset.calibration_ratio, or label more events",
            n_events,
            FEW_EVENTS,
        )
    return {
        "temperature": calibration.temperature,
        "n_events": n_events,
        "test_events": scores,
    }


def save_predictions(run: Run, evaluation: Evaluation, data: EventDataModule) -> None:
    """Write predictions.npz: labels, and logits of every channel, of the test events."""
    events, labels, logits, mask, ratio = (column.numpy() for column in evaluation)
    content = {
        "events": data.archive.names[events],
        "labels": labels,
        "logits": logits,
        "mask": mask,
        "signal_to_noise": ratio,
    }
    with atomic(run.dir / PREDICTIONS) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, class_names=np.array(data.class_names), **content)


def _write_curves_and_summary(
    run: Run,
    trainer: pl.Trainer,
    data: EventDataModule,
    metrics: dict[str, Any],
    plots: list[Path],
    **facts: Any,
) -> None:
    pretraining = data.sensors_train == "pair"
    watched = () if pretraining else ("test events", WATCHED[data.sensors_test])
    curves = plot_loss_curves(run.dir / METRICS, run.plots / "curves.png", *watched)
    log_pictures(
        trainer, [path for path in (curves, *plots, *sorted(run.plots.glob("event_*.png"))) if path]
    )
    summary = run.write_summary(data, metrics, precision=trainer.precision, **facts)
    for logger in trainer.loggers:
        logger.finalize("success")
    log.info("Summary: %s", summary)


def _test_outputs(module: EventClassifier) -> Evaluation:
    assert module.evaluation is not None, "call trainer.test first"
    return module.evaluation


def _percent_accuracy(metrics: dict[str, Any]) -> str:
    return f"{100 * metrics['accuracy']:.1f} ± {100 * metrics['accuracy_standard_error']:.1f} %"


def results_table(metrics: dict[str, dict[str, Any]]) -> str:
    """Return the metrics of each kind of prediction as a text table."""
    lines = [f"{'':<18}{'accuracy':>16}{'balanced':>10}{'macro F1':>10}{'NLL':>8}{'ECE':>8}"]
    for kind, values in metrics.items():
        lines.append(
            f"{kind.replace('_', ' '):<18}{_percent_accuracy(values):>16}"
            f"{100 * values['balanced_accuracy']:>8.1f} %{100 * values['macro_f1']:>8.1f} %"
            f"{values['nll']:>8.3f}{values['expected_calibration_error']:>8.3f}"
        )
    events = next(iter(metrics.values()))["n_events"]
    return "\n".join([*lines, f"{events} test events; ± is the standard error over events"])
