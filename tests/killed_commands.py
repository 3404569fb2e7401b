"""Start a command many times without paying for its imports: fork a process that has them, and kill
it when asked.

python tests/killed_commands.py ROOT MOMENTS_JSON -- script arguments: runs it once for each moment
(seconds; null: to the end),
kills it then (SIGKILL), and prints the exit statuses and how many seconds each took.
``--resume RUN_DIR`` is added once RUN_DIR has begun.
"""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def fork_and_kill(command: list[str], after_s: float | None) -> int:
    """Run a script in a forked process; return its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # loader and packing processes die with it
        sys.argv = command
        try:
            runpy.run_path(command[0], run_name="__main__")
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 99
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 98)
    if after_s is not None:
        time.sleep(after_s)
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def start_as_from_a_terminal(command: list[str], cwd: Path) -> Iterator[subprocess.Popen]:
    """Start a script in a session of its own.

    Ctrl-C works there even if this process was told to ignore it. Whatever is left of it is killed
    if the test fails.
    """
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        except BaseException:
            for member in members(process.pid):
                os.kill(member, signal.SIGKILL)
            raise


def members(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _session(path) == session]


def wait_for_the_end(session: int, at_most_s: float = 120.0) -> None:
    """Raise ``AssertionError`` unless all processes of a session end in time."""
    deadline = time.monotonic() + at_most_s
    while left := members(session):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.2)


def _session(process: Path) -> int:
    try:
        state, _, _, session = (process / "stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return -1
    return -1 if state == "Z" else int(session)


def main() -> None:
    root, moments, run_dir, command = (
        sys.argv[1],
        json.loads(sys.argv[2]),
        sys.argv[3],
        sys.argv[5:],
    )
    sys.path.insert(0, root)
    # what costs seconds; nothing here may start a thread, which would not be in the fork
    import matplotlib.figure  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import sklearn.model_selection  # noqa: F401

    import training.trainer  # noqa: F401

    statuses, seconds = [], []
    for after_s in moments:
        started = time.monotonic()
        resume = (
            ["--resume", run_dir] if run_dir and (Path(run_dir) / "config.yaml").is_file() else []
        )
        statuses.append(fork_and_kill([*command, *resume], after_s))
        seconds.append(time.monotonic() - started)
        if (after_s is None and statuses[-1]) or statuses[-1] not in (0, -signal.SIGKILL):
            break
    print(json.dumps([statuses, seconds]))


if __name__ == "__main__":
    main()
