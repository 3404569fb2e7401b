"""Collect per-event results from all processes, each event once."""

import numpy as np
import torch
from torch import Tensor, distributed


def gather_by_event(events: list[Tensor], *values: list[Tensor]) -> tuple[np.ndarray, ...]:
    """Concatenate batches of event numbers (B,) and values (B, …) over batches and processes; sorted, no event twice."""
    local = tuple(torch.cat(batches).cpu().numpy() for batches in (events, *values))
    parts = [local]
    if distributed.is_available() and distributed.is_initialized():
        parts = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, local)
    numbers, *columns = (np.concatenate(column) for column in zip(*parts))
    numbers, first = np.unique(numbers, return_index=True)
    return numbers, *(column[first] for column in columns)
