"""Do one thing to many items on all cores, in order, with few results waiting in memory."""

import ctypes
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from utils.workers import SpawnedWorkers

Item, Result = TypeVar("Item"), TypeVar("Result")

WAITING_PER_WORKER = 8
TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_workers: int | None = None,
    max_serial: int = WAITING_PER_WORKER,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by ``n_workers`` processes (default: a process per core).

    Up to ``max_serial`` items are computed in this process. Others are spawned (a fork of a process in which PyTorch has
    started threads may hang), so a script that calls this needs its ``if __name__ == "__main__"``.
    """
    n_workers = min(n_workers or os.cpu_count() or 1, len(items))
    if n_workers < 2 or len(items) <= max_serial:
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(n_workers, SpawnedWorkers(), _begin, (os.getpid(),))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > WAITING_PER_WORKER * n_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # nobody waits for the rest when this is stopped


def _begin(parent: int) -> None:
    """Let a working process keep its memory, and end soon after its parent, however that ends."""
    keep_freed_memory()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ahead(items: Iterator[Item], n_waiting: int = 2) -> Iterator[Item]:
    """Yield the same items, computed by a thread up to ``n_waiting`` ahead of who takes them; close ``items`` at the end."""
    thread, end = ThreadPoolExecutor(1), object()
    try:
        waiting: deque[Future] = deque(thread.submit(next, items, end) for _ in range(n_waiting))
        while waiting:
            item = waiting.popleft().result()
            if item is end:
                break
            waiting.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        if isinstance(items, Generator):
            items.close()


def keep_freed_memory() -> None:
    """Let the GNU C library keep memory that is freed for what is allocated next; other C libraries stay as they are.

    It otherwise returns large blocks to the system, which zeroes every page again when the next training step asks for
    them: a quarter of the time of a step on large images (docs/speed.md).
    """
    if libc := _gnu_libc():
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, -1)  # never


def _gnu_libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such library
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
