"""Weights of classes, and the cross-entropy that uses them. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from utils.distributed import mean_over_processes

NOT_COUNTED = -100  # the label of samples that the loss leaves out


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Return the class-weighted mean cross-entropy of logits (N, K) with labels (N,). [L22]

    Samples of a class with weight 0 do not count: they add exactly 0 to loss and gradient, at any
    ``label_smoothing``. The result is computed in float32, and 0 without samples that count. With
    several processes, the mean of their values is the weighted mean over the samples of all.
    """
    of_labels = class_weights[labels]
    # the smoothed part of a sample's loss is not multiplied by the weight of its label
    counted = torch.where(of_labels > 0, labels, NOT_COUNTED)
    total = F.cross_entropy(
        logits.float(),
        counted,
        class_weights,
        ignore_index=NOT_COUNTED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
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
