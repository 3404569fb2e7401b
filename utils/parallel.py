"""Apply a function to many items on all cores; keep freed memory for reuse."""

import ctypes
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from utils.workers import SpawnedWorkers, signals_deferred

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING_PER_WORKER = 8
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_workers: int | None = None,
    max_serial: int = WAITING_PER_WORKER,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by several processes.

    ``n_workers`` is the number of processes (default: one per core); up to ``max_serial`` items are
    computed in this process. Processes are spawned, because a fork may hang once PyTorch has
    started threads; a script that calls this therefore needs ``if __name__ == "__main__"``.
    """
    n_workers = min(n_workers or os.cpu_count() or 1, len(items))
    if n_workers < 2 or len(items) <= max_serial:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(n_workers, SpawnedWorkers(), keep_freed_memory)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            # submit starts processes: interrupted there, the pool would not wait for their end
            with signals_deferred():
                waiting.append(pool.submit(function, item))
            if len(waiting) > WAITING_PER_WORKER * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(
            cancel_futures=True
        )  # after an error or Ctrl-C the other items are not computed


def prefetch(items: Iterator[Item], n_waiting: int = 2) -> Generator[Item, None, None]:
    """Yield the same items, computed by a thread up to ``n_waiting`` in advance.

    Closes ``items`` at the end if it is a generator.
    """
    thread, end = ThreadPoolExecutor(1), object()
    try:
        waiting: deque[Future[Any]] = deque(
            thread.submit(next, items, end) for _ in range(n_waiting)
        )
        while waiting:
            item = waiting.popleft().result()
            if item is end:
                break
            waiting.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        if isinstance(items, Generator):
            # if a signal came while the thread started, it is still computing an item
            with suppress(ValueError):
                items.close()


def keep_freed_memory() -> None:
    """Let the GNU C library keep freed memory for later use; other C libraries are left alone.

    Otherwise it returns large blocks to the system, which has to zero every page again at the next
    training step: a quarter of the time of a step on large images (docs/speed.md).
    """
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such library
        return
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, -1)  # never return memory
