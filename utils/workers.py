"""Worker processes that ignore Ctrl-C and SIGTERM, and end when the main process ends.

A terminal or a scheduler sends these signals to all processes of a command at once, but only the
main process knows what to save and which message to print.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import (
    get_all_start_methods,
    get_start_method,
    parent_process,
    resource_tracker,
)
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


class _Worker(BaseProcess):
    """A process that leaves both signals to its parent, and ends when that ends.

    The signals are blocked from its first instruction on.
    """

    _popen: Any  # of multiprocessing, without types

    def start(self) -> None:
        """Start; multiprocessing will end the process by SIGKILL, because SIGTERM is blocked."""
        with signals_deferred(), signals_blocked():
            super().start()
        self._popen.terminate = self._popen.kill

    def run(self) -> None:
        """Do the work of the process, until its parent is gone, however that ended."""
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().run()


def _end_with_parent() -> None:
    """Wait for the end of the parent process, then end this one at once.

    PyTorch's loader workers look themselves whether their parent has changed, but compare it with
    the one they found when they began: if that was gone by then, they would stay for ever.
    """
    parent = parent_process()
    assert parent is not None, "runs in worker processes only"
    parent.join()
    os._exit(1)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block both signals in this thread; processes that it starts meanwhile inherit that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM that come during a ``with`` block until its end.

    For the start of a process. ``signals_blocked`` alone is not enough there: another thread may
    receive the signal, and Python would raise KeyboardInterrupt in the main thread before the new
    process has received its work.
    """
    if threading.current_thread() is not threading.main_thread():  # it handles no signals
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in LEFT_TO_PARENT}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


class SpawnedWorker(_Worker, SpawnProcess):
    """A worker process with a new Python interpreter."""

    def start(self) -> None:
        """Start, after multiprocessing's resource tracker: starting that unblocks the signals."""
        if os.name == "posix":
            resource_tracker.ensure_running()
        super().start()


class SpawnedWorkers(SpawnContext):
    """Multiprocessing context whose processes are ``SpawnedWorker``."""

    Process = SpawnedWorker


if "fork" in get_all_start_methods():  # not on Windows
    from multiprocessing.context import ForkContext, ForkProcess

    class ForkedWorker(_Worker, ForkProcess):
        """A worker process that is a fork of this one."""

    class ForkedWorkers(ForkContext):
        """Multiprocessing context whose processes are ``ForkedWorker``."""

        Process = ForkedWorker


def workers_for_loaders() -> BaseContext:
    """Return the context for data loaders: forks where Python forks by default, else spawned."""
    return ForkedWorkers() if get_start_method() == "fork" else SpawnedWorkers()
