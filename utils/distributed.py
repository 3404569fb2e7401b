"""What several processes need to compute what one computes: whole batches, whole sums, each event once."""

import numpy as np
import torch
from torch import Tensor, distributed


def _n_processes() -> int:
    return (
        distributed.get_world_size()
        if distributed.is_available() and distributed.is_initialized()
        else 1
    )


def gather_batch(x: Tensor) -> Tensor:
    """Put the shares (B, …) of all processes together to the batch (B * world, …) they were dealt from, with gradient.

    Every process then computes the loss of the whole batch, but sends back only the gradient of its own share. DDP takes the
    mean over processes, which is right for what computes on the whole batch; for what computed the shares it is too small by
    the number of processes, so that much is put in here.
    """
    n_processes = _n_processes()
    if n_processes == 1:
        return x
    shares = [torch.empty_like(x) for _ in range(n_processes)]
    distributed.all_gather(shares, x.detach().contiguous())
    own = x.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * n_processes)
    shares[distributed.get_rank()] = own
    return torch.stack(shares, dim=1).flatten(0, 1)  # batches are dealt out event by event


def mean_over_processes(x: Tensor) -> Tensor:
    """Average a number over processes, without gradient."""
    if _n_processes() == 1:
        return x
    total = x.detach().clone()
    distributed.all_reduce(total)
    return total / _n_processes()


def gather_by_event(events: list[Tensor], *values: list[Tensor]) -> tuple[np.ndarray, ...]:
    """Concatenate batches of event numbers (B,) and values (B, …) over batches and processes; sorted, no event twice."""
    local = tuple(torch.cat(batches).cpu().numpy() for batches in (events, *values))
    parts = [local]
    if _n_processes() > 1:
        parts = [None] * _n_processes()
        distributed.all_gather_object(parts, local)
    numbers, *columns = (np.concatenate(column) for column in zip(*parts))
    numbers, first = np.unique(numbers, return_index=True)
    return numbers, *(column[first] for column in columns)
