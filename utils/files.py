"""Atomic writes, locks between processes, writing HDF5 to a disk that may be full."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, then rename it, so that ``path`` is never half-written.

    ``write`` gets the temporary path. Raises ``UserError`` naming the file if it cannot be written:
    no space, no permission.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


class LockHeld(Exception):
    """Another process holds the lock."""


def take_lock(path: Path, wait: bool = True) -> IO:
    """Lock the file ``path``; the lock is held until the returned file is closed.

    Raises ``LockHeld`` if another process has it, unless ``wait``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")  # noqa: SIM115
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except ImportError:  # Windows: no lock
        pass
    except BlockingIOError:
        file.close()
        raise LockHeld(str(path)) from None
    return file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock during a ``with`` block; wait for it if another process has it."""
    with take_lock(path):
        yield


class ErrorKeepingFile:
    """A file for h5py to write to, which never raises: ``first_error`` keeps the first write error.

    After it nothing more is written. HDF5 itself does not report such errors (no space) when it
    closes a dataset, and crashes the process when it closes the file.
    """

    def __init__(self, path: Path):
        self.file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self.first_error: OSError | None = None

    def write(self, content) -> int:
        """Write bytes; after an error do nothing, but return as if it had worked."""
        rest = memoryview(content)
        try:
            while len(rest) and self.first_error is None:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.first_error = error
        return len(content)

    def truncate(self, size: int) -> int:
        """Set the size of the file in bytes; after an error do nothing."""
        if self.first_error is None:
            try:
                return self.file.truncate(size)
            except OSError as error:
                self.first_error = error
        return size

    def __getattr__(self, name: str):
        return getattr(self.file, name)  # seek, tell, readinto, flush, close
