"""Damaged or hostile recordings are refused or read correctly."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("resource")  # Windows has no memory limits

from tests.conftest import ROOT
from tests.preprocessing import fuzzing

LAST = 10**6


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[dict[int, dict], str]:
    """Read all cases in child processes, a new one after each crash; return results and output."""
    path, console, first, results = tmp_path_factory.mktemp("fuzzing") / "report.jsonl", "", 0, {}
    while True:
        command = [
            sys.executable,
            "-m",
            "tests.preprocessing.fuzzing",
            str(path),
            str(first),
            str(LAST),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        console += done.stdout + done.stderr
        results = {line["case"]: line for line in map(json.loads, path.read_text().splitlines())}
        if done.returncode == 0:
            return results, console
        assert max(results, default=-1) >= first, console[-3000:]
        first = max(results) + 1


def test_every_case_is_refused_or_read(report):
    results, _ = report
    assert len(results) >= 500 and list(results) == list(range(len(results)))
    bad = [line for line in results.values() if line["end"] not in ("read", "refused")]
    assert not bad, "\n".join(map(str, bad[:10]))
    ends = [line["end"] for line in results.values()]
    assert (
        ends.count("read") > 50 and ends.count("refused") > 200
    )  # some cases are read, some are refused


def test_time_and_memory_are_bounded(report):
    results, _ = report
    assert max(line["seconds"] for line in results.values()) < fuzzing.TIME_S
    assert max(line["bytes"] for line in results.values()) < fuzzing.MEMORY_BYTES


def test_the_console_stays_quiet(report):
    results, console = report
    assert console == ""
    for line in results.values():
        assert len(line["warnings"]) <= 1 and all(
            "case.dat: " in text for text in line["warnings"]
        ), line


def test_a_refusal_names_the_file_in_one_line(report):
    for line in report[0].values():
        if line["end"] == "refused":
            assert "case.dat: " in line["details"] and "\n" not in line["details"], line
