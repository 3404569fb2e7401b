"""The table of results that benchmarks print, one row per measurement."""

import argparse
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.timing import machine, ratio
from utils.parallel import keep_freed_memory


@dataclass(frozen=True)
class Row:
    """One row of the table; ``reached`` is None without a goal."""

    what: str
    published: str
    here: str
    result: str
    goal: str
    reached: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Return the cells in the order of ``HEADINGS``."""
        verdict = {True: "reached", False: "**missed**", None: ""}[self.reached]
        return self.what, self.published, self.here, self.result, self.goal, verdict


HEADINGS = ("", "published way", "here", "result", "goal", "")


def compare(
    slow: list[float],
    fast: list[float],
    n_items: int,
    goal: float | None,
    what: str,
    unit: str,
) -> Row:
    """Compare items per second; ``goal`` is the lowest speed-up wanted (None: no goal)."""
    factor = ratio(slow, fast)
    published, here = (f"{n_items / median(seconds):.3g} {unit}/s" for seconds in (slow, fast))
    if goal is None:
        return Row(what, published, here, f"{factor:.3g} x", "")
    return Row(what, published, here, f"{factor:.3g} x", f"≥ {goal:g} x", factor >= goal)


def seconds_row(what: str, seconds: float, goal_s: float | None = None) -> Row:
    """Return the row of a duration and of the longest one wanted."""
    shown = f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    if goal_s is None:
        return Row(what, "", shown, "", "")
    return Row(what, "", shown, "", f"≤ {goal_s:g} s", seconds <= goal_s)


def to_markdown(rows: Sequence[Row]) -> str:
    """Format the rows as a Markdown table, without empty columns."""
    lines = [row.cells() for row in rows]
    used = [k for k in range(len(HEADINGS)) if k == 0 or any(line[k] for line in lines)]
    table = [HEADINGS, ("---",) * len(HEADINGS), *lines]
    return "\n".join(f"| {' | '.join(line[k] for k in used)} |" for line in table)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line of a benchmark; set up this process like those of the commands."""
    parser.add_argument(
        "--small",
        action="store_true",
        help="tiny sizes, to test the benchmark itself; the numbers mean nothing",
    )
    parser.add_argument("--out", type=Path, help="file for the table")
    arguments = parser.parse_args()
    keep_freed_memory()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    return arguments


def report(rows: Iterable[Row], out: Path | None) -> None:
    """Print each row as soon as it is measured, then the table; write the table to ``out``."""
    started, known = time.monotonic(), []
    for row in rows:
        known.append(row)
        texts = [text for text in (row.published, row.here, row.result) if text]
        goal = f" (goal {row.goal})" if row.goal else ""
        print(
            f"[{time.monotonic() - started:4.0f} s] {row.what}: {' -> '.join(texts)}{goal}",
            flush=True,
        )
    table = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}\n\n{to_markdown(known)}\n"
    print(table)
    if out:
        out.write_text(table, encoding="utf-8")
