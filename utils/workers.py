"""Worker processes that ignore Ctrl-C and SIGTERM; the main process handles these signals.

A terminal or a scheduler sends them to all processes of a command at once, but only the main
process knows what to save and which message to print.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_start_method, resource_tracker
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


class _SignalsBlocked(BaseProcess):
    """A process in which both signals are blocked from its first instruction on."""

    _popen: Any  # of multiprocessing, without types

    def start(self) -> None:
        """Start; multiprocessing will end the process by SIGKILL, because SIGTERM is blocked."""
        with _blocked():
            super().start()
        self._popen.terminate = self._popen.kill


@contextmanager
def _blocked() -> Iterator[None]:
    """Block both signals in this thread; processes that it starts meanwhile inherit that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SpawnedWorker(_SignalsBlocked, SpawnProcess):
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

    class ForkedWorker(_SignalsBlocked, ForkProcess):
        """A worker process that is a fork of this one."""

    class ForkedWorkers(ForkContext):
        """Multiprocessing context whose processes are ``ForkedWorker``."""

        Process = ForkedWorker


def workers_for_loaders() -> BaseContext:
    """Return the context for data loaders: forks where Python forks by default, else spawned."""
    return ForkedWorkers() if get_start_method() == "fork" else SpawnedWorkers()
