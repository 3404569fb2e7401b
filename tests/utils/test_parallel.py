import os
import platform
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from utils.parallel import map_in_order, prefetch

# counts page faults while 64 MB are allocated, filled and freed a second time
SCRIPT = """
import resource, sys
import numpy as np
from utils.parallel import keep_freed_memory, map_in_order

def pages_anew(_=None):
    np.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if __name__ == "__main__":
    if sys.argv[1] == "kept":
        keep_freed_memory()
    {"plain": lambda: print(pages_anew()), "kept": lambda: print(pages_anew()),
     "workers": lambda: print(*map_in_order(pages_anew, [1, 2], 2, 1))}[sys.argv[1]]()
"""


def work(number: int) -> tuple[int, int]:
    if number == 77:
        raise ValueError("seventy-seven")
    return number, os.getpid()


def test_results_come_in_order_from_several_processes():
    results = list(map_in_order(work, range(60), n_workers=2))
    assert [number for number, _ in results] == list(range(60))
    assert (
        os.getpid() not in {process for _, process in results}
        and len({process for _, process in results}) == 2
    )


@pytest.mark.parametrize(("n", "n_workers"), [(3, 2), (60, 1), (0, 2)])
def test_few_items_stay_in_this_process(n, n_workers):
    assert {process for _, process in map_in_order(work, range(n), n_workers)} <= {os.getpid()}


def test_an_error_reaches_the_caller():
    with pytest.raises(ValueError, match="seventy-seven"):
        list(map_in_order(work, range(100), n_workers=2))


def test_prefetch_keeps_order_and_passes_errors_on():
    assert list(prefetch(iter(range(20)), 3)) == list(range(20)) and list(prefetch(iter(()))) == []

    def broken():
        yield 1
        raise ValueError("two")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="two"):
        next(items)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what mallopt does is glibc's")
def test_freed_memory_is_kept_for_what_comes_next(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {
        "NUMPY_MADVISE_HUGEPAGE": "0",
        "PYTHONPATH": str(ROOT),
    }  # pages of 4 to 64 kB
    pages = {}
    for way in ("plain", "kept", "workers"):
        done = subprocess.run(
            [sys.executable, script, way],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        pages[way] = max(map(int, done.stdout.split()))
    assert pages["kept"] < 100 and pages["workers"] < 100 and pages["plain"] > 500
