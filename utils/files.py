"""Atomic writes, locks between processes, writing HDF5 to a disk that may be full."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from utils.errors import UserError

LONGEST_NAME_BYTES = 150  # file systems allow 255, and suffixes come behind


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path to write; when the block has ended, the file gets its name.

    So ``path`` is never half-written; after an error in the block nothing is left. Raises
    ``UserError`` naming the file if it cannot be written: no space, no permission.

        with atomic(folder / "summary.json") as partial:
            partial.write_text(text, encoding="utf-8")
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def lock_of(path: Path) -> FileLock:
    """Return the lock between processes with this file; ``with lock_of(path):`` waits for it.

    ``acquire(blocking=False)`` raises ``filelock.Timeout`` if another process has it. The system
    frees the lock of a process that ends, however that ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, thread_local=False)


def file_name(text: str) -> str:
    """Return a file name for text that comes from data: a class, an event, a path.

    It has letters, digits and ``-_.`` only, and at most ``LONGEST_NAME_BYTES``, of which the end is
    kept. So no text leads out of a folder.
    """
    allowed = "".join(c if c.isalnum() or c in "-_." else "_" for c in text).strip("._")
    return allowed.encode()[-LONGEST_NAME_BYTES:].decode(errors="ignore").strip("._") or "_"


class ErrorKeepingFile:
    """A file for h5py to write to, which never raises: ``first_error`` keeps the first write error.

    After it nothing more is written. HDF5 itself does not report such errors (no space) when it
    closes a dataset, and crashes the process when it closes the file.
    """

    def __init__(self, path: Path):
        self.file = open(path, "w+b", buffering=0)  # noqa: SIM115
        self.first_error: OSError | None = None

    def write(self, content: Any) -> int:
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

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)  # seek, tell, readinto, flush, close
