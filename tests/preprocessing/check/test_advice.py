import pytest

from preprocessing.check.advice import advise, one_typo_apart
from preprocessing.check.measure import measure_files
from preprocessing.recording_folder import RecordingFolder
from utils.config import load_config
from utils.schema import FinetuneConfig


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Rockfall", "Rockfal"),
        ("earthquake", "Earthquake"),
        ("Slope_Tremor", "slope tremor"),
        ("explosion", "explosions"),
        ("Regional", "Regoinal"),
        ("Icequake", "Icequaqe"),
    ],
)
def test_typing_errors_are_found(a, b):
    assert one_typo_apart(a, b) and one_typo_apart(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Slope_HF", "Slope_LF"),
        ("earthquake", "explosion"),
        ("Station1", "Station2"),
        ("Slope_Multi", "Slope_Tremor"),
        ("Rockfall", "Rockslide"),
    ],
)
def test_different_words_are_no_typing_errors(a, b):
    assert not one_typo_apart(a, b)


def test_the_advice_is_a_valid_configuration(separable, tmp_path):
    events = list(measure_files(RecordingFolder(separable).list_events()))
    advice = advise(events, is_archive=False)
    values = {key: value for key, (value, _) in advice.items()}
    assert values["sampling_freq"] == 100 and values["duration_s"] == 12
    # 40 % of the square root of the samples, as the published 80 of 16 000
    assert values["nperseg"] == 22
    assert values["split"] == "by_day"
    overrides = [f"dataset.{key}={value}" for key, value in values.items()]
    config = load_config(
        "configs/finetune.yaml",
        FinetuneConfig,
        ["dataset.source=folder", "dataset.root=x", *overrides],
    )
    assert config.dataset.nperseg == 22
