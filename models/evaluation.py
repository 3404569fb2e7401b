"""Metrics of a classifier: accuracy, F1, recall, NLL, calibration error, confusion matrix."""

import math

import numpy as np
import torch
from torch import Tensor

N_CALIBRATION_BINS = 15


def evaluate(log_probs: Tensor, labels: Tensor, n_events: int | None = None) -> dict:
    """Return the metrics of log-probabilities (N, K) with labels (N,), as plain numbers and lists.

    Balanced accuracy is the mean over the classes with labels, macro F1 the mean over the classes
    that were labelled or predicted. ``accuracy_standard_error`` is binomial with ``n_events``
    trials (default N): channels of one event are not independent. ``recall`` has K values, None for
    classes without labels; ``confusion`` is K x K with one row per true class.
    """
    from torchmetrics.functional.classification import multiclass_calibration_error

    n_classes, predicted = log_probs.shape[1], log_probs.argmax(1)
    confusion = (
        torch.bincount(labels * n_classes + predicted, minlength=n_classes**2)
        .view(n_classes, n_classes)
        .numpy()
    )
    true, found, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    recall = np.divide(right, true, out=np.full(n_classes, np.nan), where=true > 0)
    f1 = np.divide(2 * right, true + found, out=np.full(n_classes, np.nan), where=true + found > 0)
    accuracy = float(right.sum() / len(labels))
    n_events = n_events or len(labels)
    ece = multiclass_calibration_error(
        log_probs.exp(), labels, n_classes, n_bins=N_CALIBRATION_BINS
    )
    return {
        "n_events": n_events,
        "accuracy": accuracy,
        "accuracy_standard_error": math.sqrt(accuracy * (1 - accuracy) / n_events),
        "balanced_accuracy": float(np.nanmean(recall)),
        "macro_f1": float(np.nanmean(f1)),
        "nll": float(torch.nn.functional.nll_loss(log_probs, labels)),
        "expected_calibration_error": float(ece),
        "recall": [None if math.isnan(r) else float(r) for r in recall],
        "confusion": confusion.tolist(),
    }
