"""Files that are whole or not there: atomic writes, locks between processes, HDF5's output on a full disk."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from utils.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file under another name, then rename it: a half-written file never bears the real name.

    Raises ``UserError`` naming the file where the system refuses: no space, no permission.
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
    """Take the lock; it is held until the returned file is closed.

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
    """Wait for the lock and hold it."""
    with take_lock(path):
        yield


class PatientFile:
    """Hold a file for HDF5 to write; once the system refuses (no space), remember why, and take no more.

    HDF5 itself loses such errors when it closes a dataset, and crashes the process when it closes the file.
    """

    def __init__(self, path: Path):
        self.file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self.refusal: OSError | None = None

    def write(self, content) -> int:
        rest = memoryview(content)
        try:
            while len(rest) and self.refusal is None:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.refusal = error
        return len(content)

    def truncate(self, size: int) -> int:
        if self.refusal is None:
            try:
                return self.file.truncate(size)
            except OSError as error:
                self.refusal = error
        return size

    def __getattr__(self, name: str):
        return getattr(self.file, name)  # seek, tell, readinto, flush, close
