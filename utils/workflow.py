"""The steps that entry scripts are made of: open events, serve them, fit, evaluate, report."""

import csv
import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from models.calibration import FEW_EVENTS, temper
from models.evaluation import evaluate
from models.event_classifier import EventClassifier, balanced_class_weights
from preprocessing.dataset import EventDataModule, Sensors
from preprocessing.sensors import least_samples
from preprocessing.sources import open_source
from preprocessing.spectrogram import LogSpectrogram
from preprocessing.splits import hold_out
from preprocessing.storage import UNLABELED, EventArchive
from preprocessing.views import MIN_COLUMNS_TO_CROP, crop_columns
from utils.callbacks import save_atomically, stoppable
from utils.checkpoints import require_fitting
from utils.config import ConfigError, FinetuneConfig, OriginalConfig, RunConfig
from utils.loggers import log_pictures
from utils.names import ALEXNET_MIN_PIXELS
from utils.plots import plot_calibration, plot_confusion, plot_event_sheet, plot_loss_curves, plot_recall
from utils.runs import LAST_CHECKPOINT, PREDICTIONS, Run, write_atomically
from utils.training import build_trainer

log = logging.getLogger(__name__)
RARE_AT_AKNES = ("Noise",)  # 8 of 1818 events; the paper gives them weight 0 [L22]
N_SAMPLE_SHEETS = 4
LEAST_PIXELS_IN_BF16 = 17  # a ResNet halves five times


def open_events(config: RunConfig) -> EventArchive:
    """Open the archive that ``config.dataset`` describes, and seed what follows."""
    archive = open_source(config.dataset)
    n_seconds, rate_hz = archive.n_samples / archive.sampling_rate_hz, archive.sampling_rate_hz
    log.info("%d events of up to %d channels, %g s at %g Hz; classes: %s", len(archive), archive.live.shape[1], n_seconds,
             rate_hz, ", ".join(archive.class_names) or "none")  # fmt: skip
    _require_large_images(config, archive)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    return archive


def _require_large_images(config: RunConfig, archive: EventArchive) -> None:
    """Refuse images that are too small for the crops or the network."""
    if archive.n_samples < config.dataset.nperseg:
        raise ConfigError(f"dataset.nperseg: found {config.dataset.nperseg}; events have only {archive.n_samples} samples")
    if config.kind != "ssl" and archive.n_samples < (
        needed := least_samples(archive.sampling_rate_hz, config.dataset.pre_trigger_s)
    ):
        raise ConfigError(f"dataset.pre_trigger_s: found {config.dataset.pre_trigger_s:g}; events have {archive.n_samples} samples, "
                          f"of which noise and event need {needed}")  # fmt: skip
    rows, columns = _image_shape(config, archive)
    least_rows = least_columns = 1
    if config.kind == "ssl":
        least_columns = MIN_COLUMNS_TO_CROP
    elif config.kind == "original" and config.backbone_with_clf_type == "AlexNet":
        least_rows = least_columns = ALEXNET_MIN_PIXELS
    if rows < least_rows or columns < least_columns:
        raise ConfigError(
            f"dataset.resize_size: images have {rows} x {columns} pixels; {least_rows} x {least_columns} are needed here. "
            "Raise resize_size, lower nperseg, or take longer events"
        )
    precision, against_bf16 = config.trainer_params.precision, _against_bf16(config, archive)
    if against_bf16 and precision not in ("32-true", "auto"):
        raise ConfigError(f"trainer_params.precision: found {precision}; {against_bf16}; use auto, 32-true, or larger images")


def _image_shape(config: RunConfig, archive: EventArchive) -> tuple[int, int]:
    return LogSpectrogram(**spectrogram_arguments(config, archive)).image_shape(archive.n_samples)


def _against_bf16(config: RunConfig, archive: EventArchive) -> str:
    """Say why not to train in bf16, on the CPU and with images that become one pixel wide inside a ResNet.

    There, oneDNN's gradient of a strided 3 x 3 convolution holds uninitialised numbers (found with torch 2.15).
    """
    rows, columns = _image_shape(config, archive)
    seen = crop_columns(torch.full((1, 1), 0.5), columns).shape[-1] if config.kind == "ssl" else columns
    on_cpu = not config.trainer_params.gpus or torch.cuda.device_count() == 0
    if not on_cpu or min(rows, seen) >= LEAST_PIXELS_IN_BF16:
        return ""
    return f"bf16 on a CPU gives wrong gradients for images of {rows} x {seen} pixels, fewer than {LEAST_PIXELS_IN_BF16}"


def split_arguments(config: RunConfig, archive: EventArchive) -> dict:
    """Return what the split functions take from archive and configuration."""
    data = config.dataset
    return {"labels": archive.labels, "train_ratio": data.train_data_ratio, "test_ratio": data.test_data_ratio,
            "seed": data.train_test_split_rand_seed, "strategy": data.split, "days": archive.days}  # fmt: skip


def spectrogram_arguments(config: RunConfig, archive: EventArchive) -> dict:
    """Return the arguments of ``LogSpectrogram`` for this archive."""
    data = config.dataset
    return {"sampling_rate_hz": archive.sampling_rate_hz, "nperseg": data.nperseg, "log_scale": data.log_scale,
            "minmax_scale": data.minmax_scale, "resize_size": data.resize_size if data.resize else None}  # fmt: skip


def event_arguments(config: RunConfig, archive: EventArchive) -> dict:
    """Return what a classifier has to know of the events: their image, their length, where they begin."""
    return {"spectrogram": spectrogram_arguments(config, archive), "n_samples": archive.n_samples,
            "pre_trigger_s": config.dataset.pre_trigger_s}  # fmt: skip


def serve_events(config: RunConfig, archive: EventArchive, split: tuple[np.ndarray, np.ndarray], sensors_train: Sensors,
                 sensors_test: Sensors = "all") -> EventDataModule:  # fmt: skip
    """Build the data module of a run; a classifier's holds out training events to calibrate on, if the configuration says so."""
    data, calibration_events = config.dataset, None
    if config.kind != "ssl":
        train, calibration_events = hold_out(
            split[0], archive.labels, data.calibration_ratio, data.train_test_split_rand_seed, data.split, archive.days
        )
        split = train, split[1]
    return EventDataModule(archive, *split, class_names=archive.class_names, batch_size=data.batch_size, seed=config.seed,
                           sensors_train=sensors_train, sensors_test=sensors_test, num_workers=data.num_workers,
                           preload=data.preload, calibration_events=calibration_events)  # fmt: skip


def class_weights(config: FinetuneConfig | OriginalConfig, data: EventDataModule) -> list[float] | None:
    """Return the class weights counted on the training events, or None without ``use_class_weight``."""
    params, names = config.exp_params, data.class_names
    if params.n_classes not in (None, len(names)):
        raise ConfigError(f"exp_params.n_classes: found {params.n_classes}; the data has {len(names)}: {', '.join(names)}")
    unknown = set(params.zero_weight_classes or ()) - set(names)
    if unknown:
        raise ConfigError(f"exp_params.zero_weight_classes: {', '.join(sorted(unknown))} not among {', '.join(names)}")
    if not params.use_class_weight:
        return None
    rare = params.zero_weight_classes
    if rare is None:
        rare = RARE_AT_AKNES if config.dataset.source != "folder" else ()
    without = [number for number, name in enumerate(names) if name in rare]
    return balanced_class_weights(data.labels[data.train_events], len(names), without)


def compare_with_pretraining(seen: list[int] | None, data: EventDataModule) -> dict:
    """Return for the summary how many test events trained the encoder, None if that is not known.

    ``seen`` are the identities that the encoder's file has. Warns if there is one among the test events.
    """
    if seen is None:
        rank_zero_only(log.info)("load_encoder.ckpt_fname: does not say which events pretraining has seen")
        return {"pretraining": {"n_test_events_seen": None}}
    identities = data.archive.identities[data.test_events].tolist()
    n_seen = sum(map(set(seen).__contains__, identities))
    if n_seen:
        rank_zero_only(log.warning)(
            "load_encoder.ckpt_fname: pretraining has seen %d of %d test events (without their labels), "
            "so accuracy on new events may be lower. Pretrain with the same dataset.split, test_data_ratio "
            "and train_test_split_rand_seed, and exclude_test_events true", n_seen, len(identities))  # fmt: skip
    return {"pretraining": {"n_test_events_seen": n_seen}}


def fit(run: Run, module: pl.LightningModule, data: EventDataModule) -> pl.Trainer:
    """Train; draw sample events before and loss curves after."""
    if run.resume_from:
        require_fitting(run.resume_from, module)
    run.start()
    trainer = build_trainer(run, _against_bf16(run.config, data.archive))
    if trainer.is_global_zero:
        draw_samples(run, module, data)
    if trainer.world_size > 1:
        # not the projector's: it sees the whole batch in every process
        module.encoder = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module.encoder)
    with stoppable(run):
        trainer.fit(module, datamodule=data, ckpt_path=run.resume_from, weights_only=True)
    return trainer


def draw_samples(run: Run, module: pl.LightningModule, data: EventDataModule) -> None:
    """Draw all channels of one training event of each of a few classes, as the network sees them."""
    archive = data.archive
    labels = archive.labels[data.train_events]
    for name in [*data.class_names, UNLABELED]:
        members = data.train_events[labels == name]
        if not len(members) or len(list(run.plots.glob("event_*.png"))) >= N_SAMPLE_SHEETS:
            continue
        event = int(members[0])
        images = module.spectrogram(torch.from_numpy(archive.waveforms(event))).numpy()
        plot_event_sheet(images, archive.live[event], archive.n_samples / archive.sampling_rate_hz, archive.sampling_rate_hz / 2,
                         f"{archive.names[event]} (class {name})", run.plots / f"event_{name}.png")  # fmt: skip


def report_pretraining(run: Run, trainer: pl.Trainer, data: EventDataModule) -> None:
    """Write summary and plots of a self-supervised run."""
    if not trainer.is_global_zero:
        return
    with open(run.dir / "metrics.csv", newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    metrics = {name: float(value) for name, value in last.items() if value}
    _finish(run, trainer, data, metrics, [])
    shown = ("train/loss", "val/loss", "val/z_std", "val/knn_accuracy")
    log.info("%s", "  ".join(f"{name} {metrics[name]:.4f}" for name in shown if name in metrics))


def report_classifier(run: Run, trainer: pl.Trainer, module: EventClassifier, data: EventDataModule, **facts) -> None:
    """Evaluate on the test events; write summary, with further ``facts``, and plots; log a short table."""
    with stoppable(run):
        trainer.test(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    metrics, names = module.test_metrics(), module.class_names
    save_predictions(run, module, data)
    shown = {kind: values for kind, values in metrics.items() if kind in ("ensemble", module.trace_kind)}
    plots = [plot_recall(shown, names, run.plots / "recall.png")]
    for kind, values in shown.items():
        title = (
            f"{kind.replace('_', ' ')}: accuracy {100 * values['accuracy']:.1f} ± {100 * values['accuracy_standard_error']:.1f} %"
        )
        plots.append(plot_confusion(values["confusion"], names, title, run.plots / f"confusion_{kind}.png"))
    if module.calibrations:
        facts["calibration"] = report_calibration(run, module)
        plots.append(run.plots / "calibration.png")
    _finish(run, trainer, data, metrics, plots, **facts)
    log.info("%s", results_table(metrics))


def report_calibration(run: Run, module: EventClassifier) -> dict:
    """Put the calibration into the last checkpoint; draw and return what it does to the test events."""
    calibration, labels = module.calibrations["all"], module.evaluation.labels
    path = run.dir / LAST_CHECKPOINT
    if path.is_file():
        states = {kind: of_ensemble.state() for kind, of_ensemble in module.calibrations.items()}
        checkpoint = torch.load(path, map_location="cpu", weights_only=True) | {"calibrations": states}
        save_atomically(checkpoint, path)
    before = module.evaluation.log_probs()
    scores = {name: evaluate(log_probs, labels) for name, log_probs in
              (("before", before), ("after", temper(before, calibration.temperature)))}  # fmt: skip
    kept = {name: {key: values[key] for key in ("nll", "expected_calibration_error")} for name, values in scores.items()}
    plot_calibration(before, temper(before, calibration.temperature), labels, run.plots / "calibration.png")
    log.info("Temperature %.3f, from %d held-out training events; on the test events ECE %.3f -> %.3f, NLL %.3f -> %.3f",
             calibration.temperature, len(calibration.correct), *(kept[side][key] for key in
             ("expected_calibration_error", "nll") for side in ("before", "after")))  # fmt: skip
    if len(calibration.correct) < FEW_EVENTS:
        log.warning("%d held-out events are few to calibrate on (fewer than %d): the temperature stays near 1, and "
                    "thresholds are rough. Raise dataset.calibration_ratio, or label more events",
                    len(calibration.correct), FEW_EVENTS)  # fmt: skip
    return {"temperature": calibration.temperature, "n_events": len(calibration.correct), "test_events": kept}


def save_predictions(run: Run, module: EventClassifier, data: EventDataModule) -> None:
    """Write what every test event's every trace was taken for: predictions.npz, readable without pickle."""
    events, labels, logits, mask, ratio = (column.numpy() for column in module.evaluation)
    content = {"events": data.archive.names[events], "labels": labels, "logits": logits, "mask": mask,
               "signal_to_noise": ratio}  # fmt: skip

    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.savez_compressed(file, class_names=np.array(module.class_names), **content)

    write_atomically(run.dir / PREDICTIONS, write)


def _finish(run: Run, trainer: pl.Trainer, data: EventDataModule, metrics: dict, plots: list[Path], **facts) -> None:
    curves = plot_loss_curves(run.dir / "metrics.csv", run.plots / "curves.png")
    log_pictures(trainer, [path for path in (curves, *plots, *sorted(run.plots.glob("event_*.png"))) if path])
    summary = run.write_summary(data, metrics, precision=trainer.precision, **facts)
    for logger in trainer.loggers:
        logger.finalize("success")
    log.info("Summary: %s", summary)


def results_table(metrics: dict[str, dict]) -> str:
    """Put the metrics of each kind of prediction into a table of a few lines."""
    lines = [f"{'':<18}{'accuracy':>16}{'balanced':>10}{'macro F1':>10}{'NLL':>8}{'ECE':>8}"]
    for kind, values in metrics.items():
        accuracy = f"{100 * values['accuracy']:.1f} ± {100 * values['accuracy_standard_error']:.1f} %"
        lines.append(
            f"{kind.replace('_', ' '):<18}{accuracy:>16}{100 * values['balanced_accuracy']:>8.1f} %{100 * values['macro_f1']:>8.1f} %"
            f"{values['nll']:>8.3f}{values['expected_calibration_error']:>8.3f}"
        )
    events = next(iter(metrics.values()))["n_events"]
    return "\n".join([*lines, f"{events} test events; ± is the binomial standard error over events"])
