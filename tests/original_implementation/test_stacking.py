import numpy as np
import torch

from original_implementation.stacked_trace_classifier import StackedTraceClassifier
from original_implementation.stacking import stack_channels
from tests.modules import CLASSIFIER


def test_stack_is_the_noise_weighted_sum():
    x = np.random.default_rng(0).normal(size=(2, 5, 400)) * np.array([1, 2, 5, 10, 50])[:, None] + 3
    weights = 1 / x.std(-1)
    weights /= weights.sum(-1, keepdims=True)
    expected = (weights[..., None] * x).sum(-2)
    np.testing.assert_allclose(
        stack_channels(torch.tensor(x, dtype=torch.float32)).numpy(), expected, atol=1e-4
    )


def test_constant_channels_have_no_weight():
    x = torch.randn(4, 300)
    with_dead = torch.cat([x, torch.zeros(1, 300), torch.full((1, 300), 1000.3)])
    torch.testing.assert_close(stack_channels(with_dead), stack_channels(x))
    assert torch.equal(stack_channels(torch.ones(3, 10)), torch.zeros(10))


def test_the_classifier_sees_the_stack_of_live_channels():
    model = StackedTraceClassifier(["a", "b"], "ResNet18", **CLASSIFIER).eval()
    waveforms = torch.randn(3, 4, 1000) * 20
    with torch.no_grad():
        image = model.spectrogram(stack_channels(waveforms)).unsqueeze(1)
        expected = model.encoder(image).softmax(-1)
    torch.testing.assert_close(model.predict_waveforms(waveforms), expected)
    padded = torch.cat([waveforms, torch.zeros(3, 2, 1000)], dim=1)
    torch.testing.assert_close(model.predict_waveforms(padded), expected)
