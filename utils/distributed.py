"""Helpers for several processes: rank, gathered batches, means.

Without ``torch.distributed`` there is one process, and every function returns its input unchanged
or, for ``gather_by_event``, sorted.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed


def rank_and_world_size() -> tuple[int, int]:
    """Return the number of this process and the number of processes: (0, 1) for a single one."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gather_batch(x: Tensor) -> Tensor:
    """Join the shares (B, …) of all processes to the full batch (B * world, …), with gradient.

    Every process computes the loss of the full batch, but the gradient flows only into its own
    share. DDP averages gradients over processes. This is right for layers that saw the full batch;
    for layers that saw one share it is too small by the number of processes, so the gradient of
    the share is multiplied by that number here.
    """
    rank, n_processes = rank_and_world_size()
    if n_processes == 1:
        return x
    shares = [torch.empty_like(x) for _ in range(n_processes)]
    distributed.all_gather(shares, x.detach().contiguous())
    own = x.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * n_processes)
    shares[rank] = own
    return torch.stack(shares, dim=1).flatten(0, 1)  # event i of a batch is in share i % world


def mean_over_processes(x: Tensor) -> Tensor:
    """Average a number over processes, without gradient."""
    _, n_processes = rank_and_world_size()
    if n_processes == 1:
        return x
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total / n_processes


def gather_by_event(events: list[Tensor], *values: list[Tensor]) -> tuple[np.ndarray, ...]:
    """Concatenate event numbers (B,) and their values (B, …) over batches and processes.

    Returns arrays (N,) and (N, …), sorted by event number; an event that came twice is kept once.
    """
    local = tuple(torch.cat(batches).cpu().numpy() for batches in (events, *values))
    parts: list[Any] = [local]
    _, n_processes = rank_and_world_size()
    if n_processes > 1:
        parts = [None] * n_processes
        distributed.all_gather_object(parts, local)
    numbers, *columns = (np.concatenate(column) for column in zip(*parts))
    numbers, first = np.unique(numbers, return_index=True)
    return numbers, *(column[first] for column in columns)
