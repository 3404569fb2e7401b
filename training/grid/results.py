"""Read the results of a finished cell of a grid: metrics and predictions of the test events."""

import json
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from training.grid.cells import Cell
from training.runs import PREDICTIONS, SUMMARY
from utils.errors import UserError

N_SENSOR_DRAWS = 40


class Result(NamedTuple):
    """Results of one cell: metrics by kind of prediction, correct answers and outputs by event."""

    cell: Cell
    n_train: int
    n_test: int
    metrics: dict[str, dict[str, Any]]
    right: dict[str, np.ndarray]  # (N,) by kind of prediction: share of correct channels, or 0, 1
    log_probs: np.ndarray  # (N, S, K), NaN where a sensor does not exist
    labels: np.ndarray  # (N,)


def read_result(cell: Cell) -> Result:
    """Read the results of a finished cell; raises ``UserError`` for damaged files."""
    try:
        summary = json.loads((cell.folder / SUMMARY).read_text(encoding="utf-8"))
        metrics, n_train = summary["metrics"], summary["data"]["n_train"]
        with np.load(cell.folder / PREDICTIONS, allow_pickle=False) as file:
            logits, mask, labels = file["logits"], file["mask"], file["labels"]
        _require_shapes(logits, mask, labels)
        _keep_learned_classes(metrics, summary["learned_classes"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        MemoryError,
        RecursionError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{cell.folder}: {SUMMARY} or {PREDICTIONS} is damaged ({error}); "
            "delete the folder and start again"
        ) from error
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    log_probs[~mask] = np.nan
    single = np.where(mask, log_probs.argmax(-1) == labels[:, None], np.nan)
    right = {
        "single_channel": np.nanmean(single, 1),
        "ensemble": np.nanmean(log_probs, 1).argmax(-1) == labels,
    }
    right["stacked_trace"] = right["ensemble"]
    return Result(cell, n_train, len(labels), metrics, right, log_probs, labels)


def _keep_learned_classes(metrics: dict[str, dict[str, Any]], learned: list[bool]) -> None:
    """Leave out the recall of classes without weight, see ``models.evaluation.class_means``.

    Runs of before 0.1.0 had means over all classes in their summaries.
    """
    from models.evaluation import class_means

    for values in metrics.values():
        confusion = np.array(values["confusion"], float)
        _, values["balanced_accuracy"], values["macro_f1"] = class_means(confusion, learned)
        values["recall"] = [r if known else None for r, known in zip(values["recall"], learned)]


def _require_shapes(logits: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> None:
    """Raise ``ValueError`` unless these are logits (N, S, K), mask (N, S) and labels (N,)."""
    if (
        logits.ndim != 3
        or logits.dtype.kind != "f"
        or mask.dtype != bool
        or labels.dtype.kind != "i"
    ):
        raise ValueError("wrong types or numbers of dimensions")
    if (
        mask.shape != logits.shape[:2]
        or labels.shape != logits.shape[:1]
        or not mask.any(axis=1).all()
    ):
        raise ValueError("shapes of arrays do not agree")


def accuracy_over_sensors(result: Result, seed: int = 0) -> np.ndarray:
    """Return the accuracy (S,) of ensembles of 1 to S random sensors, mean over many draws."""
    rng = np.random.default_rng(seed)
    n_events, n_sensors, _ = result.log_probs.shape
    accuracy = np.zeros((N_SENSOR_DRAWS, n_sensors))
    for number in range(N_SENSOR_DRAWS):
        # existing sensors first, in random order; missing ones add nothing to the sum
        key = rng.random((n_events, n_sensors)) + np.isnan(result.log_probs[..., 0])
        order = np.argsort(key, axis=1)[..., None]
        summed = np.nancumsum(np.take_along_axis(result.log_probs, order, axis=1), axis=1)
        accuracy[number] = (summed.argmax(-1) == result.labels[:, None]).mean(0)
    return accuracy.mean(0)
