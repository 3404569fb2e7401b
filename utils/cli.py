"""Entry scripts: command line, messages, exit status."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

from utils.errors import Interrupted, UserError

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
GPU_IS_FULL = (
    "error: the memory of the GPU is full. Stop other programs that use it; in training, use a "
    "smaller dataset.batch_size, and dataset.preload ram or none"
)


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
    """Run an entry script and turn errors of the user into one message without a traceback.

    Exit status: 2 for a user's mistake, 130 after Ctrl-C, 143 after SIGTERM.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        run()
    except UserError as error:
        sys.exit(_stop(f"error: {_without_worker(error)}", 2))
    except OSError as error:  # no space, no permission: the path helps more than a traceback
        if error.errno is None:
            raise
        sys.exit(_stop(f"error: {error.filename or 'writing'}: {error.strerror}", 2))
    except RuntimeError as error:  # by name, because --help does not import PyTorch
        if type(error).__name__ != "OutOfMemoryError":
            raise
        sys.exit(_stop(GPU_IS_FULL, 2))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would print a traceback
        sys.exit(_stop("interrupted", 130))
    except Interrupted as interruption:
        sys.exit(_stop(str(interruption), interruption.status))


def stop_at_signals(how_to_continue: str) -> None:
    """Stop at Ctrl-C or SIGTERM with one message; further signals are ignored until the end."""

    def stop(number: int, _: Any) -> None:
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        reason, status = ("terminated", 143) if number == signal.SIGTERM else ("interrupted", 130)
        raise Interrupted(f"{reason}: {how_to_continue}", status)

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def _without_worker(error: UserError) -> str:
    """Return the message without the traceback that a data loader process puts before it."""
    text = str(error).rstrip()
    return text.rpartition(f"{type(error).__name__}: ")[2] if "Original Traceback" in text else text


def _stop(message: str, status: int) -> int:
    sys.stderr.write(message + "\n")
    return status
