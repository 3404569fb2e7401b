"""Ensemble prediction: average what one network says of each sensor. [L22]"""

import torch
from torch import Tensor
from torch.nn import functional as F


def ensemble_log_probs(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average log-probabilities over sensors and renormalise: (B, S, K) -> (B, K) float32. [L22]

    ``weights`` (B, S) says what each sensor counts: a mask, True where it takes part, or numbers >= 0. An event without any
    gets the uniform distribution.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    if weights is None:
        return F.log_softmax(log_probs.mean(1), dim=-1)
    weights = weights.float()[..., None]
    # where, not multiplication: a masked sensor's logits may be anything, NaN included
    total = torch.where(weights > 0, log_probs * weights, 0).sum(1)
    return F.log_softmax(total / weights.sum(1).clamp(min=torch.finfo(torch.float32).tiny), dim=-1)
