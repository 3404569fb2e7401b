"""Ensemble prediction: average what one network says of each sensor. [L22]"""

import torch
from torch import Tensor
from torch.nn import functional as F


def ensemble_log_probs(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average log-probabilities over sensors and renormalise: (B, S, K) -> (B, K) float32. [L22]

    ``mask`` (B, S) is True where a sensor takes part. An event without any gets the uniform distribution.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    if mask is None:
        return F.log_softmax(log_probs.mean(1), dim=-1)
    # where, not multiplication: a masked sensor's logits may be anything, NaN included
    total = torch.where(mask[..., None], log_probs, 0).sum(1)
    return F.log_softmax(total / mask.sum(1, keepdim=True).clamp(min=1), dim=-1)
