"""Memory that is freed stays with the process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# how many pages the system hands out while 64 MB are allocated, filled and freed for the second time
PAGES_ANEW = """
import resource, sys
import numpy as np
from utils.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
before = faults()
np.ones(2**23)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what mallopt does is glibc's")
def test_freed_memory_is_kept_for_what_comes_next():
    pages = {}
    for way in ("keep", "return"):
        done = subprocess.run([sys.executable, "-c", PAGES_ANEW, way], cwd=ROOT, capture_output=True, text=True, check=True)
        pages[way] = int(done.stdout)
    assert pages["keep"] < 100 < pages["return"]
