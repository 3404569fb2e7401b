"""A full disk: one message with the path, and nothing half written."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from preprocessing.archive_writer import ArchiveWriter
from tests.conftest import ROOT
from tests.small_trainings import arguments_of, start

pytestmark = pytest.mark.slow


def test_no_file_is_half_written_when_the_disk_is_full(tmp_path, packed):
    """One message that names the file; the last good checkpoint stays."""
    start([None], tmp_path, arguments_of("finetune", packed, "full", 1))
    run_dir = tmp_path / "runs" / "finetune" / "full"
    before = (run_dir / "checkpoints" / "last.ckpt").read_bytes()
    (run_dir / "summary.json").unlink()
    # the same run with more to do, on a disk that takes no more than 1 MB a file
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs: 1", "max_epochs: 3"))
    limited = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [
        sys.executable,
        "-c",
        limited,
        *arguments_of("finetune", packed, "full", 3),
        "--resume",
        str(run_dir),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert (
        done.returncode == 2
        and "last.ckpt: cannot be written" in done.stderr
        and "Traceback" not in done.stderr
    ), done.stderr[-2000:]
    assert (run_dir / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not list((run_dir / "checkpoints").glob("*partial*"))


def test_packing_on_a_full_disk_leaves_nothing_behind(tmp_path, separable):
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from preprocessing.packing import pack_recordings\nfrom utils.cli import main\n"
        f"source, target = {str(separable)!r}, {str(tmp_path / 'arc')!r}\n"
        "if __name__ == '__main__':\n"
        "    main(lambda: pack_recordings(source, target, 100.0, 12.0, n_workers=1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert (
        done.returncode == 2
        and "arc: cannot be written: File too large" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "arc").exists() and not (tmp_path / "arc.partial").exists()


def test_the_whole_archive_is_there_or_nothing(tmp_path):
    """HDF5 writes through ``ErrorKeepingFile``; what it wrote must be readable by anybody."""
    waveforms = np.random.default_rng(0).normal(size=(4, 500)).astype(np.float32)
    with ArchiveWriter(tmp_path / "a", 100.0) as writer:
        for number in range(30):
            writer.add(f"e{number}", waveforms + number, "x", "2020-01-01T00:00:00Z", 100.0)
    with h5py.File(tmp_path / "a" / "waveforms.hdf5") as file:
        for number in range(30):
            np.testing.assert_array_equal(file[f"data/e{number}"][:], waveforms + number)
