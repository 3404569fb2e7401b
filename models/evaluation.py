"""Metrics of a classifier, and the effective rank of representations."""

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


def effective_rank(representations: Tensor) -> float:
    """Return how many directions the representations (N, D) use: 1 (collapse) to min(N - 1, D).

    It is exp(entropy of s / sum(s)) of the singular values s of the centred representations. It
    needs no labels: of two pretrainings on the same events, the higher one is often the better
    [Roy & Vetterli, EUSIPCO 2007; Garrido et al., RankMe, arXiv 2210.02885].
    """
    centred = representations.detach().float()
    centred = centred - centred.mean(0)
    singular = torch.linalg.svdvals(centred)
    share = singular / singular.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return float(torch.special.entr(share).sum().exp())
