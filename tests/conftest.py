"""Shared fixtures: real events beside the checkout, small synthetic recordings, the commands."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prediction.predict_config import PredictConfig
from preprocessing.packing import pack_recordings
from tests.forked_commands import ForkServer
from training.grid.grid_config import ReproduceConfig
from utils.files import lock_of
from utils.schema import FinetuneConfig, OriginalConfig, SSLConfig

# where the tests themselves run side by side, one thread each is fastest
THREADS = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"
os.environ.setdefault("OMP_NUM_THREADS", THREADS)
LONGEST_FILES = (
    "test_pretraining.py",
    "test_predict_files.py",
    "test_resuming.py",
    "test_classifiers.py",
    "test_predict_resuming.py",
)
CONFIGS = {
    "ssl": SSLConfig,
    "finetune": FinetuneConfig,
    "original": OriginalConfig,
    "reproduce": ReproduceConfig,
    "predict": PredictConfig,
}
ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
AKNES_EVENT = SHARED / "aknes" / "2007_034_45_117472.dat"
AKNES_INDEX = SHARED / "aknes" / "events.csv"
PNW = SHARED / "pnw"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs more GPUs than there are: ``@pytest.mark.gpu`` needs one, ``gpu(2)`` two.

    The files that take longest come first, so that workers end at about the same time.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)
    marked = [(item, marker) for item in items if (marker := item.get_closest_marker("gpu"))]
    if not marked:
        return
    import torch

    found = torch.cuda.device_count()
    for item, marker in marked:
        needed = marker.args[0] if marker.args else 1
        if found < needed:
            reason = f"needs {needed} CUDA device(s); this machine has {found}"
            item.add_marker(pytest.mark.skip(reason=reason))


def _shared(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.fixture(scope="session")
def aknes_event() -> Path:
    return _shared(AKNES_EVENT)


@pytest.fixture(scope="session")
def aknes_index() -> Path:
    return _shared(AKNES_INDEX)


@pytest.fixture(scope="session")
def pnw() -> Path:
    return _shared(PNW)


def write_mseed(
    path: Path, waveforms: np.ndarray, rate_hz: float = 100.0, start: str = "2020-01-01T00:00:00"
) -> Path:
    """Write (S, T) as miniSEED, one named channel per row."""
    import obspy

    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"sampling_rate": rate_hz, "starttime": obspy.UTCDateTime(start), "network": "XX"}
    traces = [
        obspy.Trace(
            np.ascontiguousarray(row), {**header, "station": f"S{number:02d}", "channel": "HHZ"}
        )
        for number, row in enumerate(waveforms)
    ]
    obspy.Stream(traces).write(str(path), format="MSEED")
    return path


def write_separable_events(
    root: Path,
    n_per_class: int = 24,
    n_unlabeled: int = 12,
    n_channels: int = 3,
    seconds: float = 12.0,
    seed: int = 0,
) -> Path:
    """Write three classes that a spectrogram separates: a low, a high, and two bursts."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * 100)) / 100
    labels = [name for name in ("high", "low", "twice") for _ in range(n_per_class)]
    labels += ["Unlabeled"] * n_unlabeled
    for number, label in enumerate(labels):
        kind = label if label != "Unlabeled" else ("high", "low", "twice")[number % 3]
        onset_s, hz = (
            rng.uniform(2, 4),
            {"high": 30.0, "low": 7.0, "twice": 15.0}[kind] * rng.uniform(0.85, 1.15),
        )
        bursts = [onset_s, onset_s + 4] if kind == "twice" else [onset_s]
        signal = sum(
            np.exp(-(((time_s - t) / 0.8) ** 2)) * np.sin(2 * np.pi * hz * (time_s - t))
            for t in bursts
        )
        gains = rng.uniform(20, 60, (n_channels, 1)) * rng.choice([-1, 1], (n_channels, 1))
        waveforms = (gains * signal + rng.normal(0, 3, (n_channels, len(time_s)))).astype(
            np.float32
        )
        day = 1 + number % 28
        write_mseed(
            root / label / f"2020_{day:03d}_{number:04d}.mseed",
            waveforms,
            start=f"2020-01-{day:02d}T00:{number % 60:02d}:00",
        )
    return root


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that ``make(folder)`` fills, once for all workers of a test run."""
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # of all workers
    folder, whole = place / name, place / f"{name}.whole"
    with lock_of(place / f"{name}.lock"):
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def separable(tmp_path_factory) -> Path:
    """A folder of 72 labelled and 12 unlabelled events, 3 channels, 12 s at 100 Hz."""
    return made_once(tmp_path_factory, "separable", write_separable_events)


@pytest.fixture(scope="session")
def packed(separable, tmp_path_factory) -> Path:
    """The events of ``separable`` as an archive."""

    def make(folder: Path) -> None:
        pack_recordings(separable, folder / "events", 100.0, 12.0, n_workers=1)

    return made_once(tmp_path_factory, "packed", make) / "events"


ENVIRONMENT = {"OMP_NUM_THREADS": THREADS, "MPLBACKEND": "Agg", "WANDB_MODE": "offline"}


@functools.cache
def fork_server() -> ForkServer:
    # not with the shim that the first test may have put there
    return ForkServer(os.environ | ENVIRONMENT | {"PYTHONPATH": ""})


def run_script(
    script: str,
    *arguments: str,
    cwd: Path,
    status: int = 0,
    timeout: float = 1200,
    new: bool = False,
) -> str:
    """Run an entry script as a user would; return what it printed, carriage returns as newlines.

    It is a fork of a process with all imports (tests.forked_commands.py), unless ``new`` is set.
    """
    environment = os.environ | ENVIRONMENT
    command = [str(ROOT / script), *arguments]
    if new:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            timeout=timeout,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        found, output = done.returncode, done.stdout
    else:
        found, output = fork_server().run(command, cwd, environment, timeout)
    output = output.replace("\r", "\n")
    assert found == status, f"exit status {found}, expected {status}\n{output[-6000:]}"
    return output
