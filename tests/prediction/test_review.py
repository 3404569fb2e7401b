from types import SimpleNamespace

import numpy as np
import pytest

from prediction.review import low_confidence, unlike_training
from preprocessing.levels import Levels
from preprocessing.recordings import Recording

KNOWN = {"noise": [2.0, 20.0], "signal": [30.0, 3000.0], "rate_hz": 50.0}


def reasons(levels=KNOWN, noise=5.0, signal=100.0, seconds=16.0, own_rate_hz=100.0) -> list[str]:
    model = SimpleNamespace(
        hparams={"levels": levels, "n_samples": 1600},
        spectrogram=SimpleNamespace(sampling_rate_hz=100.0),
    )
    waveforms = np.zeros((2, int(100 * seconds)), np.float32)
    recording = Recording(waveforms, 100.0, "", own_rates_hz=(own_rate_hz,) * 2)
    return unlike_training(model, recording, Levels(3.0, 0.0, 2.0, noise, signal))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"noise": 5e-9, "signal": 1e-7}, "noise 4e+08 times below that of the training events"),
        ({"noise": 5e-9, "signal": 1e-7}, "signal 3e+08 times below that of the training events"),
        ({"noise": 400.0}, "noise 20 times above that of the training events (units?)"),
        ({"own_rate_hz": 20.0}, "recorded at 20 Hz: 20 % of the model's frequencies"),
        ({"seconds": 5.0}, "only 5 s of 16 s"),
    ],
)
def test_what_is_unlike_the_training_is_named_with_the_factor(found, reason):
    assert any(reason in line for line in reasons(**found))


@pytest.mark.parametrize(
    "usual",
    [
        {},
        {"noise": 199.0, "signal": 3.1},  # within a factor of ten
        {"own_rate_hz": 50.0},  # as in the training
        {"noise": np.nan, "signal": np.nan},
        {"levels": None, "noise": 1e-9},  # an earlier version's checkpoint does not know
        {"levels": KNOWN | {"noise": None}, "noise": 1e-9},
    ],
)
def test_what_is_usual_is_not_flagged(usual):
    assert reasons(**usual) == []


def test_earlier_checkpoints_know_their_rate(tmp_path):
    assert reasons(levels=None, own_rate_hz=50.0) == [
        "recorded at 50 Hz: 50 % of the model's frequencies"
    ]


def test_confidence():
    assert low_confidence(0.8, 0.7, 0.05) == []
    assert low_confidence(0.69, 0.7, 0.05) == ["confidence 0.690 below 0.700"]
    assert "no confidence threshold for 5 % errors" in low_confidence(0.9, np.inf, 0.05)[0]
