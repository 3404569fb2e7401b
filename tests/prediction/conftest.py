"""Fixtures of the tests of predict.py: a classifier, new events, a continuous recording."""

import csv

import numpy as np
import obspy
import pytest

from tests.commands.running import run
from tests.conftest import ROOT, made_once, run_script, write_mseed, write_separable_events

START = obspy.UTCDateTime("2020-02-01T00:00:00")
TRIGGER = ["trigger.channels=3"]


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="session")
def ckpt(tmp_path_factory, separable):
    """A classifier of low, high and double bursts: three channels, 12 s at 100 Hz, calibrated."""

    def train(folder):
        calibrated = ("dataset.calibration_ratio=0.3", "dataset.batch_size=8")
        output = run("finetune", separable, "model", *calibrated, cwd=folder, epochs=25)
        assert "Temperature" in output
        assert (folder / "runs/finetune/model/plots/calibration.png").is_file()

    folder = made_once(tmp_path_factory, "classifier", train)
    return folder / "runs/finetune/model/checkpoints/last.ckpt"


@pytest.fixture(scope="session")
def events(place):
    """New events of the same kind, not those of training."""
    return write_separable_events(place / "new", n_per_class=9, n_unlabeled=0, seed=77)


@pytest.fixture(scope="session")
def day(place):
    """Twenty minutes with 14 known bursts."""
    rng = np.random.default_rng(5)
    time_s = np.arange(1200 * 100) / 100
    samples, truth = rng.normal(0, 3, (3, time_s.size)), []
    for number in range(14):
        kind, onset_s = (
            ("high", "low", "twice")[number % 3],
            40 + 80 * number + rng.uniform(-20, 20),
        )
        hz = {"high": 30.0, "low": 7.0, "twice": 15.0}[kind] * rng.uniform(0.85, 1.15)
        for t in [onset_s, onset_s + 4] if kind == "twice" else [onset_s]:
            samples += (
                rng.uniform(20, 60, (3, 1))
                * np.exp(-(((time_s - t) / 0.8) ** 2))
                * np.sin(2 * np.pi * hz * (time_s - t))
            )
        truth.append((onset_s, kind))
    return write_mseed(place / "day.mseed", samples.astype(np.float32), 100.0, str(START)), truth


def predict(ckpt, *arguments, cwd, status=0, **options) -> str:
    config = ["--config_predict", str(ROOT / "configs" / "predict.yaml"), "--ckpt", str(ckpt)]
    return run_script(
        "predict.py",
        *config,
        *map(str, arguments),
        "precision=32-true",
        cwd=cwd,
        status=status,
        **options,
    )


def table(path) -> list[dict]:
    return list(csv.DictReader(path.open(encoding="utf-8")))
