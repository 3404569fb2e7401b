"""Show progress: a bar in a terminal, a line a minute in a log file."""

import io
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 60.0


class _Lines(tqdm):  # type: ignore[type-arg]  # tqdm is not generic at run time
    """Write a line to stderr every minute, and one at the end of what took longer."""

    def __init__(self, items: Iterable[Any] | None, **options: Any):
        self.written_s = 0.0  # seconds from the beginning to the last line
        # what tqdm writes itself goes nowhere
        super().__init__(items, **{**options, "file": io.StringIO()})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write a line if it is time for one."""
        elapsed_s = self.format_dict["elapsed"]
        is_end = self.disable and elapsed_s >= LINE_EVERY_S  # tqdm disables a bar to close it
        if msg != "" and (is_end or elapsed_s - self.written_s >= LINE_EVERY_S):
            self.written_s = elapsed_s
            sys.stderr.write(f"{msg or self}\n")


def is_terminal() -> bool:
    """Tell whether messages go to a terminal, where a bar can be drawn again and again."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> "tqdm[Any]":
    """Return ``tqdm(items, **options)``; without a terminal, one that writes a line a minute."""
    if is_terminal():
        return tqdm(items, **options)
    # bar_format: no bar, which says nothing in a file
    form = "{desc}: {n_fmt} of {total_fmt} {unit} in {elapsed}, {remaining} left{postfix}"
    return _Lines(items, mininterval=LINE_EVERY_S, miniters=1, bar_format=form, **options)
