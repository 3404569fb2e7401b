"""What the network is given: the same in training and in prediction."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.ensemble import USABLE_RATIO, signal_to_pre_trigger_noise
from prediction.events import EventWindow
from prediction.predict_config import PredictConfig
from prediction.predictor import Predictor, low_confidence, peak_and_duration, unlike_training
from preprocessing.event_archive import EventArchive
from preprocessing.levels import Levels
from preprocessing.packing import pack_recordings
from preprocessing.recordings import Recording, read_recording
from tests.conftest import write_mseed
from tests.modules import small_classifier

RATE_HZ, N_SAMPLES, PRE_TRIGGER_S = 100.0, 1200, 3.0
KNOWN = {"noise": [2.0, 20.0], "signal": [30.0, 3000.0], "rate_hz": 50.0}


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    model = small_classifier(
        n_samples=N_SAMPLES,
        pre_trigger_s=PRE_TRIGGER_S,
        spectrogram={"sampling_rate_hz": RATE_HZ, "nperseg": 20, "resize_size": 32},
    )
    return Predictor(model.eval(), "0" * 8, PredictConfig(precision="32-true"), torch.device("cpu"))


@pytest.mark.parametrize("n_found", [700, 1200, 1500])
def test_an_event_is_the_same_block_in_training_and_in_prediction(tmp_path, predictor, n_found):
    """With an offset of some thousand counts, and a sensor that records nothing but noise."""
    rng = np.random.default_rng(0)
    event = rng.normal(0, 3, (3, n_found))
    event[:2, 350:450] += 60 * np.sin(np.arange(100))
    event += [[5000], [-3000], [4000]]
    file = write_mseed(tmp_path / "events" / "a" / "0.mseed", event.astype(np.float32), RATE_HZ)
    pack_recordings(tmp_path / "events", tmp_path / "archive", RATE_HZ, N_SAMPLES / RATE_HZ)
    in_training = EventArchive(tmp_path / "archive").waveforms(0)
    classified = predictor.classify([EventWindow(str(file), read_recording(file, RATE_HZ))])[0]
    np.testing.assert_array_equal(classified.waveforms, in_training)
    ratio = signal_to_pre_trigger_noise(torch.from_numpy(in_training), RATE_HZ, PRE_TRIGGER_S)
    assert [sensor.signal_to_noise for sensor in classified.event.per_sensor] == pytest.approx(
        ratio.tolist(), abs=1e-3
    )
    assert (ratio >= USABLE_RATIO).tolist() == [True, True, False]


def test_a_short_recording_is_not_padded_with_noise_by_a_high_pass(tmp_path):
    """Noise is that of what was recorded: the filter rings in the padding, but very low."""
    torch.manual_seed(0)
    images = {"sampling_rate_hz": RATE_HZ, "nperseg": 20, "resize_size": 32, "highpass_hz": 1.0}
    model = small_classifier(n_samples=N_SAMPLES, quiet_noise=True, spectrogram=images).eval()
    predictor = Predictor(model, "0" * 8, PredictConfig(precision="32-true"), torch.device("cpu"))
    event = np.random.default_rng(0).normal(0, 3, (3, 800)).astype(np.float32)
    event[:, 350:450] += 60 * np.sin(np.arange(100, dtype=np.float32))
    file = write_mseed(tmp_path / "0.mseed", event, RATE_HZ)
    (classified,) = predictor.classify([EventWindow(str(file), read_recording(file, RATE_HZ))])
    ratios = [sensor.signal_to_noise or 0.0 for sensor in classified.event.per_sensor]
    in_model = model.signal_to_noise(torch.from_numpy(classified.waveforms)[None], None)[0]
    assert max(ratios) < 1000 and ratios == pytest.approx(in_model.tolist(), rel=1e-3)
    assert classified.event.duration_s < 6


def test_peak_and_duration_of_a_burst():
    rng, rate_hz = np.random.default_rng(0), 100.0
    time_s = np.arange(1600) / rate_hz
    waveforms = (1000 + rng.normal(0, 1, (3, 1600))).astype(np.float32)
    on = (time_s >= 4) & (time_s < 9)
    waveforms[:, on] += 20 * np.sin(2 * np.pi * 10 * time_s[on])
    waveforms[2, 500] -= 300
    peak, duration_s = peak_and_duration(waveforms, 0, rate_hz, (0.0, 2.0))
    assert peak == pytest.approx(300, abs=25) and duration_s == pytest.approx(5.25, abs=0.51)
    quiet = peak_and_duration(waveforms[:, 900:], 0, rate_hz, (0.0, 2.0))
    assert quiet[1] == 0 and quiet[0] < 6


def test_the_zero_line_is_the_noises_mean():
    waveforms = np.full((1, 1600), 50.0, np.float32)
    waveforms[:, 800:] = 90
    assert peak_and_duration(waveforms, 0, 100.0, (0.0, 2.0))[0] == 40


@pytest.mark.parametrize("seed", range(8))
def test_the_duration_is_of_frames_that_overlap_by_half(seed):
    rng, rate_hz, frame = np.random.default_rng(seed), 100.0, 50
    waveform = rng.normal(0, 1, 1600)
    first = rng.integers(400, 700)
    waveform[first : first + rng.integers(60, 600)] *= 12
    centred = waveform - waveform[:200].mean()
    rms = {k: np.sqrt((centred[k : k + frame] ** 2).mean()) for k in range(0, 1551, frame // 2)}
    noise = np.median([rms[k] for k in rms if k + frame <= 200])
    loud = [k for k in rms if k + frame > 200 and rms[k] >= USABLE_RATIO * noise]
    _, duration_s = peak_and_duration(waveform[None], 0, rate_hz, (0.0, 2.0))
    assert duration_s == pytest.approx((loud[-1] + frame - loud[0]) / rate_hz)


def reasons(levels=KNOWN, noise=5.0, signal=100.0, seconds=16.0, own_rate_hz=100.0) -> list[str]:
    model = SimpleNamespace(
        levels=levels,
        n_samples=1600,
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
