"""Locks between processes, which the system releases when a process ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Taken(Exception):
    """Say that another process holds the lock."""


def take_lock(path: Path, wait: bool = True) -> IO:
    """Take the lock; it is held until the returned file is closed. Raises ``Taken`` if another has it, unless ``wait``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")  # noqa: SIM115
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except ImportError:  # Windows: no lock
        pass
    except BlockingIOError:
        file.close()
        raise Taken(str(path)) from None
    return file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock and hold it."""
    with take_lock(path):
        yield
