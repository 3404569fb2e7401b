"""Weights of classes, and the cross-entropy that uses them. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.distributed import mean_over_processes


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Return the class-weighted mean cross-entropy of logits (N, K) with labels (N,). [L22]

    Labels may also be probabilities of the classes (N, K). The result is computed in float32, and 0
    if the classes of all labels have weight 0. With several processes, the mean of their values is
    the weighted mean over the samples of all processes.
    """
    total = F.cross_entropy(
        logits.float(), labels, class_weights, reduction="sum", label_smoothing=label_smoothing
    )
    of_labels = labels @ class_weights if labels.is_floating_point() else class_weights[labels]
    weight = mean_over_processes(of_labels.sum())
    return total / weight.clamp(min=torch.finfo(torch.float32).tiny)


def balanced_class_weights(
    labels: Sequence[int], n_classes: int, without: Sequence[int] = ()
) -> list[float]:
    """Return the weight n / (K' n_c) of each of ``n_classes`` classes. [L22]

    n_c counts class c in the training ``labels``; n and K' are the numbers of events and of classes
    with events. Classes in ``without`` are not counted and get weight 0, as do classes without
    events.
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=n_classes).double()
    counts[list(without)] = 0
    n_counted = int((counts > 0).sum())
    return [float(counts.sum() / (n_counted * n)) if n else 0.0 for n in counts]
