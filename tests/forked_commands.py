"""Start commands as forks of a process that has imported PyTorch and other slow packages.

A forked command is a separate process with its own arguments, folder, environment, output and exit
status. A ``sitecustomize`` on PYTHONPATH is run first. Files of this repository are not
imported before the fork.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# none of these may start a thread, which would not be in the fork
SLOW_IMPORTS = (
    "torch._dynamo",
    "torchvision",
    "pytorch_lightning",
    "sklearn.model_selection",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "h5py",
    "obspy.io.mseed.core",
    "obspy.io.quakeml.core",
    "scipy.signal",
    "pydantic",
    "tensorboard.compat",
)


class ForkServer:
    """Hold the process that commands are forked from."""

    def __init__(self, environment: dict[str, str]):
        command = [sys.executable, "-m", "tests.forked_commands"]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, command: list[str], cwd: Path, environment: dict[str, str], timeout_s: float
    ) -> tuple[int, str]:
        """Run ``script arguments ...``; return exit status (negative for a signal) and output.

        Raises ``TimeoutError`` for a command that takes longer; it is killed.
        """
        with tempfile.NamedTemporaryFile() as console:
            request = {
                "command": command,
                "cwd": str(cwd),
                "environment": environment,
                "timeout_s": timeout_s,
                "console": console.name,
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = json.loads(self._process.stdout.readline())
            output = console.read().decode(errors="replace")
        if status is None:
            raise TimeoutError(
                f"{' '.join(command)}: took longer than {timeout_s:g} s\n{output[-3000:]}"
            )
        return status, output


def serve() -> None:
    """Fork one command per request on stdin; answer with its exit status, null after a timeout."""
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # collecting in a fork would copy the memory of everything imported
    signal.signal(signal.SIGALRM, _raise_timeout)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(**request)
            os._exit(_run_to_the_end(request["command"][0]))
        try:
            signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = None
        print(json.dumps(status), flush=True)


def _raise_timeout(*_) -> None:
    raise TimeoutError


def _become(
    command: list[str], cwd: str, environment: dict[str, str], console: str, timeout_s: float
) -> None:
    """Let this process, which is a fork, look as if the command had been typed."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(console, os.O_WRONLY | os.O_APPEND)
    for number, target in enumerate((nothing, output, output)):
        os.dup2(target, number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    if path := environment.get("PYTHONPATH"):
        sys.path[1:1] = path.split(os.pathsep)
        sys.modules.pop("sitecustomize", None)
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("sitecustomize")


def _run_to_the_end(script: str) -> int:
    """Run a script, wait for its threads, run its exit handlers; return the exit status.

    The rest of the interpreter's shutdown is skipped: it would take a second or more.
    """
    status = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    serve()
    os._exit(0)  # as above
