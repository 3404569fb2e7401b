"""Processes that leave Ctrl-C and SIGTERM to the one that started them.

A terminal and a scheduler send these to all processes of a command at once. Only the first one knows what to save and what to say.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_start_method, resource_tracker
from multiprocessing.context import BaseContext, SpawnContext, SpawnProcess

LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


class _Sheltered:
    """Start a process in which both signals are blocked from its first instruction on."""

    def start(self) -> None:
        """Start, and let what multiprocessing ends by SIGTERM be ended by SIGKILL."""
        with _blocked():
            super().start()
        self._popen.terminate = self._popen.kill


@contextmanager
def _blocked() -> Iterator[None]:
    """Block both signals in this thread: what it starts meanwhile inherits that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class SpawnedWorker(_Sheltered, SpawnProcess):
    """A fresh interpreter."""

    def start(self) -> None:
        """Start; before it what multiprocessing starts beside the first of these, which would unblock the signals."""
        if os.name == "posix":
            resource_tracker.ensure_running()
        super().start()


class SpawnedWorkers(SpawnContext):
    """Start workers as fresh interpreters."""

    Process = SpawnedWorker


if "fork" in get_all_start_methods():  # not on Windows
    from multiprocessing.context import ForkContext, ForkProcess

    class ForkedWorker(_Sheltered, ForkProcess):
        """A copy of this process."""

    class ForkedWorkers(ForkContext):
        """Start workers as copies of this process."""

        Process = ForkedWorker


def workers_for_loaders() -> BaseContext:
    """Return what starts loader processes: copies of this process where that is Python's way, else fresh interpreters."""
    return ForkedWorkers() if get_start_method() == "fork" else SpawnedWorkers()
