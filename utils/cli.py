"""Entry scripts: the command line, and what a user's mistake or an interruption prints."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

from utils.errors import Interrupted, UserError
from utils.parallel import keep_freed_memory


def parse_arguments(
    description: str, config_flag: str, default_config: str, resumable: bool = True
) -> argparse.Namespace:
    """Parse the command line of an entry script: ``config``, ``resume`` and ``overrides``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        config_flag,
        dest="config",
        default=default_config,
        metavar="FILE",
        help="YAML file (default: %(default)s)",
    )
    if resumable:
        parser.add_argument(
            "--resume",
            metavar="RUN_DIR",
            help="go on with an interrupted run; same config and overrides as before",
        )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key.path=value",
        help="override a key, for example dataset.batch_size=32",
    )
    return parser.parse_intermixed_args()  # overrides may stand before, between and after flags


def main(run: Callable[[], Any]) -> None:
    """Run an entry script: a user's mistake becomes one message and exit status 2, Ctrl-C status 130, SIGTERM 143."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    keep_freed_memory()
    try:
        run()
    except UserError as error:
        sys.exit(_stop(f"error: {_without_worker(error)}", 2))
    except OSError as error:  # no space, no permission: the path says more than a traceback
        if error.errno is None:
            raise
        sys.exit(_stop(f"error: {error.filename or 'writing'}: {error.strerror}", 2))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only disturb the end
        sys.exit(_stop("interrupted", 130))
    except Interrupted as interruption:
        sys.exit(_stop(str(interruption), interruption.status))


def _without_worker(error: UserError) -> str:
    """Return the message alone, where a loader worker has put its traceback before it."""
    text = str(error).rstrip()
    return text.rpartition(f"{type(error).__name__}: ")[2] if "Original Traceback" in text else text


def _stop(message: str, status: int) -> int:
    sys.stderr.write(message + "\n")
    return status
