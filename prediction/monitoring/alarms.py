"""Run the operator's command for each new event, beside the classification."""

import json
import logging
import os
import shlex
import signal
import subprocess
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prediction.events import Event
from utils.errors import UserError

log = logging.getLogger(__name__)


class Alarms:
    """Run a command for each event, with the event as JSON on standard input, one after another.

    A command that fails or takes longer than ``timeout_s`` is logged. ``n_done`` counts the
    announced events whose command has ended. Without a command nothing is run.
    """

    def __init__(self, command: str | None, timeout_s: float, shell: bool = False):
        self.command, self.timeout_s, self.shell = command, timeout_s, shell
        self._waiting: deque[Future[Any]] = deque()
        self._thread = ThreadPoolExecutor(1)
        self._n_done = 0
        if command is not None and not shell and not shlex.split(command):
            raise UserError("--on-event: the command is empty")

    def announce(self, event: Event) -> None:
        """Start the command for an event, as soon as those before have ended."""
        if self.command is None:
            self._n_done += 1
        else:
            self._waiting.append(self._thread.submit(self._run, event))

    @property
    def n_done(self) -> int:
        """Return how many announced events are done with, in order."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
            self._n_done += 1
        return self._n_done

    def close(self, wait: bool = True) -> None:
        """End; commands that have not begun are left out unless ``wait``."""
        self._thread.shutdown(wait=True, cancel_futures=not wait)

    def _run(self, event: Event) -> None:
        place = event.trigger_time or event.file
        command = self.command or ""
        try:
            running = subprocess.Popen(
                command if self.shell else shlex.split(command),
                shell=self.shell,
                stdin=subprocess.PIPE,
                start_new_session=True,  # a timeout also kills what the command has started
            )
        except OSError as error:
            log.error("--on-event: cannot be started: %s", error)
            return
        try:
            running.communicate(json.dumps(event.row()).encode(), timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            log.error("--on-event: stopped after %g s, event %s", self.timeout_s, place)
            return
        if running.returncode:
            log.error("--on-event: exit status %d, event %s", running.returncode, place)
