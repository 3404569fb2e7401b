import subprocess
import sys

import h5py
import numpy as np
import pytest

from preprocessing.archive_writer import ArchiveWriter
from tests.conftest import ROOT


@pytest.fixture
def archive_dir(tmp_path):
    with ArchiveWriter(tmp_path / "archive", 100.0) as writer:
        for number, block in enumerate(np.random.default_rng(0).normal(size=(3, 2, 50))):
            writer.add(f"event_{number}", block, "A")
    return tmp_path / "archive"


def verify(path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "preprocessing.verify", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_sound_archive_is_one_line(archive_dir):
    done = verify(archive_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{archive_dir}: all 3 events are as they were packed\n"


def test_a_changed_event_is_named_and_the_status_is_2(archive_dir):
    with h5py.File(archive_dir / "waveforms.hdf5", "r+") as file:
        file["data/event_1"][1, 5] += 1
    done = verify(archive_dir)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: {archive_dir}: event event_1 differs from what was packed;"
    )
    assert done.stderr.count("\n") == 1


def test_a_folder_without_an_archive_is_a_message(tmp_path):
    done = verify(tmp_path)
    assert done.returncode == 2 and "not an event archive" in done.stderr
    assert "Traceback" not in done.stderr
