"""Time several implementations in turn; measure the peak speed of the machine."""

import argparse
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from utils.parallel import keep_freed_memory

Name = TypeVar("Name", str, int)


def alternate(
    ways: Mapping[Name, Callable[[], object]],
    n_rounds: int,
    rounds_s: float = math.inf,
) -> dict[Name, list[float]]:
    """Run every implementation once to warm up, then time them with ``take_turns``."""
    for way in ways.values():
        way()
    return take_turns(ways, n_rounds, rounds_s)


def take_turns(
    ways: Mapping[Name, Callable[[], object]],
    n_rounds: int,
    rounds_s: float = math.inf,
) -> dict[Name, list[float]]:
    """Run all implementations in turn; return the seconds of each round by name.

    There are 1 to ``n_rounds`` rounds. A further round starts only if all rounds together are
    expected to end within ``rounds_s`` seconds.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in ways}
    spent_s = 0.0
    for done in range(n_rounds):
        if done and spent_s * (done + 1) / done > rounds_s:
            break
        for name, way in ways.items():
            seconds[name].append(seconds_of(way))
            spent_s += seconds[name][-1]
    return seconds


_prepared: list[Callable[[], object]] = []  # in a separate process: the function to run


@contextmanager
def own_process(
    make: Callable[..., Callable[[], object]],
    *arguments: object,
) -> Iterator[Callable[[], object]]:
    """Yield a function that runs ``make(*arguments)()`` in a separate process.

    So settings of this process do not affect it. ``make``, the arguments and the result must be
    picklable.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (make, arguments)) as process:
        yield lambda: process.submit(_run_prepared).result()


def _prepare(make: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> None:
    _prepared.append(make(*arguments))


def _run_prepared() -> object:
    return _prepared[0]()


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` takes, including its work on the GPU."""
    _wait_for_gpu()
    start = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the speed-up of the second over the first: median of the ratios of each round."""
    return median(a / b for a, b in zip(slow, fast))


def count_flops(work: Callable[[], object]) -> int:
    """Count the floating-point operations of a piece of work, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def large_convolution(
    device: torch.device,
    dtype: torch.dtype,
    n_images: int = 64,
) -> tuple[Callable[[], object], int]:
    """Return a large convolution, forward and backward, and its floating-point operations.

    Its speed is the highest that a network can reach on this machine.
    """

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)

    x = random(n_images, 256, 28, 28).requires_grad_()
    w = random(256, 256, 3, 3).requires_grad_()
    upstream = random(*x.shape)

    def work() -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.conv2d(x, w, padding=1), (x, w), upstream)

    return work, 3 * 2 * n_images * 28 * 28 * 256 * 256 * 9


def machine() -> str:
    """Describe the machine in a line."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{_cpu_name()}, {threads}{gpu}; PyTorch {torch.__version__}"


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = (line for line in file if line.startswith("model name"))
            return next(names).split(":")[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
