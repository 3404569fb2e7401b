"""Adam with a cosine schedule over the exact number of optimiser steps, as all three trainings use it. [L22]"""

from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR


def adam_with_cosine(parameter_groups: list[dict], weight_decay: float, n_steps: int) -> dict:
    """Return what Lightning's ``configure_optimizers`` wants: learning rates fall to 0, one step per optimiser step."""
    groups = [
        {**group, "params": [p for p in group["params"] if p.requires_grad]}
        for group in parameter_groups
    ]
    optimizer = Adam([group for group in groups if group["params"]], weight_decay=weight_decay)
    schedule = CosineAnnealingLR(optimizer, T_max=max(1, n_steps), eta_min=0.0)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
