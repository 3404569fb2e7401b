"""Memory that is freed stays with the process: in commands, and in the processes that they start."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# how many pages the system hands out while 64 MB are allocated, filled and freed for the second time
SCRIPT = """
import resource, sys
import numpy as np
from utils.parallel import map_in_order
from utils.cli import main

def pages_anew(_=None):
    np.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if __name__ == "__main__":
    {"plain": lambda: print(pages_anew()), "command": lambda: main(lambda: print(pages_anew())),
     "workers": lambda: print(*map_in_order(pages_anew, [1, 2], n_workers=2, max_serial=1))}[sys.argv[1]]()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what mallopt does is glibc's")
def test_freed_memory_is_kept_for_what_comes_next(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {
        "NUMPY_MADVISE_HUGEPAGE": "0",
        "PYTHONPATH": str(ROOT),
    }  # pages of 4 to 64 kB
    pages = {}
    for way in ("plain", "command", "workers"):
        done = subprocess.run(
            [sys.executable, script, way],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        pages[way] = max(map(int, done.stdout.split()))
    assert pages["command"] < 100 and pages["workers"] < 100 and pages["plain"] > 500
