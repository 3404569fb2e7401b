"""Time several ways of doing the same work in turn, and say what the machine could do at best."""

import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


def alternate(
    ways: Mapping[str, Callable[[], object]],
    n_rounds: int,
    rounds_s: float = math.inf,
) -> dict[str, list[float]]:
    """Run every way once to warm up, then ``take_turns``."""
    for way in ways.values():
        way()
    return take_turns(ways, n_rounds, rounds_s)


def take_turns(
    ways: Mapping[str, Callable[[], object]],
    n_rounds: int,
    rounds_s: float = math.inf,
) -> dict[str, list[float]]:
    """Run all ways in turn; return the seconds of each round.

    There is one round at least. Another begins only if all of them would end within ``rounds_s``
    seconds, should it take as long as those before.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    spent_s = 0.0
    for done in range(n_rounds):
        if done and spent_s * (done + 1) / done > rounds_s:
            break
        for name, way in ways.items():
            seconds[name].append(seconds_of(way))
            spent_s += seconds[name][-1]
    return seconds


_prepared: list[Callable[[], object]] = []  # in a process of its own: what it does when asked


@contextmanager
def own_process(
    make: Callable[..., Callable[[], object]],
    *arguments: object,
) -> Iterator[Callable[[], object]]:
    """Yield what ``make(*arguments)`` returns, to be run in a process of its own.

    Nothing that this process does to itself helps it there.
    Both are pickled, and so is what comes back.
    """
    with ProcessPoolExecutor(1, get_context("spawn"), _prepare, (make, arguments)) as process:
        yield lambda: process.submit(_run_prepared).result()


def _prepare(make: Callable[..., Callable[[], object]], arguments: tuple) -> None:
    _prepared.append(make(*arguments))


def _run_prepared() -> object:
    return _prepared[0]()


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes, on the GPU too."""
    _wait_for_gpu()
    start = time.perf_counter()
    work()
    _wait_for_gpu()
    return time.perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median over rounds of how many times faster the second is."""
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
    """Return a plain large convolution, forward and backward, and its floating-point operations.

    It is what a network can hope for.
    """
    layout = {"memory_format": torch.channels_last}
    x = torch.randn(n_images, 256, 28, 28, device=device, dtype=dtype).to(**layout).requires_grad_()
    w = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(**layout).requires_grad_()
    upstream = torch.randn_like(x).to(**layout)

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
