"""Other processes that this one starts, and that stop with it."""

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from utils.errors import Interrupted


class Children:
    """Commands that threads of this process run; they can be stopped together."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()

    def run(self, command: Sequence[str], **options: Any) -> int:
        """Run a command and return its exit status; none is started after ``stop``."""
        with self._lock:
            if self.stopped.is_set():
                return -signal.SIGTERM
            process = subprocess.Popen(command, **options)
            self._processes.add(process)
        status = process.wait()
        with self._lock:
            self._processes.remove(process)
        return status

    def stop(self) -> None:
        """Send SIGTERM to the running commands; a training then saves its state and ends."""
        with self._lock:
            self.stopped.set()
            for process in self._processes:
                process.terminate()

    @contextmanager
    def stopped_with_this_process(self) -> Iterator[None]:
        """Stop the commands after Ctrl-C or SIGTERM; after an error the others finish."""
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            self.stop()
            raise
