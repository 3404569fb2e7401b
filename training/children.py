"""Entry scripts in processes of their own, that stop with this one."""

import atexit
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from utils.errors import Interrupted
from utils.workers import LEFT_TO_PARENT, handled_later, signals_blocked

# what takes seconds of the imports of an entry script
SLOW_IMPORTS = ("training.classifier", "training.reports", "training.trainer")


def import_slow_modules() -> None:
    """Import what entry scripts need; forks of this process have it already."""
    for name in SLOW_IMPORTS:
        import_module(name)


def start_script(
    script: Path, arguments: Sequence[str], log: Path, n_threads: int | None, forked: bool
) -> BaseProcess:
    """Start a Python script as if its command had been typed; its output is added to ``log``.

    ``n_threads`` holds unless the user has set a number. A fork has the modules that this process
    has imported, which saves seconds; it must not be made once PyTorch has computed anything here,
    and CUDA refuses to work in it.
    """
    new_process = get_context("fork").Process if forked else get_context("spawn").Process
    ignored = [number for number in LEFT_TO_PARENT if signal.getsignal(number) is signal.SIG_IGN]
    process = new_process(target=_run, args=(script, arguments, log, n_threads, ignored))
    if not forked and os.name == "posix":  # starting it later would unblock the signals
        resource_tracker.ensure_running()
    with handled_later(), signals_blocked():
        process.start()
    return process


def can_fork() -> bool:
    """Tell whether forks are safe on this system: on macOS they may crash, Windows has none."""
    return sys.platform == "linux"


@contextmanager
def stopped_with_this_process(processes: Iterable[BaseProcess]) -> Iterator[None]:
    """Send SIGTERM to the processes after Ctrl-C or SIGTERM, and wait for their end.

    A training then saves its state.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise


def _run(
    script: Path,
    arguments: Sequence[str],
    log: Path,
    n_threads: int | None,
    ignored_signals: Sequence[int],
) -> None:
    """Turn this new process into a run of the script."""
    _handle_signals_as_new(ignored_signals)
    with open(log, "ab") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    if n_threads is not None and "OMP_NUM_THREADS" not in os.environ:
        _use_threads(n_threads)
    tqdm.set_lock(threading.RLock())  # not the one shared with the other processes
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # wandb's, for example; multiprocessing leaves them out


def _handle_signals_as_new(ignored: Sequence[int]) -> None:
    """Give up the handlers of the process that started this one."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in ignored:  # by the user: SIGINT, in the background of a shell
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_PARENT)


def _use_threads(n_threads: int) -> None:
    """Set the number of threads of libraries that are imported, or will be."""
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    if "torch" in sys.modules:
        import torch
        from threadpoolctl import threadpool_limits

        threadpool_limits(n_threads)
        torch.set_num_threads(n_threads)
