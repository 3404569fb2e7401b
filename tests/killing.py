"""Start a command many times without paying for its imports: fork a process that has them, and kill it when asked.

python tests/killing.py ROOT MOMENTS_JSON -- script arguments: runs the script once for each moment (seconds; null: to the end),
kills it then (SIGKILL), and prints the exit statuses. ``--resume RUN_DIR`` is added once RUN_DIR has begun.
"""

import contextlib
import json
import os
import runpy
import signal
import sys
import time
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


def main() -> None:
    root, moments, run_dir, command = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[5:]
    sys.path.insert(0, root)
    # what costs seconds; nothing here may start a thread, which would not be in the fork
    import matplotlib.figure  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import sklearn.model_selection  # noqa: F401
    import torchmetrics.functional.classification  # noqa: F401

    import training.data  # noqa: F401

    statuses = []
    for after_s in moments:
        resume = ["--resume", run_dir] if run_dir and (Path(run_dir) / "config.yaml").is_file() else []
        statuses.append(fork_and_kill([*command, *resume], after_s))
        if (after_s is None and statuses[-1]) or statuses[-1] not in (0, -signal.SIGKILL):
            break
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
