import subprocess
import sys

import numpy as np

from prediction.reading import read_item
from tests.conftest import ROOT, write_mseed


def test_a_file_becomes_an_item_or_a_reason(tmp_path):
    waveforms = np.random.default_rng(0).normal(0, 50, (3, 500)).astype(np.float32)
    file = write_mseed(tmp_path / "event.mseed", waveforms)
    item = read_item(file, rate_hz=100, n_samples=200, max_gap_s=0)
    assert item.key == str(file.resolve()) and item.reason == ""
    np.testing.assert_array_equal(item.recording.waveforms, waveforms[:, :200])
    (tmp_path / "notes.txt").write_text("what happened")
    item = read_item(tmp_path / "notes.txt", rate_hz=100, n_samples=200, max_gap_s=0)
    assert item.recording is None
    assert item.reason == "cannot be read: not a format that ObsPy knows"


def test_a_process_that_reads_does_not_import_pytorch(tmp_path):
    file = write_mseed(tmp_path / "event.mseed", np.eye(1, 500, dtype=np.float32))
    script = (
        "import sys\nfrom pathlib import Path\nfrom prediction.reading import read_item\n"
        "assert read_item(Path(sys.argv[1]), 100, 500, 0).recording\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], cwd=ROOT, check=True)
