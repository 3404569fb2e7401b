"""Adam with a cosine schedule, used by all three trainings. [L22]"""

from typing import Any

from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR


def adam_with_cosine(
    parameter_groups: list[dict[str, Any]], weight_decay: float, n_steps: float
) -> OptimizerLRSchedulerConfig:
    """Return the result of Lightning's ``configure_optimizers``.

    ``parameter_groups`` are those of PyTorch's optimisers: ``params`` and ``lr``. Frozen parameters
    are left out. Learning rates fall to 0 after ``n_steps`` optimiser steps.
    """
    groups = [
        {**group, "params": [p for p in group["params"] if p.requires_grad]}
        for group in parameter_groups
    ]
    optimizer = Adam([group for group in groups if group["params"]], weight_decay=weight_decay)
    schedule = CosineAnnealingLR(optimizer, T_max=max(1, int(n_steps)), eta_min=0.0)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
