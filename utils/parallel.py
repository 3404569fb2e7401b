"""Do one thing to many items on all cores, in order, with few results waiting in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

WAITING_PER_WORKER = 8


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], n_workers: int | None = None, few: int = WAITING_PER_WORKER
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by ``n_workers`` processes (default: a process per core).

    At most ``few`` items are not worth starting processes. These are spawned (a fork of a process in which PyTorch has
    started threads may hang), so a script that calls this needs its ``if __name__ == "__main__"``.
    """
    n_workers = min(n_workers or os.cpu_count() or 1, len(items))
    if n_workers < 2 or len(items) <= few:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(n_workers, mp_context=get_context("spawn")) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > WAITING_PER_WORKER * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
