"""Entry scripts in processes of their own, that stop with this one."""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from utils.errors import Interrupted
from utils.workers import LEFT_TO_PARENT, signals_blocked, signals_deferred

# what takes seconds of the imports of an entry script
SLOW_IMPORTS = ("training.fine_tuning", "training.reports", "training.trainer")


def prepare_for_forks() -> None:
    """Import what entry scripts need, and let progress bars have neither threads nor shared locks.

    A fork has no thread but its first one, and locks stay as they were at that moment.
    """
    for name in SLOW_IMPORTS:
        import_module(name)
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())


def start_script(
    script: Path, arguments: Sequence[str], log: Path, n_threads: int | None, forked: bool
) -> BaseProcess:
    """Start a Python script as if its command had been typed; its output is added to ``log``.

    ``n_threads`` holds unless the user has set a number. A fork has the modules that this process
    has imported, see ``prepare_for_forks``. It must not be made once PyTorch has computed anything
    here, and CUDA refuses to work in it.
    """
    log.touch()
    ignored = [number for number in LEFT_TO_PARENT if signal.getsignal(number) is signal.SIG_IGN]
    call = script, arguments, log, n_threads, ignored
    process: BaseProcess
    if forked:
        process = get_context("fork").Process(target=_run_in_fork, args=call)
    else:
        process = get_context("spawn").Process(target=_run, args=call)
        if os.name == "posix":  # starting it later would unblock the signals
            resource_tracker.ensure_running()
    with signals_deferred(), signals_blocked():
        process.start()
    return process


def can_fork() -> bool:
    """Tell whether forks are safe on this system: on macOS they may crash, Windows has none."""
    return sys.platform == "linux"


@contextmanager
def stopped_with_this_process() -> Iterator[None]:
    """Send SIGTERM to all started scripts after Ctrl-C or SIGTERM, and wait for their end.

    A training then saves its state.
    """
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        scripts = multiprocessing.active_children()
        for script in scripts:
            script.terminate()
        for script in scripts:
            script.join()
        raise


def _run_in_fork(*call) -> None:
    """Run a script in a fork, without what only concerns the process that started it."""
    atexit._clear()  # or the first script that ends removes the folders of all
    tqdm.set_lock(threading.RLock())
    _run(*call)


def _run(
    script: Path,
    arguments: Sequence[str],
    log: Path,
    n_threads: int | None,
    ignored_signals: Sequence[int],
) -> None:
    """Turn this new process into a run of the script."""
    _write_to(log)
    _handle_signals_as_new(ignored_signals)
    if n_threads is not None and "OMP_NUM_THREADS" not in os.environ:
        _use_threads(n_threads)
    # multiprocessing has set that of this process, which is not what the script would find
    multiprocessing.set_start_method(None, force=True)
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())  # wandb, for example, learns of the error there
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def _write_to(log: Path) -> None:
    """Add the output of this process to a file."""
    with open(log, "ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )


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
