"""The published method of the benchmarks gives the same results as the repository."""

import os

import numpy as np
import pytest
import torch
from torch import nn

import models.vnibcreg
from benchmarks import network_rows, published, timing
from benchmarks.seg2 import FILE_LIKE_AKNES, seg2_bytes
from benchmarks.work import SMALL
from models.losses import covariance_loss
from preprocessing.recordings import read_recording
from preprocessing.spectrogram import LogSpectrogram
from tests.modules import small_classifier


@pytest.fixture
def recording(tmp_path):
    waveforms = np.random.default_rng(0).normal(0, 50, (3, 16000)).astype(np.float32)
    path = tmp_path / "event.dat"
    path.write_bytes(seg2_bytes(waveforms, file_strings=FILE_LIKE_AKNES))
    return path, waveforms


def test_seg2_files_are_read_back(recording):
    path, waveforms = recording
    found = read_recording(path)
    np.testing.assert_array_equal(found.waveforms, waveforms)
    assert found.sampling_rate_hz == 1000 and found.start_time.startswith(
        "2007-02-03T06:22:32"
    )  # DELAY


@pytest.mark.parametrize("rows", [128, None])
def test_images_are_ours(recording, rows):
    waveforms = recording[1]
    ours = LogSpectrogram(resize_size=rows)(torch.from_numpy(waveforms))
    for samples, image in zip(waveforms, ours):
        torch.testing.assert_close(published.image(samples, rows), image, atol=1e-4, rtol=0)


def test_crops_have_the_published_size_and_distance(recording):
    rng = np.random.default_rng(1)
    assert published.ssl_item(recording[0], rng).shape == (3, 128, 70)
    assert published.supervised_item(recording[0], rng).shape == (128, 711)


def test_ensemble_is_ours(recording):
    path, waveforms = recording
    model = small_classifier(spectrogram={}).eval()
    one_by_one = published.ensemble_probabilities(
        path, nn.Sequential(model.encoder, model.classifier)
    )
    torch.testing.assert_close(
        one_by_one, model.predict_waveforms(torch.from_numpy(waveforms)[None])[0], atol=1e-4, rtol=0
    )


def test_covariance_by_its_matrices_is_ours():
    z_a, z_b = torch.randn(2, 16, 64)
    torch.testing.assert_close(published.covariance_loss(z_a, z_b), covariance_loss(z_a, z_b))


def test_ratio_is_of_rounds_that_belong_together():
    assert timing.ratio([10, 20, 90], [1, 2, 3]) == 10
    calls = []
    seconds = timing.alternate(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, n_rounds=2
    )
    assert calls == ["a", "b"] * 3 and len(seconds["a"]) == 2


@pytest.mark.parametrize(("rounds_s", "n_rounds"), [(5, 1), (15.9, 1), (16, 2), (float("inf"), 3)])
def test_rounds_end_when_another_would_take_too_long(monkeypatch, rounds_s, n_rounds):
    monkeypatch.setattr(timing, "seconds_of", lambda way: 4.0)
    seconds = timing.take_turns({"a": None, "b": None}, n_rounds=3, rounds_s=rounds_s)
    assert seconds == {"a": [4.0] * n_rounds, "b": [4.0] * n_rounds}


def test_operations_of_a_large_convolution_are_counted_right():
    work, flops = timing.large_convolution(torch.device("cpu"), torch.float32, n_images=2)
    assert timing.count_flops(work) == flops


def _answer_from_process(answer: int):
    return lambda: (answer, os.getpid())


@pytest.mark.slow
def test_own_process_runs_the_function_in_a_separate_process():
    with timing.own_process(_answer_from_process, 42) as ask:
        (answer, process), again = ask(), ask()
    assert answer == 42 and process != os.getpid() and again == (42, process)


def test_the_published_pretraining_step_forms_the_whole_matrix_of_correlations(monkeypatch):
    monkeypatch.setattr(models.vnibcreg, "covariance_loss", covariance_loss)  # put back afterwards
    calls = []
    whole = published.covariance_loss
    monkeypatch.setattr(
        published, "covariance_loss", lambda z, z_l: calls.append(z.shape) or whole(z, z_l)
    )
    loss = network_rows.published_ssl_step(SMALL)()
    assert calls == [(SMALL.ssl_batch, SMALL.projector)] and np.isfinite(loss)
