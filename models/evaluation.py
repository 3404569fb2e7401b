"""Metrics of a classifier, and the effective rank of representations."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.calibration import expected_calibration_error

N_CALIBRATION_BINS = 15


def evaluate(
    log_probs: Tensor,
    labels: Tensor,
    events: Tensor | None = None,
    learned: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Return the metrics of log-probabilities (N, K) with labels (N,), as plain numbers and lists.

    Rows are events, or channels: then ``events`` (N,) has the event number of each, and the
    channels of an event share the weight of one event in every metric. Balanced accuracy and macro
    F1 are means over the classes that could be learned, see ``class_means``. Standard errors are
    over events (binomial, if rows are events). ``recall`` has K values, None for classes without
    labels; ``confusion`` is K x K with one row per true class, in events.
    """
    if events is None:
        return _evaluate(log_probs, labels, learned)
    _, ids, n_channels = np.unique(events.numpy(), return_inverse=True, return_counts=True)
    weights = torch.from_numpy(1 / n_channels[ids])
    return _evaluate(log_probs, labels, learned, torch.from_numpy(ids), weights)


def class_means(
    confusion: np.ndarray, learned: Sequence[bool] | None = None
) -> tuple[np.ndarray, float, float]:
    """Return the recall of each class (K,), balanced accuracy and macro F1 of a confusion matrix.

    ``confusion`` is (K, K), a row per true class; recall is NaN for a class without labels.
    Balanced accuracy is the mean recall, macro F1 the mean F1 over the classes that were labelled
    or predicted; both only of the classes that are ``learned`` (K,): a class without weight in
    training, such as Noise at Åknes, is never predicted. None: all classes.
    """
    true, found, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    nothing = np.full(len(confusion), np.nan)
    recall = np.divide(right, true, out=nothing.copy(), where=true > 0)
    f1 = np.divide(2 * right, true + found, out=nothing.copy(), where=true + found > 0)
    counted = np.ones(len(confusion), bool) if learned is None else np.asarray(learned, bool)
    return recall, float(np.nanmean(recall[counted])), float(np.nanmean(f1[counted]))


def _evaluate(
    log_probs: Tensor,
    labels: Tensor,
    learned: Sequence[bool] | None,
    ids: Tensor | None = None,
    weights: Tensor | None = None,
) -> dict[str, Any]:
    """Evaluate rows; those with the same number in ``ids`` (N,) belong to one event."""
    n_classes, predicted = log_probs.shape[1], log_probs.argmax(1)
    ids = torch.arange(len(labels)) if ids is None else ids
    confusion = (
        torch.bincount(labels * n_classes + predicted, weights, minlength=n_classes**2)
        .view(n_classes, n_classes)
        .numpy()
    )
    recall, balanced_accuracy, macro_f1 = class_means(confusion, learned)
    n_events = int(ids.max()) + 1
    nll = torch.nn.functional.nll_loss(log_probs, labels, reduction="none").double()
    error, errors = _standard_errors(predicted == labels, labels, ids, n_events, n_classes)
    return {
        "n_events": n_events,
        "accuracy": float(confusion.diagonal().sum() / n_events),
        "accuracy_standard_error": error,
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": macro_f1,
        "nll": float(torch.nn.functional.nll_loss(log_probs, labels))
        if weights is None
        else float((nll * weights).sum() / n_events),
        "expected_calibration_error": expected_calibration_error(
            log_probs.exp().amax(1), predicted == labels, N_CALIBRATION_BINS, weights
        ),
        "recall": _plain(recall),
        "recall_standard_error": _plain(errors),
        "confusion": confusion.tolist(),
    }


def _standard_errors(
    right: Tensor, labels: Tensor, ids: Tensor, n_events: int, n_classes: int
) -> tuple[float, np.ndarray]:
    """Return the standard errors of the accuracy and of each recall (K,), NaN without labels.

    They come from the variance over events of the share of right rows; if every event has one row,
    this is the binomial variance.
    """
    n_rows = torch.bincount(ids, minlength=n_events)
    share = torch.bincount(ids, right.double(), minlength=n_events) / n_rows
    label = torch.zeros_like(n_rows).scatter_(0, ids, labels)
    count, total, squares = (
        torch.bincount(label, values, minlength=n_classes)
        for values in (torch.ones_like(share), share, share.square())
    )
    variance = (squares / count - (total / count).square()).clamp(min=0)
    of_all = (share.square().mean() - share.mean().square()).clamp(min=0)
    return math.sqrt(float(of_all) / len(share)), (variance / count).sqrt().numpy()


def _plain(values: np.ndarray) -> list[float | None]:
    """Return plain numbers; None for NaN."""
    return [None if math.isnan(value) else float(value) for value in values]


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
