"""How this process's memory is managed by the C library."""

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)


def keep_freed_memory() -> None:
    """Let the GNU C library keep memory that is freed for what is allocated next; other C libraries stay as they are.

    It otherwise returns large blocks to the system, which zeroes every page again when the next training step asks for
    them: a quarter of the time of a step on large images (docs/speed.md).
    """
    if libc := _gnu_libc():
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, -1)  # never


def _gnu_libc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no such library
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
